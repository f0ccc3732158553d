//! What the surroundings tell `dvxir`: environment variables, each named once, and the home directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use dvx_proto::{BrokerAddress, InvalidAddress};

/// Where the broker is.
pub(crate) const BROKER_URL: &str = "DVX_BROKER_URL";

/// Where the agent's token is.
pub(crate) const TOKEN_FILE: &str = "DVX_TOKEN_FILE";

/// Who may serve the Unix socket besides root and the caller.
pub(crate) const BROKER_USER: &str = "DVX_BROKER_USER";

/// The user that the broker's package makes.
const DEFAULT_BROKER_USER: &str = "dvx";

/// The surroundings of a run.
pub(crate) struct Environment {
    variable: fn(&str) -> Option<OsString>,
}

/// Where the agent's token is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenFile {
    /// `DVX_TOKEN_FILE` names it, so it is used on every transport.
    Named(PathBuf),
    /// The usual place, used only where a token is needed: a stale file there stops nothing that works
    /// without it.
    Usual(PathBuf),
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        Self { variable: |name| std::env::var_os(name) }
    }

    /// The value of a variable; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// Where the broker is.
    pub(crate) fn broker(&self) -> Result<BrokerAddress, InvalidAddress> {
        match self.get(BROKER_URL) {
            Some(url) => match url.to_str() {
                Some(url) => url.parse(),
                None => Err(InvalidAddress::Form(url.to_string_lossy().into_owned())),
            },
            None => Ok(BrokerAddress::default()),
        }
    }

    /// The file with the agent's token; `None` without a home directory.
    pub(crate) fn token_file(&self) -> Option<TokenFile> {
        match self.get(TOKEN_FILE) {
            Some(path) => Some(TokenFile::Named(path.into())),
            None => self.home().map(|home| TokenFile::Usual(home.join(".dvx/token"))),
        }
    }

    /// The user who may serve the socket besides root and the caller.
    pub(crate) fn broker_user(&self) -> OsString {
        self.get(BROKER_USER).unwrap_or_else(|| OsStr::from_bytes(DEFAULT_BROKER_USER.as_bytes()).into())
    }

    /// The caller's home directory: `$HOME`, else what the user database says.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from).or_else(std::env::home_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        let environment = Environment { variable: |_| Some(OsString::new()) };
        assert_eq!(environment.broker().unwrap(), BrokerAddress::default());
        assert_eq!(environment.broker_user(), "dvx");
        assert!(matches!(environment.token_file(), None | Some(TokenFile::Usual(_))));
    }

    #[test]
    fn a_named_token_file_is_told_from_the_usual_one() {
        let environment = Environment { variable: |name| (name == "DVX_TOKEN_FILE").then(|| "/t".into()) };
        assert_eq!(environment.token_file(), Some(TokenFile::Named("/t".into())));
        let environment = Environment { variable: |name| (name == "HOME").then(|| "/home/a".into()) };
        assert_eq!(environment.token_file(), Some(TokenFile::Usual("/home/a/.dvx/token".into())));
    }
}
