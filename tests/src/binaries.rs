//! Where the programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory of the programs that are to be tested, if not those beside the tests.
const PROGRAMS: &str = "DVX_TEST_PROGRAMS";

/// What is tested. Other programs belong to the tests.
const TESTED: [&str; 4] = ["dvx", "dvx-broker", "dvx-control", "dvxir"];

/// The path of one of the workspace's programs, beside the running test unless another place is named.
///
/// `cargo test` builds them before any test runs; where somebody ran a single test on a fresh tree they are
/// built here.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let directory = directory_of_programs();
    if let Some(elsewhere) = programs_elsewhere().filter(|_| TESTED.contains(&name)) {
        let path = elsewhere.join(name);
        assert!(path.exists(), "{PROGRAMS}: {} is missing", path.display());
        return path;
    }
    let path = directory.join(name);
    if !path.exists() {
        BUILT.get_or_init(|| build(&directory));
    }
    assert!(path.exists(), "{} is missing; run cargo build --workspace", path.display());
    path
}

/// Where the programs are that are to be tested, if not beside the tests.
pub fn programs_elsewhere() -> Option<PathBuf> {
    std::env::var_os(PROGRAMS).map(PathBuf::from)
}

/// `target/<profile>`: a test's own executable lies in its `deps`.
pub(crate) fn directory_of_programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("an executable lies in a directory");
    if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps }.to_path_buf()
}

fn build(directory: &Path) {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = directory.parent().expect("a profile lies in the target directory");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile, "--bins", "--workspace", "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "building the programs failed");
}
