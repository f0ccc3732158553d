//! Which control plane, and who to be there: what the environment says, else what `dvx login` has stored.

mod stored;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use dvx_proto::{ControlAddress, Token};
use zeroize::Zeroizing;

use crate::failure::{Failure, exit};

pub(crate) use stored::{Login, Store};

/// Where the control plane is.
pub(crate) const CONTROL_URL: &str = "DVX_CONTROL_URL";
/// Certificates to trust besides the system's.
pub(crate) const CA_FILE: &str = "DVX_CA_FILE";
/// What to authenticate with.
pub(crate) const OPERATOR_TOKEN: &str = "DVX_OPERATOR_TOKEN";
/// Which user serves a control plane's Unix socket, besides root and ourselves.
pub(crate) const CONTROL_USER: &str = "DVX_CONTROL_USER";

/// Reads a variable of the environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// All that a client needs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) address: ControlAddress,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) token: Option<Token>,
    /// The user that is trusted to serve a Unix socket.
    pub(crate) control_user: OsString,
}

/// What the environment says. A variable that is empty is one that is not set.
#[derive(Debug)]
pub(crate) struct FromEnvironment {
    pub(crate) address: Option<ControlAddress>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) token: Option<Token>,
    pub(crate) control_user: OsString,
}

impl FromEnvironment {
    pub(crate) fn read(lookup: Lookup<'_>) -> Result<Self, Failure> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let usage = |what: &str, why: &dyn std::fmt::Display| Failure::new(what, why).with_exit(exit::USAGE);
        let address = match set(CONTROL_URL) {
            Some(text) => {
                let parsed = text.to_string_lossy().parse();
                Some(parsed.map_err(|error| usage(CONTROL_URL, &error))?)
            }
            None => None,
        };
        let token = match set(OPERATOR_TOKEN) {
            Some(text) => {
                let token = Token::try_from(Zeroizing::new(text.into_vec()));
                Some(token.map_err(|error| usage(OPERATOR_TOKEN, &error))?)
            }
            None => None,
        };
        let control_user = set(CONTROL_USER).unwrap_or_else(|| "dvx-control".into());
        Ok(Self { address, ca_file: set(CA_FILE).map(PathBuf::from), token, control_user })
    }
}

impl Settings {
    /// What is meant now.
    pub(crate) fn load(lookup: Lookup<'_>) -> Result<Self, Failure> {
        let environment = FromEnvironment::read(lookup)?;
        let stored = Store::at_home(lookup).map(|store| store.load()).transpose()?.flatten();
        Ok(Self::choose(environment, stored))
    }

    /// The environment comes first. A token is only ever shown to the control plane that it was stored for,
    /// and that control plane's certificates vouch for no other.
    fn choose(environment: FromEnvironment, stored: Option<Login>) -> Self {
        let FromEnvironment { address, ca_file, token, control_user } = environment;
        let stored = stored.filter(|login| address.as_ref().is_none_or(|address| *address == login.address));
        match stored {
            Some(login) => Self {
                address: login.address,
                ca_file: ca_file.or(login.ca_file),
                token: token.or(login.token),
                control_user,
            },
            None => Self { address: address.unwrap_or_default(), ca_file, token, control_user },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::try_from(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    fn stored() -> Option<Login> {
        let address = "https://a.example".parse().unwrap();
        Some(Login { address, ca_file: Some("/ca".into()), token: Some(token("dvxo_stored")) })
    }

    fn environment(pairs: &[(&str, &str)]) -> FromEnvironment {
        let lookup =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        FromEnvironment::read(&lookup).unwrap()
    }

    fn shown(settings: &Settings) -> [String; 3] {
        let token = settings.token.as_ref().map(Token::expose_secret).unwrap_or_default();
        let ca_file = settings.ca_file.clone().unwrap_or_default();
        [settings.address.to_string(), ca_file.display().to_string(), String::from_utf8_lossy(token).into()]
    }

    #[test]
    fn the_environment_comes_before_what_is_stored() {
        let settings = Settings::choose(environment(&[("DVX_OPERATOR_TOKEN", "dvxo_e")]), stored());
        assert_eq!(shown(&settings), ["https://a.example", "/ca", "dvxo_e"]);
        let settings = Settings::choose(environment(&[("DVX_OPERATOR_TOKEN", "")]), stored());
        assert_eq!(shown(&settings), ["https://a.example", "/ca", "dvxo_stored"]);
    }

    #[test]
    fn a_stored_token_goes_to_no_other_control_plane() {
        let settings = Settings::choose(environment(&[("DVX_CONTROL_URL", "https://b.example")]), stored());
        assert_eq!(shown(&settings), ["https://b.example", "", ""]);
        let settings =
            Settings::choose(environment(&[("DVX_CONTROL_URL", "https://A.example:443/")]), stored());
        assert_eq!(shown(&settings), ["https://a.example", "/ca", "dvxo_stored"]);
    }

    #[test]
    fn without_anything_it_is_the_socket_of_this_machine() {
        assert_eq!(
            shown(&Settings::choose(environment(&[]), None)),
            ["unix:///run/dvx/control.sock", "", ""]
        );
    }

    #[test]
    fn nonsense_in_the_environment_is_a_usage_error_and_not_repeated() {
        for (name, value) in [("DVX_CONTROL_URL", "http://a"), ("DVX_OPERATOR_TOKEN", "dvxo_a b")] {
            let lookup = |key: &str| (key == name).then(|| OsString::from(value));
            let failure = FromEnvironment::read(&lookup).unwrap_err();
            assert_eq!(failure.exit(), 2);
            assert!(
                failure.to_string().starts_with(&format!("dvx: {name}: "))
                    && !failure.to_string().contains("dvxo")
            );
        }
    }
}
