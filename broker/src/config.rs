//! `/etc/dvx/broker.toml`: from a file to settings that can be used as they are.
//!
//! Every error of a file is reported, each with its line and key, so that an operator mends all of them in one
//! go. Nothing in this file is secret, so an error shows the value that it is about.

mod agents;
mod control;
mod error;
mod reader;
mod trust;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::{BrokerAddress, EnclaveName};

pub(crate) use control::{ApiKey, ControlConfig};
pub(crate) use error::ConfigError;

use error::Cause;
use reader::{Document, Section};
use values::{Kind, UpstreamKind};

use crate::policy::{AgentRule, Rules};

/// What the broker is told to do.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) enclave: EnclaveName,
    pub(crate) listen: Listen,
    pub(crate) upstream: UpstreamConfig,
    /// How long secrets are served while the upstream does not confirm them.
    pub(crate) max_stale: Duration,
    pub(crate) limits: Limits,
    pub(crate) hardening: Hardening,
    /// In the order of the file.
    pub(crate) agents: Vec<AgentRule>,
    /// The same, in force together.
    pub(crate) rules: Arc<Rules>,
    pub(crate) audit: AuditSink,
}

/// Where the broker can be reached, and where it leaves the agents' tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) unix: PathBuf,
    /// Always a loopback address. Port 0 is any free port.
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) admin: PathBuf,
    pub(crate) agents: PathBuf,
}

/// Where secrets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpstreamConfig {
    /// Files, as Kubernetes, systemd and Docker mount them.
    Directory {
        path: PathBuf,
        /// Permission bits that files may have besides those of their owner and group.
        allow_mode: Option<u32>,
    },
    /// The control plane, which also says which agents there are.
    Control(ControlConfig),
}

impl UpstreamConfig {
    /// The word in the configuration.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "directory",
            Self::Control(_) => "control",
        }
    }
}

/// What one caller may take from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of one agent; none when there is no limit.
    pub(crate) requests_per_second: Option<std::num::NonZeroU32>,
    /// Of one user, at a time.
    pub(crate) connections: u32,
    /// Of everybody, at a time.
    pub(crate) total_connections: u32,
}

/// What the broker denies itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hardening {
    pub(crate) seccomp: Seccomp,
    /// Refuse to start where the kernel has no memfd_secret(2).
    pub(crate) require_secretmem: bool,
}

/// What happens to the broker when it makes a system call that it has no use for.
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

/// Where decisions are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuditSink {
    File(PathBuf),
    Stderr,
}

/// What the meaning of a file depends on besides its text.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    uid_of: &'a dyn Fn(&str) -> Option<u32>,
}

impl Config {
    /// Where the configuration is unless told otherwise.
    pub(crate) const DEFAULT_PATH: &'static str = "/etc/dvx/broker.toml";
    /// Where the admin socket is unless told otherwise.
    pub(crate) const DEFAULT_ADMIN_SOCKET: &'static str = "/run/dvx/broker-admin.sock";

