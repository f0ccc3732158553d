//! What the tests of `dvx dev` share: a world with directories of its own, and patience with a limit.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The token of the tests, to be looked for in all that is printed or written.
pub(crate) const TOKEN: &str = "glpat-planted-dev-token.01.0123456789";

/// All that a session may leave behind must be gone within this time.
pub(crate) const CLEANING: Duration = Duration::from_secs(5);

/// Home and runtime directory of a user of its own, on tmpfs.
pub(crate) struct World {
    base: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        for program in ["dvx-control", "dvx-broker", "dvxir"] {
            let path = Path::new(env!("CARGO_BIN_EXE_dvx")).with_file_name(program);
            assert!(path.is_file(), "{} is not there; build the whole workspace first", path.display());
        }
        let world = Self { base: tempfile::tempdir_in("/dev/shm").unwrap() };
        for directory in [world.home(), world.runtime()] {
            DirBuilder::new().mode(0o700).create(directory).unwrap();
        }
        world
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.base.path().join("home")
    }

    /// Where sessions put their directories.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.base.path().join("run")
    }

    /// A place for what the commands in a session write down.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub(crate) fn dvx(&self, arguments: &[&str]) -> Command {
        // Whoever started the tests may ignore signals that a terminal sends, as shells do for what they put
        // into the background.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=INT,QUIT", env!("CARGO_BIN_EXE_dvx")]).args(arguments);
        self.prepare(&mut command);
        command
    }

    /// An environment that depends on nothing around the tests.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.home());
        command.env("XDG_RUNTIME_DIR", self.runtime()).env("SHELL", "/bin/sh").env("TERM", "dumb");
        command.env("GITLAB_TOKEN", TOKEN).env("WORLD", self.base.path()).stdin(Stdio::null());
    }

    /// What a script prints in a session of its own.
    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.dvx(&["dev", "--", "sh", "-c", script]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}: {stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a session whose command runs until somebody ends it, with processes in the background that try
    /// to get away. Returns when all of them run.
    pub(crate) fn start_lasting(&self) -> Lasting {
        let ready = self.path("ready");
        let script = "(env -i setsid sleep 600 & echo $! >> $WORLD/pids)
            (trap '' TERM HUP INT; sleep 600; sleep 600) & echo $! >> $WORLD/pids
            echo $$ >> $WORLD/pids; echo $DVX_DEV_DIR > $WORLD/directory; cat $DVX_DEV_DIR/control.pid $DVX_DEV_DIR/broker.pid >> $WORLD/pids
            mv $WORLD/pids $WORLD/ready; while :; do sleep 1; done";
        let mut command = self.dvx(&["dev", "--", "sh", "-c", script]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the session runs", Duration::from_secs(20), || ready.exists());
        let numbers = fs::read_to_string(&ready).unwrap();
        let processes: Vec<Pid> = numbers.lines().map(|line| Pid::from_raw(line.parse().unwrap())).collect();
        let [.., control, broker] = processes[..] else { panic!("{processes:?}") };
        Lasting { child, processes, control, broker, keeper: parent_of(broker) }
    }

    /// Nothing lies where sessions put their directories.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.runtime()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// A session that lasts, and the processes in it.
pub(crate) struct Lasting {
    pub(crate) child: Child,
    pub(crate) processes: Vec<Pid>,
    pub(crate) control: Pid,
    pub(crate) broker: Pid,
    pub(crate) keeper: Pid,
}

impl Lasting {
    pub(crate) fn front(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits until every process and every file of the session is gone.
    pub(crate) fn assert_gone(&self, world: &World) {
        for process in self.processes.iter().copied().chain([self.keeper]) {
            wait_until(&format!("process {process} is gone"), CLEANING, || is_gone(process));
        }
        wait_until("the files are gone", CLEANING, || {
            fs::read_dir(world.runtime()).unwrap().next().is_none()
        });
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        // A test that failed: not even then is anything to stay.
        kill(self.front(), Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}

/// A process that has ended, whether or not its parent has noticed yet.
pub(crate) fn is_gone(process: Pid) -> bool {
    if kill(process, None) == Err(Errno::ESRCH) {
        return true;
    }
    let state = |stat: String| stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z');
    fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, state)
}

pub(crate) fn parent_of(process: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let field = stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(1).unwrap();
    Pid::from_raw(field.parse().unwrap())
}

/// Looks again and again, but not for ever.
pub(crate) fn wait_until(what: &str, patience: Duration, condition: impl FnMut() -> bool) {
    assert!(eventually(patience, condition), "not within {patience:?}: {what}");
}

#[expect(clippy::disallowed_methods, reason = "a test's patience is measured on the real clock")]
pub(crate) fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() < patience {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    condition()
}
