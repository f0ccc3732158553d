//! The environment of the command: where the broker is, and git set up for the instance.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dvx_proto::{ControlAddress, RemoteUrl};

use crate::settings::{CA_FILE, CONTROL_USER, OPERATOR_TOKEN};

/// Loopback addresses in each form that clients compare (curl takes no port and no brackets here).
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// What is about another control plane. Its token is not for ours.
pub(crate) const FOREIGN: [&str; 3] = [OPERATOR_TOKEN, CA_FILE, CONTROL_USER];

/// What the command's environment has to tell.
pub(crate) struct Facts<'a> {
    /// Where our programs are.
    pub(crate) programs: &'a Path,
    /// The session's directory.
    pub(crate) directory: &'a Path,
    pub(crate) token_file: PathBuf,
    pub(crate) broker_url: &'a str,
    pub(crate) control_socket: PathBuf,
    pub(crate) instance: &'a RemoteUrl,
}

type Variables = BTreeMap<&'static str, OsString>;

impl Facts<'_> {
    /// The variables to set on top of the environment that `lookup` reads.
    pub(crate) fn variables(&self, lookup: &dyn Fn(&str) -> Option<OsString>) -> Vec<(OsString, OsString)> {
        let mut variables = Variables::new();
        variables.insert("DVX_DEV_DIR", self.directory.into());
        variables.insert("DVX_BROKER_URL", self.broker_url.into());
        let control_url = ControlAddress::Unix(self.control_socket.clone());
        variables.insert("DVX_CONTROL_URL", control_url.to_string().into());
        variables.insert("DVX_TOKEN_FILE", self.token_file.clone().into());
        variables.insert("PATH", self.path(lookup("PATH")));
        let lower = lookup("no_proxy");
        let upper = lookup("NO_PROXY");
        variables.insert("no_proxy", without_proxy(lower.as_deref().or(upper.as_deref())));
        variables.insert("NO_PROXY", without_proxy(upper.as_deref().or(lower.as_deref())));
        let named = variables.into_iter().map(|(name, value)| (name.into(), value));
        named.chain(self.git(lookup("GIT_CONFIG_COUNT").as_deref())).collect()
    }

    fn path(&self, path: Option<OsString>) -> OsString {
        let rest = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let all = std::iter::once(self.programs.to_path_buf()).chain(env::split_paths(&rest));
        // A directory with a colon in its name cannot stand in PATH.
        env::join_paths(all).unwrap_or(rest)
    }

    /// Configuration for git that is in no file (git-config(1), `GIT_CONFIG_COUNT`), after what is there
    /// already. The empty helper comes first: no helper that stores tokens is to see ours.
    fn git(&self, count: Option<&OsStr>) -> Vec<(OsString, OsString)> {
        let helper =
            format!("!{} git-credential", shell_quoted(&self.programs.join("dvxir").to_string_lossy()));
        let section = format!("credential.{}", self.instance);
        let mut settings =
            vec![(format!("{section}.helper"), String::new()), (format!("{section}.helper"), helper)];
        if !self.instance.path().is_empty() {
            settings.push((format!("{section}.useHttpPath"), "true".into()));
        }
        let first: usize = count.and_then(OsStr::to_str).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut variables = vec![("GIT_CONFIG_COUNT".into(), (first + settings.len()).to_string().into())];
        for (number, (key, value)) in (first..).zip(settings) {
            variables.push((format!("GIT_CONFIG_KEY_{number}").into(), key.into()));
            variables.push((format!("GIT_CONFIG_VALUE_{number}").into(), value.into()));
        }
        variables
    }
}

/// Adds the loopback addresses: the agent token must never reach a proxy.
fn without_proxy(before: Option<&OsStr>) -> OsString {
    let before = before.map(OsStr::to_string_lossy).unwrap_or_default();
    if before.trim() == "*" {
        return "*".into();
    }
    let mut hosts: Vec<&str> = before.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    for host in LOOPBACK {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.join(",").into()
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(instance: &str, before: &[(&str, &str)]) -> BTreeMap<String, String> {
        let before: BTreeMap<&str, &str> = before.iter().copied().collect();
        let facts = Facts {
            programs: Path::new("/opt/it's here/bin"),
            directory: Path::new("/dev/shm/d"),
            token_file: "/dev/shm/d/agents/me/token".into(),
            broker_url: "http://127.0.0.1:4711",
            control_socket: "/dev/shm/d/control.sock".into(),
            instance: &instance.parse().unwrap(),
        };
        let text = |text: OsString| text.into_string().unwrap();
        let variables = facts.variables(&|name| before.get(name).map(OsString::from));
        variables.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn our_programs_come_first_and_the_rest_of_the_path_stays() {
        let variables = variables("https://gitlab.com", &[("PATH", "/a:/b")]);
        assert_eq!(variables["PATH"], "/opt/it's here/bin:/a:/b");
        assert_eq!(variables["DVX_BROKER_URL"], "http://127.0.0.1:4711");
        assert_eq!(variables["DVX_CONTROL_URL"], "unix:///dev/shm/d/control.sock");
        assert_eq!(variables["DVX_TOKEN_FILE"], "/dev/shm/d/agents/me/token");
        assert_eq!(variables["DVX_DEV_DIR"], "/dev/shm/d");
    }

    #[test]
    fn the_loopback_addresses_are_added_to_the_hosts_without_proxy() {
        let with = |before: &[(&str, &str)]| {
            let variables = variables("https://gitlab.com", before);
            [variables["no_proxy"].clone(), variables["NO_PROXY"].clone()]
        };
        assert_eq!(with(&[]), ["127.0.0.1,localhost,::1"; 2]);
        assert_eq!(
            with(&[("NO_PROXY", "corp.example, localhost")]),
            ["corp.example,localhost,127.0.0.1,::1"; 2]
        );
        assert_eq!(with(&[("no_proxy", "*"), ("NO_PROXY", "a")]), ["*", "a,127.0.0.1,localhost,::1"]);
    }

    #[test]
    fn git_gets_our_helper_alone_after_what_is_configured_already() {
        let before = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "a.b")];
        let variables = variables("https://gitlab.com", &before);
        assert_eq!(variables["GIT_CONFIG_COUNT"], "3");
        assert!(!variables.contains_key("GIT_CONFIG_KEY_0"));
        assert_eq!(variables["GIT_CONFIG_KEY_1"], "credential.https://gitlab.com.helper");
        assert_eq!(variables["GIT_CONFIG_VALUE_1"], "");
        assert_eq!(variables["GIT_CONFIG_KEY_2"], "credential.https://gitlab.com.helper");
        assert_eq!(variables["GIT_CONFIG_VALUE_2"], r"!'/opt/it'\''s here/bin/dvxir' git-credential");
    }

    #[test]
    fn an_instance_under_a_path_lets_git_tell_the_path() {
        let variables = variables("http://127.0.0.1:8080/git", &[]);
        assert_eq!(variables["GIT_CONFIG_COUNT"], "3");
        assert_eq!(variables["GIT_CONFIG_KEY_2"], "credential.http://127.0.0.1:8080/git.useHttpPath");
    }
}
