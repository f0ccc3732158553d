use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::*;
use crate::config::Seccomp;

/// Tests in a process of their own: what is given up cannot be had back.
const CHILD: &str = "DVX_TEST_SANDBOX_CHILD";

/// Runs `child` below in a process that is confined in this mode, in a directory like a control plane's.
fn in_child(mode: Seccomp, action: &str) -> (ExitStatus, String) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["data", "run", "tls", "elsewhere"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    for name in ["data/kek", "tls/cert.pem", "tls/key.pem", "elsewhere/file"] {
        fs::write(root.join(name), "x").unwrap();
    }
    let (shown, mode) = (root.display(), mode.as_str());
    let configuration = format!(
        "[database]\nurl = \"sqlite://{shown}/data/control.db\"\n[kek]\nfile = \"{shown}/elsewhere/kek\"\n\
         [listen]\nunix = \"{shown}/run/control.sock\"\nhttps = \"127.0.0.1:0\"\n\
         cert_file = \"{shown}/tls/cert.pem\"\nkey_file = \"{shown}/tls/key.pem\"\n\
         [hardening]\nseccomp = \"{mode}\"\n"
    );
    fs::write(root.join("control.toml"), configuration).unwrap();
    fs::set_permissions(root.join("control.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::tests::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, action)
        .env_remove("RUST_BACKTRACE")
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn child() {
    let Ok(action) = std::env::var(CHILD) else { return };
    let config = Config::load(&std::env::current_dir().unwrap().join("control.toml"), &|_| None).unwrap();
    early().unwrap();
    if action == "files" {
        return files(&config);
    }
    confine(&config).unwrap();
    let refused = Err(Errno::EPERM);
    match action.as_str() {
        "work" => work(),
        "exec" => assert_eq!(nix::unistd::execv(c"/bin/true", &[c"true"]).unwrap_err(), Errno::EPERM),
        "chroot" => assert_eq!(nix::unistd::chroot("/"), refused),
        "ptrace" => assert_eq!(nix::sys::ptrace::attach(nix::unistd::Pid::parent()), refused),
        "refused" => refusals(),
        other => panic!("{other}"),
    }
}

/// What the tests of the whole program cannot tell apart from luck: names, threads, new certificates.
fn work() {
    let listener = std::net::ToSocketAddrs::to_socket_addrs("no-such-host.invalid:1");
    assert!(listener.is_err());
    fs::write("data/control.db-journal", "x").unwrap();
    fs::remove_file("data/control.db-journal").unwrap();
    fs::read("tls/key.pem").unwrap();
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(status.contains("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"), "{status}");
    assert_eq!(nix::unistd::User::from_name("no-such-user-here").unwrap(), None);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    });
    let unwound = std::panic::catch_unwind(|| {
        std::panic::set_hook(Box::new(|_| ()));
        panic!("a request that goes wrong");
    });
    assert!(unwound.is_err());
}

/// What libraries may try fails and does not end the process.
fn refusals() {
    let refused = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    refused(TcpListener::bind("127.0.0.1:0").unwrap_err());
    refused(UdpSocket::bind("127.0.0.1:0").unwrap_err());
    refused(Command::new("/bin/true").status().unwrap_err());
    for family in [AddressFamily::Netlink, AddressFamily::Packet, AddressFamily::Vsock, AddressFamily::Alg] {
        assert_eq!(
            socket(family, SockType::Raw, SockFlag::empty(), None).unwrap_err(),
            Errno::EPERM,
            "{family:?}"
        );
    }
    assert!(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).is_err());
    // Nobody listens there, but asking is allowed: instances and databases are anywhere.
    let error = TcpStream::connect("127.0.0.1:1").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
}

fn files(config: &Config) {
    let status = files::restrict(config).unwrap();
    if files::describe(&status) == files::UNAVAILABLE {
        skipped!("this kernel has no Landlock");
        return;
    }
    assert!(fs::read("elsewhere/file").is_err());
    assert!(fs::read("control.toml").is_err());
    for path in ["elsewhere/new", "tls/key.pem", "run/new", "/tmp/dvx-new", "/var/tmp/dvx-new"] {
        assert!(!Path::new(path).exists() || path.starts_with("tls"), "{path}");
        assert!(fs::write(path, "x").is_err(), "{path}");
    }
    fs::read("tls/cert.pem").unwrap();
    fs::write("data/control.db-wal", "x").unwrap();
}

#[test]
fn a_control_plane_that_does_its_work_meets_no_refusal() {
    for mode in [Seccomp::Kill, Seccomp::Errno] {
        let (status, stderr) = in_child(mode, "work");
        assert!(status.success(), "{mode:?}: {status} {stderr}");
    }
}

#[test]
fn calls_that_have_no_place_in_a_control_plane_end_it() {
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
fn new_listeners_and_processes_are_refused_in_either_mode() {
    for mode in [Seccomp::Kill, Seccomp::Errno] {
        let (status, stderr) = in_child(mode, "refused");
        assert!(status.success(), "{mode:?}: {status} {stderr}");
    }
}

#[test]
fn files_that_are_not_the_control_planes_are_out_of_reach() {
    let (status, stderr) = in_child(Seccomp::Off, "files");
    assert!(status.success(), "{status} {stderr}");
}
