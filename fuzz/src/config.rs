//! Configuration files of the broker and of the control plane.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::control::config::Config;
use crate::{choices, contains, directory, replace};

/// A password, an enclave's key and a key-encryption key. What an operator puts into the wrong place does not
/// belong into a log.
const SECRETS: [(&[u8], &str); 3] = [
    (b":@PASSWORD@@", ":pw-8f2e61c07b@"),
    (b"@KEY@", "dvxe_6f1D0c9ab35e47288d21f0a4b7c3e956"),
    (b"@KEK@", "q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng="),
];

thread_local! {
    static FILES: RefCell<Option<(TempDir, PathBuf)>> = const { RefCell::new(None) };
}

/// The first byte says whose file it is.
pub fn run(input: &[u8]) {
    let Some((choices, text)) = choices(input) else { return };
    let mut text = text.to_vec();
    for (placeholder, secret) in SECRETS {
        text = replace(&text, placeholder, secret.as_bytes());
    }
    FILES.with_borrow_mut(|files| {
        let (directory, path) = files.get_or_insert_with(prepare);
        std::fs::write(&*path, &text).expect("a file");
        let place = directory.path().to_str().expect("a path").to_owned();
        let env = move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| place.clone());
        if choices & 1 == 0 { check_broker(path, &env) } else { check_control(path, &env) }
    });
}

/// The files that a configuration can name.
fn prepare() -> (TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let key = directory.path().join("key");
    std::fs::write(&key, SECRETS[1].1).expect("a file");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let path = directory.path().join("dvx.toml");
    (directory, path)
}

fn check_broker(path: &Path, env: &dyn Fn(&str) -> Option<String>) {
    let read = || dvx_broker::fuzzing::configuration(path, env);
    let config = match read() {
        Ok(config) => config,
        Err(errors) => return check_errors(path, &errors),
    };
    assert!(!config.is_exposed && config.lowest_limit >= 1, "{config:?}");
    assert!((1..=30 * 86_400).contains(&config.max_stale_seconds), "{config:?}");
    let (written, in_force) = config.agents;
    assert!(in_force == written, "{config:?}");
    assert_eq!(config.lost_agent, None, "{config:?}");
    let text = std::fs::read(path).expect("the file");
    let is_from_its_own_file =
        config.debug.contains(SECRETS[1].1) && !contains(&text, SECRETS[1].1.as_bytes());
    assert!(!is_from_its_own_file, "{config:?}");
    assert_eq!(read(), Ok(config), "the same file says the same");
}

fn check_control(path: &Path, env: &dyn Fn(&str) -> Option<String>) {
    let config = match Config::load(path, env) {
        Ok(config) => config,
        Err(errors) => {
            return check_errors(path, &errors.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    };
    assert!(config.listen.admin.is_none_or(|address| address.ip().is_loopback()), "{config:?}");
    assert!(config.listen.unix.is_some() || config.listen.https.is_some(), "{config:?}");
    assert!(config.retention.as_secs() >= 86_400, "{config:?}");
    let kinds = ["sqlite:///", "postgres://", "postgresql://"];
    assert!(kinds.iter().any(|kind| config.database.url().starts_with(kind)), "{config:?}");
    // The path of a file is named, whatever is in it.
    let is_file = config.database.url().starts_with("sqlite:///");
    assert!(is_file || !format!("{config:?}").contains("pw-8f2e61c07b@"), "{config:?}");
    assert!(Config::load(path, env).is_ok_and(|again| again == config), "the same file says the same");
}

/// Each error is one line that says where it is, and none repeats a secret.
fn check_errors(path: &Path, errors: &[String]) {
    assert!(!errors.is_empty(), "refused without a reason");
    for error in errors {
        assert!(error.starts_with(path.to_str().expect("a path")), "{error}");
        assert!(!error.chars().any(char::is_control), "more than a line: {error:?}");
        assert!(error.chars().count() < 2000, "a long story: {error}");
        // A path has to be named, whatever its operator has put into it.
        let after_the_file = error.split(": ").skip(1);
        let shown: Vec<&str> = after_the_file.take_while(|part| !part.starts_with('/')).collect();
        for (_, secret) in SECRETS {
            assert!(!shown.concat().contains(secret), "shows a secret: {error}");
        }
    }
}
