use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::*;
use crate::audit::Audit;
use crate::config::Seccomp;

/// Tests in a process of their own: what is given up cannot be had back.
const CHILD: &str = "DVX_TEST_SANDBOX_CHILD";

/// Runs `child` below in a process that is confined in this mode, in a directory like a broker's.
fn in_child(mode: Seccomp, action: &str) -> (ExitStatus, String) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["run/agents", "volumes/upstream/a/secrets", "log", "etc", "elsewhere"] {
        fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    let mut configuration = configuration(directory.path(), mode);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    if reaches_out(action) {
        let port = listener.local_addr().unwrap().port();
        fs::write(directory.path().join("etc/key"), "dvxe_x").unwrap();
        fs::set_permissions(directory.path().join("etc/key"), fs::Permissions::from_mode(0o600)).unwrap();
        let (before, _) = configuration.split_once("[upstream]").unwrap();
        let (_, behind) = configuration.split_once("[hardening]").unwrap();
        let (behind, _) = behind.split_once("[[agents]]").unwrap();
        configuration = format!(
            "{before}[upstream]\nkind = \"control\"\nurl = \"https://localhost:{port}\"\n\
             api_key_file = \"{}/etc/key\"\n[hardening]{behind}",
            directory.path().display()
        );
    }
    fs::write(directory.path().join("etc/broker.toml"), configuration).unwrap();
    fs::write(directory.path().join("elsewhere/file"), "x").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::tests::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, action)
        .env_remove("RUST_BACKTRACE")
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if action == "work" {
        replace_directories(directory.path(), &mut child);
    }
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Once the child is confined: a volume is mounted again, an editor writes a new configuration, logs are
/// rotated, and an operator clears up too much.
fn replace_directories(directory: &Path, child: &mut Child) {
    while !directory.join("run/confined").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let path = |name: &str| directory.join(name);
    fs::rename(path("volumes/upstream"), path("volumes/upstream.old")).unwrap();
    fs::create_dir_all(path("volumes/upstream/a")).unwrap();
    fs::write(path("volumes/upstream/a/gitlab.token"), "new").unwrap();
    fs::copy(path("etc/broker.toml"), path("etc/new")).unwrap();
    fs::rename(path("etc/new"), path("etc/broker.toml")).unwrap();
    fs::rename(path("log/audit.jsonl"), path("log/audit.jsonl.1")).unwrap();
    fs::remove_dir(path("run/agents")).unwrap();
    drop(child.stdin.take());
}

/// With the control plane instead of a directory: these reach out.
fn reaches_out(action: &str) -> bool {
    matches!(action, "connect" | "elsewhere")
}

fn configuration(directory: &Path, mode: Seccomp) -> String {
    let directory = directory.display();
    let mode = mode.as_str();
    format!(
        r#"
        enclave = "e"
        [listen]
        unix = "{directory}/run/b.sock"
        admin = "{directory}/run/a.sock"
        agents = "{directory}/run/agents"
        [upstream]
        kind = "directory"
        path = "{directory}/volumes/upstream"
        [hardening]
        seccomp = "{mode}"
        [audit]
        file = "{directory}/log/audit.jsonl"
        [[agents]]
        name = "a"
        user = "root"
        "#
    )
}

#[test]
fn child() {
    let Ok(action) = std::env::var(CHILD) else { return };
    let path = std::env::current_dir().unwrap().join("etc/broker.toml");
    let config = Config::load(&path, &|_| None).unwrap();
    let audit = Audit::open(&config.audit, &config.enclave).unwrap();
    early().unwrap();
    if action == "files" {
        return files_elsewhere(&config, &path);
    }
    confine(&config, &path).unwrap();
    match action.as_str() {
        "work" => work(&path, &audit),
        "exec" => {
            // Only comes back when it fails.
            let error = nix::unistd::execv(c"/bin/true", &[c"true"]).unwrap_err();
            assert_eq!(error, nix::errno::Errno::EPERM);
        }
        "chroot" => assert_eq!(nix::unistd::chroot("/"), Err(nix::errno::Errno::EPERM)),
        "ptrace" => {
            assert_eq!(nix::sys::ptrace::attach(nix::unistd::Pid::parent()), Err(nix::errno::Errno::EPERM));
        }
        "refused" => refused(),
        "connect" => connect(&config, &path),
        "elsewhere" => connect_elsewhere(&config),
        other => panic!("{other}"),
    }
}

