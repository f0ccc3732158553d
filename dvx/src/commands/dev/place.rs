//! The private directory of a session: where it lies, what is in it, and that it goes away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dvx_proto::Secret;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{Pid, Uid};

use super::service::Kind;

/// The longest path of a socket in it, with room for the name: `sun_path` holds 108 bytes (unix(7)).
const MAX_PATH_BYTES: usize = 108 - "/broker-admin.sock.lock\0".len();

/// The only agent of a session.
pub(super) const AGENT: &str = "me";

/// The only enclave.
pub(super) const ENCLAVE: &str = "dev";

/// The secret that the token is.
pub(super) const SECRET: &str = "gitlab:token";

/// A session's directory. Nothing exists before [`create`](Place::create).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

/// A directory to be, and whether it lies in memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) place: Place,
    pub(crate) on_tmpfs: bool,
}

impl Place {
    /// Chooses a fresh name on tmpfs where there is one: the user's own, or the one that everybody has.
    pub(crate) fn choose(runtime_dir: Option<PathBuf>, temp_dir: PathBuf) -> io::Result<Choice> {
        let private = runtime_dir.filter(|path| is_tmpfs(path) && is_private(path));
        let shared = Some(PathBuf::from("/dev/shm")).filter(|path| is_tmpfs(path));
        let name = format!("dvx-dev-{:016x}", random()?);
        let on_tmpfs =
            [private, shared].into_iter().flatten().map(|base| base.join(&name)).find(|path| fits(path));
        let (path, on_tmpfs) = match on_tmpfs {
            Some(path) => (path, true),
            None => (temp_dir.join(&name), false),
        };
        if !fits(&path) {
            let why =
                format!("{} is too long for the path of a socket, or has ?, # or % in it", path.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        Ok(Choice { place: Self(path), on_tmpfs })
    }

    /// The directory that another process has chosen.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self, kind: Kind) -> PathBuf {
        self.file(kind, ".toml")
    }

    pub(crate) fn log(&self, kind: Kind) -> PathBuf {
        self.file(kind, ".log")
    }

    pub(crate) fn pid_file(&self, kind: Kind) -> PathBuf {
        self.file(kind, ".pid")
    }

    pub(crate) fn notify_socket(&self, kind: Kind) -> PathBuf {
        self.file(kind, "-notify.sock")
    }

    fn file(&self, kind: Kind, end: &str) -> PathBuf {
        self.0.join(format!("{}{end}", kind.stem()))
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.0.join("broker-admin.sock")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn key_file(&self) -> PathBuf {
        self.0.join("enclave-key")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.0.join("agents").join(AGENT).join("token")
    }

    /// Makes the directory, with the configurations of both daemons.
    pub(crate) fn create(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0)?;
        write(&self.config(Kind::Control), self.control_configuration().as_bytes())?;
        write(&self.config(Kind::Broker), self.broker_configuration().as_bytes())
    }

    /// What a provider's instance on this machine needs is allowed, unlike in an installation.
    fn control_configuration(&self) -> String {
        let path = |name: &str| toml_string(&self.0.join(name).to_string_lossy());
        format!(
            "[database]\nurl = {database}\n\n\
             [kek]\nfile = {kek}\n\n\
             [listen]\nunix = {unix}\n\n\
             [gitlab]\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\n",
            database = toml_string(&format!("sqlite://{}", self.0.join("control.db").display())),
            kek = path("kek"),
            unix = toml_string(&self.control_socket().to_string_lossy()),
        )
    }

    /// The broker picks a free port by itself.
    fn broker_configuration(&self) -> String {
        let path = |name: &str| toml_string(&self.0.join(name).to_string_lossy());
        format!(
            "enclave = \"{ENCLAVE}\"\n\n\
             [listen]\nunix = {unix}\ntcp = \"127.0.0.1:0\"\nadmin = {admin}\nagents = {agents}\n\n\
             [upstream]\nkind = \"control\"\nurl = {url}\napi_key_file = {key}\n\n\
             [audit]\nfile = {audit}\n",
            unix = path("broker.sock"),
            admin = path("broker-admin.sock"),
            agents = path("agents"),
            url = toml_string(&format!("unix://{}", self.control_socket().display())),
            key = toml_string(&self.key_file().to_string_lossy()),
            audit = path("audit.jsonl"),
        )
    }

    /// Writes down what the broker authenticates with.
    pub(crate) fn write_key(&self, key: &Secret) -> io::Result<()> {
        write(&self.key_file(), key.expose_secret())
    }

    /// Writes down which process a daemon is.
    pub(crate) fn write_pid(&self, kind: Kind, pid: Pid) -> io::Result<()> {
        write(&self.pid_file(kind), format!("{pid}\n").as_bytes())
    }

    /// Removes everything. That nothing is there is fine.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        // A process that is about to end may still have added a file while the others were removed.
        for _ in 0..5 {
            result = match fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                other => other,
            };
            if result.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        result
    }
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Creates a file that only its owner reads.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

/// Short enough for sockets, and without what has a meaning in the URL of a database.
fn fits(path: &Path) -> bool {
    let is_plain = path.to_str().is_some_and(|text| !text.contains(['?', '#', '%']));
    path.as_os_str().len() < MAX_PATH_BYTES && is_plain
}

fn is_tmpfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|info| info.filesystem_type() == TMPFS_MAGIC)
}

/// Ours, and nobody else may even look into it: what XDG_RUNTIME_DIR promises.
fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == Uid::effective().as_raw() && metadata.mode() & 0o077 == 0
    })
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_in(base: &Path) -> Place {
        Place::at(base.join("session"))
    }

    #[test]
    fn only_its_owner_reads_what_is_in_it_and_nothing_is_left() {
        let base = tempfile::tempdir().unwrap();
        let place = place_in(base.path());
        place.create().unwrap();
        place.write_key(&Secret::from(b"dvxe_x".to_vec())).unwrap();
        let mode = |name: &str| fs::metadata(place.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode("."), 0o700);
        for file in ["broker.toml", "control.toml", "enclave-key"] {
            assert_eq!(mode(file), 0o600, "{file}");
        }
        place.remove().unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
        place.remove().unwrap();
    }

    #[test]
    fn a_directory_that_is_there_already_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let place = place_in(base.path());
        fs::create_dir(place.path()).unwrap();
        let error = place.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_runtime_directory_that_others_can_enter_is_passed_over() {
        let base = tempfile::tempdir_in("/dev/shm").unwrap();
        let runtime = base.path().join("run");
        DirBuilder::new().mode(0o755).create(&runtime).unwrap();
        let choose = || Place::choose(Some(runtime.clone()), PathBuf::from("/tmp")).unwrap();
        let choice = choose();
        assert!(choice.on_tmpfs && !choice.place.path().starts_with(&runtime));
        fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert!(choose().place.path().starts_with(&runtime));
        assert_ne!(choose(), choose());
    }

    #[test]
    fn paths_are_quoted_in_the_configuration() {
        assert_eq!(toml_string("/a b"), r#""/a b""#);
        assert_eq!(toml_string("/a\"\\\n"), r#""/a\"\\\u000A""#);
    }
}
