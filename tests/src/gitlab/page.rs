//! Pages: by number, and by key where GitLab has that.

use serde_json::Value;

use super::answer::{Answer, Reply};
use super::call::Call;
use super::text::{decoded_form, encoded};

const DEFAULT_ROWS: u64 = 20;
const MOST_ROWS: u64 = 100;

/// Above this many rows GitLab does not count them.
const COUNTED: usize = 10_000;

/// A page by its number, with `Link` and the headers of totals.
pub(super) fn offset(call: &Call<'_>, rows: Vec<Value>) -> Reply {
    let (page, size) = asked(call)?;
    let total = rows.len();
    let last = total.div_ceil(size).max(1);
    let start = size.saturating_mul(page - 1);
    let rows: Vec<Value> = rows.into_iter().skip(start).take(size).collect();
    let next = (page < last).then_some(page + 1);
    let previous = (page > 1).then(|| page - 1);
    let mut links = Vec::new();
    let ends = [("first", Some(1)), ("last", (total <= COUNTED).then_some(last))];
    for (rel, number) in [("prev", previous), ("next", next)].into_iter().chain(ends) {
        if let Some(number) = number {
            let url = link(call, &[("page", number.to_string()), ("per_page", size.to_string())]);
            links.push(format!("<{url}>; rel=\"{rel}\""));
        }
    }
    let number = |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
    let mut answer = Answer::json(200, &Value::Array(rows))
        .header("Link", &links.join(", "))
        .header("X-Next-Page", &number(next))
        .header("X-Page", &page.to_string())
        .header("X-Per-Page", &size.to_string())
        .header("X-Prev-Page", &number(previous));
    if total <= COUNTED {
        answer = answer.header("X-Total", &total.to_string()).header("X-Total-Pages", &last.to_string());
    }
    Ok(answer)
}

/// A page by key where that is asked for, else by number. Rows are in the order of `id` and have one.
pub(super) fn keyset_or_offset(call: &Call<'_>, mut rows: Vec<Value>) -> Reply {
    if call.params.text("pagination").as_deref() != Some("keyset") {
        return offset(call, rows);
    }
    let (_, size) = asked(call)?;
    if let Some(cursor) = call.params.present("cursor") {
        let cursor = cursor.parse::<u64>().ok();
        let known = rows.iter().position(|row| row["id"].as_u64() == cursor);
        rows.drain(..known.map_or(rows.len(), |at| at + 1));
    }
    let more = rows.len() > size;
    rows.truncate(size);
    let last = rows.last().map(|row| row["id"].to_string()).unwrap_or_default();
    let answer = Answer::json(200, &Value::Array(rows));
    if !more {
        return Ok(answer);
    }
    let url = link(call, &[("cursor", last), ("per_page", size.to_string())]);
    Ok(answer.header("Link", &format!("<{url}>; rel=\"next\"")))
}

fn asked(call: &Call<'_>) -> Result<(usize, usize), Answer> {
    let mut check = call.params.check();
    let page = check.integer("page").unwrap_or(1);
    let size = check.integer("per_page").unwrap_or(DEFAULT_ROWS);
    for (name, number) in [("page", page), ("per_page", size)] {
        if number == 0 {
            check.invalid_value(name);
        }
    }
    check.finish()?;
    let number = |number: u64| usize::try_from(number).expect("numbers of this machine");
    Ok((number(page.max(1)), number(size.clamp(1, MOST_ROWS))))
}

/// The address of another page: the same query but for these, and without any token.
fn link(call: &Call<'_>, changed: &[(&str, String)]) -> String {
    let kept = call.query.split('&').filter(|pair| !pair.is_empty()).filter(|pair| {
        let name = decoded_form(pair.split('=').next().unwrap_or_default());
        !changed.iter().any(|(changed, _)| *changed == name)
            && !matches!(name.as_str(), "private_token" | "access_token")
    });
    let changed = changed.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    let query: Vec<String> = kept.map(String::from).chain(changed).collect();
    format!("{}{}?{}", call.instance, call.path, query.join("&"))
}
