//! The files that the control plane reads and writes (landlock(7)). All others are as if their mode forbade
//! them, and so are new ports to listen on, and signals to other processes.
//!
//! Connections may go anywhere: which host and port an instance or the database has is not known before somebody
//! links it, and a rule about ports would be none about hosts. What is connected to on behalf of an operator is
//! checked address by address, after its name was looked up and before it is dialled.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::config::{Config, Database};

/// What the rules below are written for. Kernels that know less enforce less; what newer ones add, such as
/// connecting to Unix sockets, stays allowed: the database and the name service may be behind some.
const KNOWN: ABI = ABI::V7;

/// What looking up hosts, trusting them, and running at all reads.
const SYSTEM: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/proc/self",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/run/nscd",
    "/run/systemd",
    "/var/lib/sss",
    "/dev/null",
    "/dev/urandom",
];

/// Variables that name files: of the roots that are trusted, and of what PostgreSQL's clients use.
const NAMED: &[&str] =
    &["SSL_CERT_FILE", "SSL_CERT_DIR", "PGPASSFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];

/// Parameters of a database's URL that name files.
const PARAMETERS: &[&str] =
    &["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];

/// What [`describe`] says of a kernel without Landlock.
pub(super) const UNAVAILABLE: &str = "not available";

/// What this process may do with files from now on. Best effort: the answer says how far the kernel goes.
pub(super) fn restrict(config: &Config) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let own = read
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::Truncate
        | AccessFs::RemoveFile
        | AccessFs::Refer;
    // SQLite's other files lie beside the database.
    let database = match &config.database {
        Database::Sqlite { path, .. } => Some(above(path)),
        Database::Postgres { .. } => None,
    };
    // The socket's name is taken away at the end.
    let socket = config.listen.unix.as_deref().map(above);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(scopes(env::var_os("NOTIFY_SOCKET").as_deref()))?
        .create()?
        .add_rules(path_beneath_rules(readable(config), read))?
        .add_rules(path_beneath_rules(database, own))?
        .add_rules(path_beneath_rules(socket, read | AccessFs::RemoveFile))?
        .restrict_self()
}

/// How it went, for the log.
pub(super) fn describe(status: &RestrictionStatus) -> String {
    match (&status.ruleset, &status.landlock) {
        (RulesetStatus::NotEnforced, _)
        | (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => UNAVAILABLE.to_owned(),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            format!("ABI {}", (*effective_abi).min(KNOWN) as u8)
        }
    }
}

/// The service manager may listen on an abstract socket.
fn scopes(notify_socket: Option<&OsStr>) -> BitFlags<Scope> {
    let abstract_name = notify_socket.is_some_and(|name| name.as_bytes().starts_with(b"@"));
    if abstract_name { Scope::Signal.into() } else { Scope::from_all(KNOWN) }
}

fn readable(config: &Config) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    paths.extend(NAMED.iter().filter_map(env::var_os).map(PathBuf::from));
    // Who manages the network puts it somewhere below /run and a link here.
    paths.extend(fs::canonicalize("/etc/resolv.conf").ok().map(|path| above(&path)));
    if let Database::Postgres { url } = &config.database {
        paths.extend(named_by(url.expose()));
        paths.extend(env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass")));
    }
    // They may be replaced, as whole files or by links to others, and are read again on SIGHUP.
    for path in config.listen.https.iter().flat_map(|https| [&https.files.cert, &https.files.key]) {
        paths.push(above(path));
        paths.extend(fs::canonicalize(path).ok().map(|path| above(&path)));
    }
    paths
}

/// The files that a database's URL names. One with escapes in its path is not found, and then cannot be read.
fn named_by(url: &str) -> Vec<PathBuf> {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    parameters.filter(|(name, _)| PARAMETERS.contains(name)).map(|(_, path)| PathBuf::from(path)).collect()
}

/// The directory that a path is in; its own where that is the root.
fn above(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.parent().is_some() => parent.to_owned(),
        Some(_) | None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_above_is_taken_but_not_the_root() {
        for (path, expected) in [("/var/lib/dvx/control.db", "/var/lib/dvx"), ("/key", "/key")] {
            assert_eq!(above(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn files_in_a_databases_url_are_found() {
        let url =
            "postgres://u:p@h/d?sslmode=verify-full&sslrootcert=/a/ca.pem&sslkey=/a/key&host=/run/postgresql";
        assert_eq!(named_by(url), [Path::new("/a/ca.pem"), Path::new("/a/key")]);
        assert!(named_by("postgres://u:p@h/d").is_empty());
    }

    #[test]
    fn an_abstract_notify_socket_stays_reachable() {
        assert!(!scopes(Some(OsStr::new("@/run/notify"))).contains(Scope::AbstractUnixSocket));
        assert!(scopes(Some(OsStr::new("/run/notify"))).contains(Scope::AbstractUnixSocket));
        assert!(scopes(None).contains(Scope::AbstractUnixSocket | Scope::Signal));
    }
}
