//! Times as people write and read them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::clock;

/// A time of the command line: RFC 3339, or a date, which means its beginning in UTC.
pub(crate) fn point_in_time(text: &str) -> Result<Timestamp, String> {
    let date = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
    // A date alone is told by its length: jiff's dates may carry a time, and would lose it.
    let found = if text.len() == "2026-01-31".len() { date() } else { text.parse().ok() };
    found.ok_or_else(|| {
        format!("{text:?} is not a time; expected one such as 2026-01-31T12:00:00Z or 2026-01-31")
    })
}

/// The same, or how long ago.
pub(crate) fn point_in_the_past(text: &str) -> Result<Timestamp, String> {
    ago(text).and_then(|span| clock::wall().checked_sub(span).ok()).map_or_else(
        || point_in_time(text).map_err(|why| format!("{why}, or how long ago, such as 90m, 2h or 7d")),
        Ok,
    )
}

fn ago(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
    Some(SignedDuration::from_secs(i64::from(number) * seconds))
}

/// For tables: whole seconds of UTC.
pub(crate) fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How far away something is, in the largest unit that makes sense of it: `12 s`, `5 min`, `3 h`, `9 d`.
pub(crate) fn distance(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_usually_written() {
        let day = point_in_time("2026-01-31").unwrap();
        assert_eq!(shown(day), "2026-01-31T00:00:00Z");
        assert_eq!(point_in_time("2026-01-31T01:00:00+01:00").unwrap(), day);
        for bad in ["", "tomorrow", "2026-02-30", "2026-01-31T12:00:00", "31.1.2026", "2026-13-01", "12"] {
            assert!(point_in_time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_in_the_past_may_be_spans() {
        assert_eq!(ago("90m"), Some(SignedDuration::from_mins(90)));
        assert_eq!(ago("7d"), Some(SignedDuration::from_hours(7 * 24)));
        for bad in ["", "h", "-1h", "1w", "1.5h", "1"] {
            assert_eq!(ago(bad), None, "{bad:?}");
        }
        assert!(point_in_the_past("2h").unwrap() < point_in_the_past("1h").unwrap());
    }

    #[test]
    fn distances_are_short() {
        let base = point_in_time("2026-01-31").unwrap();
        let after = |seconds| distance(base, base + SignedDuration::from_secs(seconds));
        assert_eq!(
            ["0 s", "119 s", "2 min", "2 h", "2 d"],
            [
                after(-5).as_str(),
                after(119).as_str(),
                after(120).as_str(),
                after(7200).as_str(),
                after(172_800).as_str()
            ]
        );
    }
}
