//! Where programs listen: the values of `DVX_BROKER_URL` and `DVX_CONTROL_URL`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::RemoteUrl;

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

/// How the control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlAddress {
    /// `unix:///path`
    Unix(PathBuf),
    /// `https://host` or `https://host:port`
    Https {
        /// A host name, or an address, IPv6 without brackets.
        host: String,
        /// 443 unless given.
        port: u16,
    },
}

/// Why a text is not the address of a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a control plane's address; expected https://host[:port] or unix:///path")]
pub struct InvalidControlAddress(String);

impl ControlAddress {
    /// Where a control plane listens unless told otherwise.
    pub const DEFAULT_SOCKET: &'static str = "/run/dvx/control.sock";

    /// The value of the `Host` field.
    pub fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Https { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if *port == 443 { host } else { format!("{host}:{port}") }
            }
        }
    }
}

impl Default for ControlAddress {
    fn default() -> Self {
        Self::Unix(Path::new(Self::DEFAULT_SOCKET).to_path_buf())
    }
}

impl FromStr for ControlAddress {
    type Err = InvalidControlAddress;

    fn from_str(text: &str) -> Result<Self, InvalidControlAddress> {
        let invalid = || InvalidControlAddress(text.chars().take(100).collect());
        if let Some(path) = text.strip_prefix("unix://") {
            let usable = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
            return usable.then(|| Self::Unix(path.into())).ok_or_else(invalid);
        }
        let url: RemoteUrl = text.parse().map_err(|_| invalid())?;
        if !text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
            || !url.path().is_empty()
        {
            return Err(invalid());
        }
        let (host, port) = url.origin().host_and_port();
        Ok(Self::Https { host: host.to_owned(), port })
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Https { .. } => write!(f, "https://{}", self.authority()),
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

    #[test]
    fn a_control_plane_is_reached_by_https_or_a_unix_socket() {
        for text in
            ["unix:///run/dvx/control.sock", "https://a.example", "https://a.example:8470", "https://[::1]:1"]
        {
            assert_eq!(text.parse::<ControlAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "HTTPS://A.example:443/".parse::<ControlAddress>().unwrap().to_string(),
            "https://a.example"
        );
        for bad in ["", "unix://", "http://127.0.0.1:1", "https://", "https://a/b", "https://u@a", "/run/x"] {
            assert!(bad.parse::<ControlAddress>().is_err(), "{bad:?}");
        }
    }
}