/// What a broker does all day, in short.
fn work(config: &Path, audit: &Audit) {
    fs::write("run/confined", "").unwrap();
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    Config::load(config, &|_| None).unwrap();
    // Asks every name service that there is.
    assert_eq!(nix::unistd::User::from_name("no-such-user-here").unwrap(), None);
    audit.reopen().unwrap();
    assert_eq!(audit.health(), None);
    assert_eq!(fs::read_dir("volumes/upstream/a").unwrap().count(), 1);
    assert_eq!(fs::read("volumes/upstream/a/gitlab.token").unwrap(), b"new");
    fs::read_to_string("/proc/self/status").unwrap();
    fs::read_to_string("/proc/1/cgroup").unwrap();
    fs::read_dir("/sys/fs/cgroup").unwrap().count();
    fs::create_dir_all("run/agents/a").unwrap();
    fs::write("run/agents/a/.token", "x").unwrap();
    rustix::fs::setxattr("run/agents/a/.token", "user.x", b"", rustix::fs::XattrFlags::empty())
        .unwrap_or_default();
    fs::rename("run/agents/a/.token", "run/agents/a/token").unwrap();
    fs::remove_dir_all("run/agents/a").unwrap();
    let inotify = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_NONBLOCK).unwrap();
    inotify.add_watch("volumes/upstream", nix::sys::inotify::AddWatchFlags::IN_CREATE).unwrap();
    let worker = std::thread::Builder::new().name("worker".to_owned()).spawn(|| vec![0u8; 1 << 22].len());
    assert_eq!(worker.unwrap().join().unwrap(), 1 << 22);
    let (a, b) = UnixStream::pair().unwrap();
    drop((a, b));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    });
    let unwound = std::panic::catch_unwind(|| {
        std::panic::set_hook(Box::new(|_| ()));
        panic!("a request that goes wrong");
    });
    assert!(unwound.is_err());
}

/// What libraries may try fails and does not end the process.
fn refused() {
    let refused = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    refused(TcpStream::connect("127.0.0.1:1").unwrap_err());
    refused(TcpListener::bind("127.0.0.1:0").unwrap_err());
    refused(Command::new("/bin/true").status().unwrap_err());
    assert!(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).is_err());
}

/// A name is looked up, also one that no server knows, and the control plane's port is connected to.
fn connect(config: &Config, path: &Path) {
    let UpstreamConfig::Control(control) = &config.upstream else { panic!() };
    let ControlAddress::Https { host, port } = &control.url else { panic!() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connected = tokio::net::TcpStream::connect((host.as_str(), *port)).await.unwrap();
        connected.set_nodelay(true).unwrap();
        drop(tokio::net::lookup_host("no-such-host.invalid:1").await);
    });
    rustls_native_certs::load_native_certs();
    Config::load(path, &|_| None).unwrap();
}

fn connect_elsewhere(config: &Config) {
    let UpstreamConfig::Control(control) = &config.upstream else { panic!() };
    let ControlAddress::Https { port, .. } = &control.url else { panic!() };
    let elsewhere = if *port == 1 { 2 } else { 1 };
    let error = TcpStream::connect(("127.0.0.1", elsewhere)).unwrap_err();
    // Nobody listens there, which is what a kernel without Landlock's network rules says.
    assert!(
        matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ConnectionRefused),
        "{error}"
    );
}

fn files_elsewhere(config: &Config, path: &Path) {
    let status = files::restrict(config, path).unwrap();
    if files::describe(&status) == files::UNAVAILABLE {
        skipped!("this kernel has no Landlock");
        return;
    }
    fs::read("etc/broker.toml").unwrap();
    assert!(fs::read("elsewhere/file").is_err());
    assert!(fs::write("elsewhere/new", "x").is_err());
    assert!(fs::write("etc/broker.toml", "x").is_err());
    assert!(fs::write("volumes/upstream/a/gitlab.token", "x").is_err());
    assert!(fs::remove_file("log/audit.jsonl").is_err());
}

#[test]
fn a_broker_that_does_its_work_meets_no_refusal() {
    for mode in [Seccomp::Kill, Seccomp::Errno] {
        let (status, stderr) = in_child(mode, "work");
        assert!(status.success(), "{mode:?}: {status} {stderr}");
    }
}

#[test]
fn a_broker_with_a_control_plane_can_connect_to_it() {
    for mode in [Seccomp::Kill, Seccomp::Errno] {
        let (status, stderr) = in_child(mode, "connect");
        assert!(status.success(), "{mode:?}: {status} {stderr}");
    }
}

#[test]
fn a_broker_with_a_control_plane_connects_to_nothing_else() {
    let (status, stderr) = in_child(Seccomp::Kill, "elsewhere");
    assert!(status.success(), "{status} {stderr}");
}

#[test]
fn calls_that_have_no_place_in_a_broker_end_it() {
    for action in ["exec", "chroot", "ptrace"] {
        let (status, stderr) = in_child(Seccomp::Kill, action);
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{action}: {status} {stderr}");
    }
}

#[test]
fn in_errno_mode_they_fail() {
    for action in ["exec", "chroot", "ptrace"] {
        let (status, stderr) = in_child(Seccomp::Errno, action);
        assert!(status.success(), "{action}: {status} {stderr}");
    }
}

#[test]
fn new_connections_and_processes_are_refused_in_either_mode() {
    for mode in [Seccomp::Kill, Seccomp::Errno] {
        let (status, stderr) = in_child(mode, "refused");
        assert!(status.success(), "{mode:?}: {status} {stderr}");
    }
}

#[test]
fn files_that_are_not_the_brokers_are_out_of_reach() {
    let (status, stderr) = in_child(Seccomp::Off, "files");
    assert!(status.success(), "{status} {stderr}");
}

#[test]
fn connections_are_no_more_than_descriptors_allow() {
    assert_eq!(raise_descriptor_limit(10), 10);
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if hard < u64::from(u32::MAX) {
        assert_eq!(u64::from(raise_descriptor_limit(u32::MAX)), hard - u64::from(RESERVED_DESCRIPTORS));
    }
}