    /// Reads a file that nobody but root and this process's user can write.
    pub(crate) fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let text =
            trust::read_config(path).map_err(|cause| vec![ConfigError::of_file(path, Cause::File(cause))])?;
        Self::parse(path, &text, Surroundings { env, uid_of: &uid_of_user })
    }

    /// The admin socket that a file names, whatever else is in it: a broker may run, though its file has errors by
    /// now, or names files that only its own user may read.
    pub(crate) fn admin_socket(
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, Vec<ConfigError>> {
        let text =
            trust::read_config(path).map_err(|cause| vec![ConfigError::of_file(path, Cause::File(cause))])?;
        let document = Document::new(path, &text, env);
        let mut top = document.parse();
        let listen = listen(&mut top);
        top.ignore_rest();
        let errors = document.into_errors();
        if errors.is_empty() { Ok(listen.admin) } else { Err(errors) }
    }

    fn parse(path: &Path, text: &str, surroundings: Surroundings<'_>) -> Result<Self, Vec<ConfigError>> {
        let document = Document::new(path, text, surroundings.env);
        let mut top = document.parse();
        let enclave = top.required("enclave", Kind::name("a name such as \"lab-1\""), values::name);
        let listen = listen(&mut top);
        let (upstream, max_stale) = upstream(&mut top);
        let limits = limits(&mut top);
        let hardening = hardening(&mut top);
        let audit = audit(&mut top);
        let sections = top.sections("agents");
        if let (Some(UpstreamConfig::Control(_)), Some(first)) = (&upstream, sections.first()) {
            let cause =
                "with upstream.kind = \"control\" the agents come from the control plane; expected none here";
            document.report(first.line(), Some("agents".to_owned()), Cause::Conflict(cause));
        }
        let (agents, mut rules) = agents::read(sections, &document, surroundings.uid_of);
        if let Some(UpstreamConfig::Control(_)) = upstream {
            rules = Rules::awaited();
        }
        top.finish();
        let errors = document.into_errors();
        match (enclave, upstream) {
            (Some(enclave), Some(upstream)) if errors.is_empty() => {
                let rules = Arc::new(rules);
                Ok(Self { enclave, listen, upstream, max_stale, limits, hardening, agents, rules, audit })
            }
            _ => Err(errors),
        }
    }

    /// The keys in which `new` differs from what is in force and which only a restart can change: sockets
    /// are bound and the process is confined to these paths by then.
    pub(crate) fn fixed_differences(&self, new: &Self) -> Vec<&'static str> {
        let differences = [
            ("enclave", self.enclave != new.enclave),
            ("listen", self.listen != new.listen),
            ("upstream", self.upstream != new.upstream),
            ("hardening", self.hardening != new.hardening),
            ("audit", self.audit != new.audit),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

fn uid_of_user(name: &str) -> Option<u32> {
    nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

fn listen(top: &mut Section<'_, '_>) -> Listen {
    let mut section = top.section("listen");
    let unix = section.optional("unix", Kind::SOCKET, values::socket_path);
    let tcp = section.optional("tcp", Kind::LOOPBACK, values::loopback);
    let admin = section.optional("admin", Kind::SOCKET, values::socket_path);
    let agents = section.optional("agents", Kind::PATH, values::path);
    let listen = Listen {
        unix: unix.unwrap_or_else(|| BrokerAddress::DEFAULT_SOCKET.into()),
        tcp,
        admin: admin.unwrap_or_else(|| Config::DEFAULT_ADMIN_SOCKET.into()),
        agents: agents.unwrap_or_else(|| "/run/dvx/agents".into()),
    };
    if listen.unix == listen.admin {
        section.conflict("admin", Cause::Conflict("is the same socket as listen.unix"));
    }
    section.finish();
    listen
}

fn upstream(top: &mut Section<'_, '_>) -> (Option<UpstreamConfig>, Duration) {
    const DEFAULT_MAX_STALE: Duration = Duration::from_secs(60 * 60);
    let mut section = top.section("upstream");
    let Some(kind) = section.required("kind", Kind::UPSTREAM, values::upstream_kind) else {
        // Which keys belong here depends on the kind.
        section.ignore_rest();
        return (None, DEFAULT_MAX_STALE);
    };
    let upstream = match kind {
        UpstreamKind::Directory => directory(&mut section),
        UpstreamKind::Control => control::read(&mut section).map(UpstreamConfig::Control),
    };
    let max_stale = section.optional("max_stale", Kind::MAX_STALE, values::max_stale);
    section.finish();
    (upstream, max_stale.unwrap_or(DEFAULT_MAX_STALE))
}

fn directory(section: &mut Section<'_, '_>) -> Option<UpstreamConfig> {
    let path = section.required("path", Kind::PATH, values::path);
    let allow_mode = section.optional("allow_mode", Kind::MODE, values::mode);
    path.map(|path| UpstreamConfig::Directory { path, allow_mode })
}

fn limits(top: &mut Section<'_, '_>) -> Limits {
    let mut section = top.section("limits");
    let rate = section.optional("requests_per_second", Kind::RATE, values::rate);
    let connections = section.optional("connections", Kind::CONNECTIONS, values::connections);
    let total = section.optional("total_connections", Kind::CONNECTIONS, values::connections);
    section.finish();
    Limits {
        requests_per_second: std::num::NonZeroU32::new(rate.unwrap_or(2000)),
        connections: connections.unwrap_or(64),
        total_connections: total.unwrap_or(1024),
    }
}

fn hardening(top: &mut Section<'_, '_>) -> Hardening {
    let mut section = top.section("hardening");
    let seccomp = section.optional("seccomp", Kind::SECCOMP, values::seccomp);
    let require = section.optional("require_secretmem", Kind::SWITCH, values::switch);
    section.finish();
    Hardening { seccomp: seccomp.unwrap_or(Seccomp::Kill), require_secretmem: require.unwrap_or(false) }
}

fn audit(top: &mut Section<'_, '_>) -> AuditSink {
    let mut section = top.section("audit");
    let file = section.optional("file", Kind::PATH, values::path);
    section.finish();
    file.map_or(AuditSink::Stderr, AuditSink::File)
}

#[cfg(test)]
mod tests;
