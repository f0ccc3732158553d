//! Lists come in pages.

use dvx_proto::operator::{DEFAULT_PAGE, MAX_PAGE};

use crate::domain::PageRequest;
use crate::http::error::Refusal;

/// Which page is wanted.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many elements at the most.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
    /// Only elements behind this one: the `next` of the page before.
    #[param(pattern = "^[!-~]{0,256}$")]
    pub(crate) after: Option<String>,
}

impl PageQuery {
    pub(crate) fn page(self) -> Result<PageRequest, Refusal> {
        page(self.limit, self.after)
    }
}

/// Names are short; what is longer is behind none of them.
const MAX_AFTER_BYTES: usize = 256;

pub(crate) fn page(limit: Option<u32>, after: Option<String>) -> Result<PageRequest, Refusal> {
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::bad_request(format!("limit is {limit}; expected 1 to {MAX_PAGE}")));
    }
    if after.as_ref().is_some_and(|after| {
        after.len() > MAX_AFTER_BYTES || !after.bytes().all(|byte| byte.is_ascii_graphic())
    }) {
        return Err(Refusal::bad_request("after is not the end of a page"));
    }
    Ok(PageRequest { after, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_to_a_thousand_elements() {
        assert_eq!(page(None, None).unwrap().limit, DEFAULT_PAGE);
        for (limit, fine) in [(0, false), (1, true), (1000, true), (1001, false)] {
            assert_eq!(page(Some(limit), None).is_ok(), fine, "{limit}");
        }
        assert!(page(None, Some("a\0b".to_owned())).is_err());
    }
}
