//! GitLab's refusals, by cause.

use dvx_proto::Token;
use jiff::civil::Date;

use crate::answer::{Said, retry_after};
use crate::error::{Error, Missing};
use crate::text::ServerText;
use crate::transport::Answer;

/// Passes what succeeded and tells why the rest did not. `token` is the one that was presented.
pub(crate) fn check(answer: Answer, token: Option<&Token>) -> Result<Answer, Error> {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return Ok(answer);
    }
    let said = Said::by(&answer, token);
    Err(match status {
        401 => unauthorized(said),
        403 => forbidden(said),
        404 => missing(said),
        409 => Error::Conflict { message: message(said) },
        429 => Error::RateLimited { retry_after: retry_after(&answer.headers, "ratelimit-reset") },
        400 | 422 => rejected(status, said),
        500..=599 => Error::Server { status },
        _ => match said {
            Said::Message(message) | Said::Error(message) => Error::Rejected { status, message },
            _ => Error::NotGitLab { found: "a status that GitLab does not answer with" },
        },
    })
}

/// What a call that succeeded brought, but not in GitLab's words.
pub(crate) fn not_gitlab(found: &'static str) -> Error {
    Error::NotGitLab { found }
}

/// Unknown tokens are refused in other words than known ones in a bad state.
fn unauthorized(said: Said) -> Error {
    match said {
        Said::Message(text) if is_helper_text(&text, "401") => Error::InvalidToken,
        Said::OAuth { description, .. } if description.says("expired") => Error::Expired,
        Said::OAuth { description, .. } if description.says("revoked") => Error::Revoked,
        Said::OAuth { description, .. } => Error::Unusable { message: description },
        _ => not_gitlab("a refusal in other words than GitLab's"),
    }
}

fn forbidden(said: Said) -> Error {
    match said {
        Said::OAuth { error, description, scope } if error == "insufficient_scope" => {
            let needed = scope.map(|scope| words(&scope)).unwrap_or_default();
            if needed.is_empty() {
                Error::NotPermitted { message: description }
            } else {
                Error::InsufficientScope { needed }
            }
        }
        Said::OAuth { description, .. } => Error::NotPermitted { message: description },
        // What GitLab says to users who may not use the API is about their account, their address, or the terms
        // that they have to accept.
        Said::Message(message)
            if ["your account", "your primary email", "Terms of Service"]
                .iter()
                .any(|phrase| message.says(phrase)) =>
        {
            Error::Blocked { message }
        }
        Said::Message(message) if is_helper_text(&message, "403") => Error::NotPermitted { message },
        Said::Message(_) | Said::Error(_) | Said::Text(_) | Said::OtherJson | Said::Nothing => {
            Error::Forbidden
        }
    }
}

fn missing(said: Said) -> Error {
    let (Said::Message(text) | Said::Error(text)) = said else {
        return not_gitlab("no such page, in other words than GitLab's");
    };
    if !is_helper_text(&text, "404") {
        return not_gitlab("no such page, in other words than GitLab's");
    }
    let what = if text.says("Token Not Found") {
        Missing::Token
    } else if text.says("Group Not Found") {
        Missing::Group
    } else if text.says("Project Not Found") {
        Missing::Project
    } else if text.says("User Not Found") {
        Missing::User
    } else {
        Missing::Other
    };
    Error::NotFound { what }
}

/// 400 has many causes, which only their texts tell apart; minting for a service account answers 422 for some of
/// them.
fn rejected(status: u16, said: Said) -> Error {
    let is_gitlab = matches!(said, Said::Message(_) | Said::Error(_));
    let message = message(said);
    let says = |phrase| message.says(phrase);
    if !is_gitlab {
        return not_gitlab("a refusal in other words than GitLab's");
    }
    if says("has already been taken") || says("already exists") {
        return Error::Conflict { message };
    }
    if says("service account creation limit") || says("token limit reached") {
        return Error::CapReached { message };
    }
    if says("must be before") {
        return Error::ExpiryTooFar { latest: date_after(message.as_str(), "must be before ") };
    }
    if says("Token already revoked") {
        return Error::Revoked;
    }
    let denials = [
        "does not have permission",
        "not permitted",
        "not held by",
        "cannot delete",
        "Rotation of legacy personal access tokens is disabled",
    ];
    if denials.into_iter().any(says) {
        return Error::NotPermitted { message };
    }
    Error::Rejected { status, message }
}

fn message(said: Said) -> ServerText {
    said.text().cloned().unwrap_or_else(|| ServerText::new("no reason given", None))
}

/// Whether a text is of the form that GitLab's helpers give it: the status, and then its words.
fn is_helper_text(text: &ServerText, status: &str) -> bool {
    text.as_str().strip_prefix(status).is_some_and(|rest| rest.starts_with(' '))
}

/// The scopes in a text; they are made of small letters, digits and underscores.
fn words(text: &ServerText) -> Vec<String> {
    let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    text.as_str().split_ascii_whitespace().filter(plain).map(str::to_owned).collect()
}

/// The date behind a phrase.
fn date_after(text: &str, phrase: &str) -> Option<Date> {
    let (_, rest) = text.split_once(phrase)?;
    rest.get(..10)?.parse().ok()
}

#[cfg(test)]
mod tests;
