//! The files that the broker reads and writes (landlock(7)). All others are as if their mode forbade them,
//! and so are new TCP connections but those to the control plane's port, and signals to other processes.
//!
//! Rules hold for what is at a path now. Directories that may be replaced while the broker runs, such as a
//! volume that is mounted again, are covered by a rule about the directory above.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dvx_proto::ControlAddress;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

use crate::config::{AuditSink, Config, ControlConfig, UpstreamConfig};

/// What the rules below are written for. Kernels that know less enforce less; what newer ones add, such as
/// connecting to Unix sockets, stays allowed, since looking up users needs some of it.
const KNOWN: ABI = ABI::V7;

/// What looking up users and running at all reads.
const SYSTEM: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/run/nscd",
    "/run/systemd",
    "/var/lib/extrausers",
    "/var/lib/sss",
    "/dev/null",
    "/dev/urandom",
];

/// Where secrets are mounted, which links in the upstream may lead to.
const SECRET_MOUNTS: &[&str] = &["/run/secrets", "/run/credentials"];

/// How many links out of the upstream's directory are looked at.
const MAX_LINKS: usize = 1000;

/// What [`describe`] says of a kernel without Landlock.
pub(super) const UNAVAILABLE: &str = "not available";

/// What this process may do with files from now on. Best effort: the answer says how far the kernel goes.
pub(super) fn restrict(config: &Config, config_path: &Path) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let append = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
    let own = append | AccessFs::MakeDir | AccessFs::RemoveDir | AccessFs::RemoveFile | AccessFs::Refer;
    let readable = readable(config, config_path);
    let audit = match &config.audit {
        AuditSink::File(path) => Some(above(path)),
        AuditSink::Stderr => None,
    };
    let listen = &config.listen;
    let run = [above(&listen.unix), above(&listen.admin), above(&listen.agents)];
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scopes(std::env::var_os("NOTIFY_SOCKET").as_deref()))?
        .create()?
        .add_rules(
            port(&config.upstream)
                .map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))),
        )?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(audit, append))?
        .add_rules(path_beneath_rules(run, own))?
        .restrict_self()
}

/// The TCP port that connections may go to.
fn port(upstream: &UpstreamConfig) -> Option<u16> {
    match upstream {
        UpstreamConfig::Control(ControlConfig { url: ControlAddress::Https { port, .. }, .. }) => Some(*port),
        UpstreamConfig::Control(_) | UpstreamConfig::Directory { .. } => None,
    }
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

fn readable(config: &Config, config_path: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = SYSTEM.iter().chain(SECRET_MOUNTS).map(PathBuf::from).collect();
    paths.extend(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from));
    paths.extend(cgroup_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()));
    let upstream: Vec<&Path> = match &config.upstream {
        UpstreamConfig::Directory { path, .. } => {
            paths.extend(link_targets(path));
            vec![path]
        }
        // They are read again with the configuration.
        UpstreamConfig::Control(control) => {
            paths.extend(network_files());
            std::iter::once(&control.api_key_file).chain(&control.ca_file).map(PathBuf::as_path).collect()
        }
    };
    for path in upstream.into_iter().chain([config_path]) {
        paths.push(above(path));
        paths.extend(fs::canonicalize(path).ok().map(|path| above(&path)));
    }
    paths
}

/// What finding a host by its name and trusting it reads, besides what is in the usual places.
fn network_files() -> Vec<PathBuf> {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    // Who manages the network puts it somewhere below /run and a link here.
    let resolver = fs::canonicalize("/etc/resolv.conf").ok().map(|path| above(&path));
    named.chain(resolver).collect()
}

/// The directory that a path is in, or will be in. What is there may be replaced; the root is only taken when
/// it must be.
fn above(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) if !parent.exists() => above(parent),
        Some(parent) if parent.parent().is_some() || !path.is_dir() => parent.to_owned(),
        Some(_) | None => path.to_owned(),
    }
}

/// Where cgroup2 is mounted (proc_pid_mountinfo(5): the type is the first field behind the dash).
fn cgroup_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let mount = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        source.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// The directories that links below the upstream's lead to, as they are now.
fn link_targets(upstream: &Path) -> Vec<PathBuf> {
    /// `<agent>/secrets/<name>`
    const DEPTH: usize = 3;
    let mut targets = Vec::new();
    let mut level = vec![upstream.to_owned()];
    for _ in 0..DEPTH {
        let entries = level.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
        let mut below = Vec::new();
        for entry in entries {
            let path = entry.path();
            if path.is_symlink()
                && targets.len() < MAX_LINKS
                && let Ok(target) = fs::canonicalize(&path)
            {
                targets.push(above(&target));
            }
            if path.is_dir() {
                below.push(path);
            }
        }
        level = below;
    }
    targets.retain(|target| !target.starts_with(upstream));
    targets.sort_unstable();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_above_is_taken_but_not_the_root() {
        let cases = [
            ("/usr/bin/env", "/usr/bin"),
            ("/usr", "/usr"),
            ("b.toml", "."),
            ("/nox", "/"),
            ("/usr/lib/nox/nox/nox", "/usr/lib"),
        ];
        for (path, expected) in cases {
            assert_eq!(above(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
            32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(cgroup_mounts(mountinfo), [Path::new("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn links_out_of_the_upstream_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let (upstream, elsewhere) = (root.join("upstream"), root.join("elsewhere"));
        fs::create_dir_all(upstream.join("agent/..1/secrets")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("token"), "").unwrap();
        std::os::unix::fs::symlink("..1", upstream.join("agent/..data")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("token"), upstream.join("agent/gitlab.token")).unwrap();
        assert_eq!(link_targets(&upstream), [elsewhere]);
    }

    #[test]
    fn an_abstract_notify_socket_stays_reachable() {
        assert!(!scopes(Some(OsStr::new("@/run/notify"))).contains(Scope::AbstractUnixSocket));
        assert!(scopes(Some(OsStr::new("/run/notify"))).contains(Scope::AbstractUnixSocket));
        assert!(scopes(None).contains(Scope::AbstractUnixSocket | Scope::Signal));
    }
}
