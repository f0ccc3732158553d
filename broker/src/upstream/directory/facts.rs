//! What a credential's JSON file says about it.

use dvx_proto::agent::AuthType;
use dvx_proto::{ProviderName, RemoteUrl};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::keyring::CredentialFacts;

/// The file as it is written. It is configuration, so a member that is not known is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    display_name: Option<String>,
    auth_type: Option<String>,
    instance_url: Option<String>,
    expires_at: Option<String>,
}

/// A display name is shown in a column of a terminal.
const MAX_DISPLAY_NAME_BYTES: usize = 256;

/// Reads the file's text. Errors never repeat it: somebody may have put the token there.
pub(super) fn parse(provider: ProviderName, text: &[u8]) -> Result<CredentialFacts, String> {
    let raw = raw(text)?;
    let defaults = CredentialFacts::defaults(provider);
    Ok(CredentialFacts {
        id: None,
        display_name: raw.display_name.map(display_name).transpose()?.unwrap_or(defaults.display_name),
        auth_type: raw.auth_type.map(|name| auth_type(&name)).transpose()?.unwrap_or(defaults.auth_type),
        expires_at: raw.expires_at.map(|time| expiry(&time)).transpose()?,
        instance: raw.instance_url.map(|url| instance(&url)).transpose()?.or(defaults.instance),
        provider: defaults.provider,
    })
}

fn raw(text: &[u8]) -> Result<Raw, String> {
    // serde would also take an array of the members' values.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("not a JSON object".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| {
        format!(
            "line {}, column {}: not a JSON object whose members are display_name, auth_type, instance_url and \
             expires_at, each of them a string",
            error.line(),
            error.column()
        )
    })
}

fn display_name(name: String) -> Result<String, String> {
    let shown = !name.is_empty() && name.len() <= MAX_DISPLAY_NAME_BYTES && !name.contains(char::is_control);
    shown.then_some(name).ok_or_else(|| {
        format!("display_name: expected 1 to {MAX_DISPLAY_NAME_BYTES} bytes without control characters")
    })
}

fn auth_type(name: &str) -> Result<AuthType, String> {
    [AuthType::Pat, AuthType::ServiceAccount, AuthType::ProjectAccessToken]
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .ok_or_else(|| "auth_type: expected pat, service_account or project_access_token".to_owned())
}

fn instance(url: &str) -> Result<RemoteUrl, String> {
    url.parse().map_err(|why| format!("instance_url: {why}"))
}

/// A time, or a day, which ends a token as it begins: so GitLab counts.
fn expiry(text: &str) -> Result<Timestamp, String> {
    let day = || (text.len() == "YYYY-MM-DD".len()).then(|| text.parse::<Date>().ok()).flatten();
    let time = match day() {
        Some(day) => TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok(),
        None => text.parse().ok(),
    };
    time.ok_or_else(|| "expires_at: expected a time such as 2027-01-01T00:00:00Z, or a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gitlab(text: &str) -> Result<CredentialFacts, String> {
        parse("gitlab".parse().unwrap(), text.as_bytes())
    }

    #[test]
    fn every_member_is_optional() {
        let defaults = CredentialFacts::defaults("gitlab".parse().unwrap());
        let nulls = r#"{"display_name":null,"auth_type":null,"instance_url":null,"expires_at":null}"#;
        for text in ["{}", " \n{ }\n", nulls] {
            assert_eq!(gitlab(text).unwrap(), defaults, "{text}");
        }
        let full = gitlab(
            r#"{"display_name":"My Bot","auth_type":"service_account","instance_url":"https://git.example:8443/x/",
                "expires_at":"2027-01-01T02:00:00+02:00"}"#,
        )
        .unwrap();
        assert_eq!(full.display_name, "My Bot");
        assert_eq!(full.auth_type, AuthType::ServiceAccount);
        assert_eq!(full.instance.unwrap().to_string(), "https://git.example:8443/x");
        assert_eq!(full.expires_at.unwrap().to_string(), "2027-01-01T00:00:00Z");
    }

    #[test]
    fn a_day_is_its_beginning_in_utc() {
        let facts = gitlab(r#"{"expires_at":"2027-03-05"}"#).unwrap();
        assert_eq!(facts.expires_at.unwrap().to_string(), "2027-03-05T00:00:00Z");
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_it() {
        for (text, start) in [
            ("", "not a JSON object"),
            ("glpat-visible", "not a JSON object"),
            (r#"["glpat-visible","pat",null,null]"#, "not a JSON object"),
            (r#"{"glpat-visible":1}"#, "line 1, column "),
            (r#"{"display_name":17}"#, "line 1, column "),
            (r#"{"auth_type":"pat"}{"#, "line 1, column "),
            (r#"{"auth_type":"pat","auth_type":"pat"}"#, "line 1, column "),
            (r#"{"display_name":""}"#, "display_name: "),
            (r#"{"display_name":"glpat-visible\u001b[2J"}"#, "display_name: "),
            (r#"{"auth_type":"glpat-visible"}"#, "auth_type: "),
            (r#"{"instance_url":"http://glpat-visible.example"}"#, "instance_url: only https"),
            (r#"{"expires_at":"glpat-visible"}"#, "expires_at: "),
            (r#"{"expires_at":"2027-02-30"}"#, "expires_at: "),
            (r#"{"expires_at":"2027-01-01T00:00:00"}"#, "expires_at: "),
        ] {
            let why = gitlab(text).unwrap_err();
            assert!(why.starts_with(start), "{text}: {why}");
            assert!(!why.contains("visible"), "{text}: {why}");
        }
    }
}
