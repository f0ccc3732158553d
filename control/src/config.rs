//! `/etc/dvx/control.toml`: from a file to settings that can be used as they are.
//!
//! Every error of a file is reported, each with its line and key, so that an operator mends all of them in one
//! go. The database's URL may hold a password and is never shown; nothing else here is secret.

mod error;
mod reader;
mod trust;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use error::ConfigError;

use dvx_gitlab::Network;
use error::Cause;
use reader::{Document, Section};
use values::Kind;

/// What the control plane is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) database: Database,
    /// Where the key-encryption key is.
    pub(crate) kek: PathBuf,
    pub(crate) listen: Listen,
    /// How long audit events are kept.
    pub(crate) retention: Duration,
    /// Networks that an instance may be in besides public ones.
    pub(crate) allow_private: Vec<Network>,
    pub(crate) seccomp: Seccomp,
}

/// What happens to the control plane when it makes a system call that it has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seccomp {
    Kill,
    Errno,
    Log,
    Off,
}

impl Seccomp {
    /// The word in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Errno => "errno",
            Self::Log => "log",
            Self::Off => "off",
        }
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite { path: PathBuf, url: DatabaseUrl },
    Postgres { url: DatabaseUrl },
}

/// A URL that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(String);

/// Where the control plane can be reached. At least one of `unix` and `https` is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) unix: Option<PathBuf>,
    pub(crate) https: Option<Https>,
    /// Always a loopback address.
    pub(crate) admin: Option<SocketAddr>,
}

/// An address with what it takes to prove that it is ours. Port 0 is any free port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    pub(crate) files: TlsFiles,
}

/// Certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Database {
    /// The URL for the database's driver.
    pub(crate) fn url(&self) -> &str {
        let (Self::Sqlite { url, .. } | Self::Postgres { url }) = self;
        &url.0
    }

    /// The kind, in a word.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }
}

impl DatabaseUrl {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl([redacted])")
    }
}

impl Config {
    /// Where the configuration is unless told otherwise.
    pub(crate) const DEFAULT_PATH: &'static str = "/etc/dvx/control.toml";

    /// Reads a file that nobody but root and this process's user can write.
    pub(crate) fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let text =
            trust::read_config(path).map_err(|cause| vec![ConfigError::of_file(path, Cause::File(cause))])?;
        Self::parse(path, &text, env)
    }

    fn parse(
        path: &Path,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let document = Document::new(path, text, env);
        let mut top = document.parse();
        let database = database(&mut top);
        let kek = kek(&mut top);
        let listen = listen(&mut top);
        let retention = retention(&mut top);
        let allow_private = gitlab(&mut top);
        let seccomp = hardening(&mut top);
        top.finish();
        let errors = document.into_errors();
        match (database, kek) {
            (Some(database), Some(kek)) if errors.is_empty() => {
                Ok(Self { database, kek, listen, retention, allow_private, seccomp })
            }
            _ => Err(errors),
        }
    }
}

fn database(top: &mut Section<'_, '_>) -> Option<Database> {
    let mut section = top.section("database");
    let url = section.required("url", Kind::DATABASE, values::database);
    section.finish();
    url
}

fn kek(top: &mut Section<'_, '_>) -> Option<PathBuf> {
    let mut section = top.section("kek");
    let file = section.required("file", Kind::PATH, values::path);
    section.finish();
    file
}

fn listen(top: &mut Section<'_, '_>) -> Listen {
    let mut section = top.section("listen");
    let present = ["unix", "https", "cert_file", "key_file"].map(|key| section.has(key));
    let unix = section.optional("unix", Kind::SOCKET, values::socket_path);
    let address = section.optional("https", Kind::ADDRESS, values::address);
    let cert = section.optional("cert_file", Kind::PATH, values::path);
    let key = section.optional("key_file", Kind::PATH, values::path);
    let admin = section.optional("admin", Kind::LOOPBACK, values::loopback);
    for (key, cause) in incomplete(present) {
        section.conflict(key, Cause::Incomplete(cause));
    }
    section.finish();
    let files = cert.zip(key).map(|(cert, key)| TlsFiles { cert, key });
    let https = address.zip(files).map(|(address, files)| Https { address, files });
    Listen { unix, https, admin }
}

/// What is missing, of `unix`, `https`, `cert_file` and `key_file`.
fn incomplete([unix, https, cert, key]: [bool; 4]) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    if !unix && !https {
        found.push(("unix", "expected unix or https, or both"));
    }
    if https || cert || key {
        if !https {
            found.push(("https", "a certificate or key is of use only with it"));
        }
        if !cert {
            found.push(("cert_file", "expected the certificate that goes with https"));
        }
        if !key {
            found.push(("key_file", "expected the key that goes with the certificate"));
        }
    }
    found
}

fn retention(top: &mut Section<'_, '_>) -> Duration {
    const DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
    let mut section = top.section("audit");
    let retention = section.optional("retention", Kind::RETENTION, values::retention);
    section.finish();
    retention.unwrap_or(DEFAULT)
}

fn gitlab(top: &mut Section<'_, '_>) -> Vec<Network> {
    let mut section = top.section("gitlab");
    let networks = section.optional("allow_private", Kind::NETWORKS, values::networks);
    section.finish();
    networks.unwrap_or_default()
}

fn hardening(top: &mut Section<'_, '_>) -> Seccomp {
    let mut section = top.section("hardening");
    let seccomp = section.optional("seccomp", Kind::SECCOMP, values::seccomp);
    section.finish();
    seccomp.unwrap_or(Seccomp::Kill)
}

#[cfg(test)]
mod tests;
