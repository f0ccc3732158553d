//! `Link` fields (RFC 8288), as far as the broker uses them: which instances the agent's credentials are for.

use dvx_proto::agent::INSTANCE_RELATION;
use dvx_proto::{ProviderName, RemoteUrl};

/// An instance that the agent has a credential for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) url: RemoteUrl,
    pub(crate) provider: Option<ProviderName>,
}

/// The instances that these fields name, each once. What is not understood is left out.
pub(crate) fn instances(fields: &[String]) -> Vec<Instance> {
    let mut found = Vec::new();
    for instance in fields.iter().flat_map(|field| split(field, ',')).filter_map(instance) {
        if !found.contains(&instance) {
            found.push(instance);
        }
    }
    found
}

/// One link: `<url>; rel="…"; title="…"`.
fn instance(link: &str) -> Option<Instance> {
    let mut parts = split(link, ';').into_iter().map(str::trim);
    let url = parts.next()?.strip_prefix('<')?.strip_suffix('>')?.parse().ok()?;
    let mut is_instance = false;
    let mut provider = None;
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        match name.trim() {
            "rel" => is_instance = value.split(' ').any(|relation| relation == INSTANCE_RELATION),
            "title" => provider = value.parse().ok(),
            _ => {}
        }
    }
    is_instance.then_some(Instance { url, provider })
}

/// Splits where the separator stands outside of angle brackets and quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let (mut in_quotes, mut in_brackets) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' if !in_brackets => in_quotes = !in_quotes,
            '<' if !in_quotes => in_brackets = true,
            '>' if !in_quotes => in_brackets = false,
            _ if character == separator && !in_quotes && !in_brackets => {
                parts.extend(text.get(start..at));
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&str]) -> Vec<String> {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let show = |instance: Instance| {
            format!("{} {}", instance.url, instance.provider.map(String::from).unwrap_or_default())
        };
        instances(&fields).into_iter().map(show).collect()
    }

    #[test]
    fn each_link_names_an_instance() {
        let one = r#"<https://gitlab.com>; rel="urn:dvx:rel:instance"; title="gitlab""#;
        assert_eq!(found(&[one]), ["https://gitlab.com gitlab"]);
        let two = r#"<https://a.example/x,y;z>; title="a"; rel="next urn:dvx:rel:instance", <http://[::1]:8/>;rel=urn:dvx:rel:instance"#;
        assert_eq!(
            found(&[two, one, one]),
            ["https://a.example/x,y;z a", "http://[::1]:8 ", "https://gitlab.com gitlab"]
        );
    }

    #[test]
    fn what_is_not_an_instance_is_left_out() {
        for field in [
            "",
            "<https://gitlab.com>",
            r#"<https://gitlab.com>; rel="next""#,
            r#"<http://gitlab.com>; rel="urn:dvx:rel:instance""#,
            r#"https://gitlab.com; rel="urn:dvx:rel:instance""#,
            r#"<https://u:p@gitlab.com>; rel="urn:dvx:rel:instance""#,
            "<https://gitlab.com]\ncredential.helper=evil>; rel=\"urn:dvx:rel:instance\"",
            r#"<"; rel="urn:dvx:rel:instance""#,
        ] {
            assert_eq!(found(&[field]), Vec::<String>::new(), "{field}");
        }
    }
}
