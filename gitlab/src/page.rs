//! Where the next page of a list is.

use hyper::header::{self, HeaderMap};

/// The most pages of a list that are read, at a hundred elements each.
pub(crate) const MAX_PAGES: u32 = 1000;

/// The query of a list's first page: as many elements as GitLab gives.
pub(crate) const FIRST: &str = "per_page=100";

/// The longest query that is followed. Keyset cursors have some hundred bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// The query of the page behind the one that was answered with `headers`, if there is one.
///
/// The `Link` header says it for every way of paging. Only its query is used: its host is the one that the
/// instance believes to have, and a credential goes nowhere but to the host that the operator named. Where there
/// is no such header (proxies drop it when it gets long) `X-Next-Page` does.
pub(crate) fn next(headers: &HeaderMap, current: &str) -> Option<String> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    if let Some(query) = links.filter_map(next_link).find_map(|target| query_of(&target)) {
        return Some(query);
    }
    let page: u32 = headers.get("x-next-page")?.to_str().ok()?.trim().parse().ok()?;
    let others = current.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("page="));
    Some(others.chain([format!("page={page}").as_str()]).collect::<Vec<_>>().join("&"))
}

/// The target of the link with the relation `next` (RFC 8288).
fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let (parameters, after) = split_link(after);
        if parameters.iter().any(|parameter| is_next(parameter)) {
            return Some(target.to_owned());
        }
        rest = after;
    }
}

/// The parameters behind a target and what follows the comma that ends them. Quoted text may contain both
/// semicolons and commas.
fn split_link(text: &str) -> (Vec<&str>, &str) {
    let mut parameters = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' | b',' if !quoted => {
                parameters.extend(text.get(start..at));
                start = at + 1;
                if byte == b',' {
                    return (parameters, text.get(start..).unwrap_or(""));
                }
            }
            _ => {}
        }
    }
    parameters.extend(text.get(start..));
    (parameters, "")
}

/// Whether a parameter is `rel` with `next` among its relations.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("rel")
        && value.trim().trim_matches('"').split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
}

/// The query of a link's target, if it can stand in a request's target as it is.
fn query_of(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let plain =
        query.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\'));
    (plain && !query.is_empty() && query.len() <= MAX_QUERY_BYTES).then(|| query.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_next_page_is_where_the_link_says_it_is() {
        let first =
            "<https://other.example/api/v4/groups/1/service_accounts?page=1&per_page=100>; rel=\"first\"";
        for (link, expected) in [
            (
                format!("<https://h/x?page=2&per_page=100>; rel=\"next\", {first}"),
                Some("page=2&per_page=100"),
            ),
            (format!("{first}, <https://h/x?cursor=a%3D%3D>; rel=\"next\""), Some("cursor=a%3D%3D")),
            ("<https://h/x?page=3>;rel=next".to_owned(), Some("page=3")),
            ("</x?page=3#f>; title=\"a, <b>; rel=prev\"; REL=\"last Next\"".to_owned(), Some("page=3")),
            (first.to_owned(), None),
            ("<https://h/x>; rel=\"next\"".to_owned(), None),
            ("<https://h/x?page=2>; rel=\"nextish\"".to_owned(), None),
            ("https://h/x?page=2; rel=next".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(next(&headers(&[("link", &link)]), FIRST).as_deref(), expected, "{link}");
        }
    }

    #[test]
    fn without_a_link_the_number_of_the_next_page_is_used() {
        let current = "per_page=100&page=1&state=active";
        let next = |value| next(&headers(&[("x-next-page", value)]), current);
        assert_eq!(next("2").as_deref(), Some("per_page=100&state=active&page=2"));
        for end in ["", " ", "x", "-1"] {
            assert_eq!(next(end), None, "{end:?}");
        }
    }

    #[test]
    fn no_headers_are_the_end() {
        assert_eq!(next(&HeaderMap::new(), FIRST), None);
    }

    proptest! {
        /// What comes of a header can always stand in a request.
        #[test]
        fn no_link_header_breaks_out_of_a_query(link in "[ -~]{0,200}") {
            if let Some(query) = next(&headers(&[("link", &link)]), FIRST) {
                let uri = format!("/api/v4/x?{query}").parse::<hyper::Uri>();
                prop_assert!(uri.is_ok_and(|uri| uri.query() == Some(query.as_str())));
            }
        }

        /// A link is found among others, wherever it stands and whatever their titles are.
        #[test]
        fn the_next_link_is_found_among_others(
            before in proptest::collection::vec(("[a-z]{1,8}", "[ -!#-\\[\\]-~]{0,20}"), 0..4),
            page in 1u32..100_000,
        ) {
            let mut links: Vec<String> = before.iter()
                .map(|(rel, title)| format!("<https://h/x?page=1>; title=\"{title}\"; rel=\"{rel}x\""))
                .collect();
            links.push(format!("<https://h/x?page={page}>; rel=\"next\""));
            let found = next(&headers(&[("link", &links.join(", "))]), FIRST);
            prop_assert_eq!(found, Some(format!("page={page}")));
        }
    }
}
