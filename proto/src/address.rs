//! Where the broker is: the value of `DVX_BROKER_URL`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// How a client reaches the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerAddress {
    /// `unix:///path`
    Unix(PathBuf),
    /// `http://127.0.0.1:port` or `http://[::1]:port`
    Loopback(SocketAddr),
}

/// Why a text is not the address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAddress {
    /// Neither of the two forms.
    #[error("{0:?} is not a broker's address; expected unix:///path or http://127.0.0.1:port")]
    Form(String),
    /// A broker listens on loopback only; a token is never sent anywhere else.
    #[error("{0} is not a loopback address; a broker is only ever on this machine")]
    NotLoopback(SocketAddr),
}

impl BrokerAddress {
    /// Where a broker listens unless told otherwise.
    pub const DEFAULT_SOCKET: &'static str = "/run/dvx/broker.sock";
}

impl Default for BrokerAddress {
    fn default() -> Self {
        Self::Unix(Path::new(Self::DEFAULT_SOCKET).to_path_buf())
    }
}

impl FromStr for BrokerAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let form = || InvalidAddress::Form(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let usable = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
            return usable.then(|| Self::Unix(path.into())).ok_or_else(form);
        }
        let authority = text.strip_prefix("http://").ok_or_else(form)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let address: SocketAddr = match authority.strip_prefix("localhost:") {
            Some(port) => SocketAddr::from(([127, 0, 0, 1], port.parse().map_err(|_| form())?)),
            None => authority.parse().map_err(|_| form())?,
        };
        if address.ip().to_canonical().is_loopback() {
            Ok(Self::Loopback(address))
        } else {
            Err(InvalidAddress::NotLoopback(address))
        }
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Loopback(address) => write!(f, "http://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        for text in ["unix:///run/dvx/broker.sock", "http://127.0.0.1:8471", "http://[::1]:8471"] {
            assert_eq!(text.parse::<BrokerAddress>().unwrap().to_string(), text);
        }
        assert_eq!("http://localhost:1/".parse::<BrokerAddress>().unwrap().to_string(), "http://127.0.0.1:1");
    }

    #[test]
    fn nothing_else_is_an_address() {
        for bad in [
            "",
            "/run/x",
            "unix://",
            "unix:///",
            "unix://rel",
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "http://a:1",
        ] {
            assert!(matches!(bad.parse::<BrokerAddress>(), Err(InvalidAddress::Form(_))), "{bad:?}");
        }
        for bad in ["http://10.0.0.1:80", "http://0.0.0.0:80", "http://[::]:80"] {
            assert!(matches!(bad.parse::<BrokerAddress>(), Err(InvalidAddress::NotLoopback(_))), "{bad:?}");
        }
    }
}
