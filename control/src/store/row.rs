//! Reading rows.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Result, StoreError};
use crate::domain::Revision;

/// Columns as what they mean.
pub(super) trait Columns {
    fn text(&self, column: &str) -> Result<String>;
    fn optional_text(&self, column: &str) -> Result<Option<String>>;
    fn number(&self, column: &str) -> Result<i64>;
    fn optional_number(&self, column: &str) -> Result<Option<i64>>;
    fn blob(&self, column: &str) -> Result<Vec<u8>>;
    fn optional_blob(&self, column: &str) -> Result<Option<Vec<u8>>>;

    /// A count, or anything else that is never negative.
    fn count(&self, column: &str) -> Result<u64> {
        u64::try_from(self.number(column)?).map_err(|_| StoreError::Corrupt("a negative number"))
    }

    fn revision(&self, column: &str) -> Result<Revision> {
        Ok(Revision(self.count(column)?))
    }

    fn flag(&self, column: &str) -> Result<bool> {
        Ok(self.number(column)? != 0)
    }

    fn time(&self, column: &str) -> Result<Timestamp> {
        time(self.number(column)?)
    }

    fn optional_time(&self, column: &str) -> Result<Option<Timestamp>> {
        self.optional_number(column)?.map(time).transpose()
    }

    /// A text that was checked when it came in.
    fn parsed<T: FromStr>(&self, column: &str) -> Result<T> {
        self.text(column)?
            .parse()
            .map_err(|_| StoreError::Corrupt("a text of another form than it was stored in"))
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String> {
        Ok(self.try_get(column)?)
    }

    fn optional_text(&self, column: &str) -> Result<Option<String>> {
        Ok(self.try_get(column)?)
    }

    fn number(&self, column: &str) -> Result<i64> {
        Ok(self.try_get(column)?)
    }

    fn optional_number(&self, column: &str) -> Result<Option<i64>> {
        Ok(self.try_get(column)?)
    }

    fn blob(&self, column: &str) -> Result<Vec<u8>> {
        Ok(self.try_get(column)?)
    }

    fn optional_blob(&self, column: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.try_get(column)?)
    }
}

fn time(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds).map_err(|_| StoreError::Corrupt("a time that no calendar has"))
}

/// A time as it is stored.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A time in the past, as it is stored.
pub(super) fn ago(now: Timestamp, age: Duration) -> i64 {
    micros(now).saturating_sub(span(age))
}

/// A span of time, as it is stored.
pub(super) fn span(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A number as it is stored. Those of ours stay below 2^63.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Text that came from elsewhere, as both engines store it: PostgreSQL takes no NUL.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Parameters of one statement, about. SQLite looks through the names of all of them for each, so what a statement
/// takes grows with the square of their number, and everybody else who writes waits for it.
pub(super) const PARAMETERS: usize = 512;

/// Placeholders for so many rows of so many columns: `($1, $2), ($3, $4)`.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            if column > 1 {
                text.push_str(", ");
            }
            text.push_str(&format!("${}", row * columns + column));
        }
        text.push(')');
    }
    text
}

/// SQL that was put together from constant parts and [`placeholders`].
pub(super) fn assembled(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}
