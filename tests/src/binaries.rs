//! Where the programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of one of the workspace's programs, beside the running test.
///
/// `cargo test` builds them before any test runs; where somebody ran a single test on a fresh tree they are
/// built here.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let directory = directory_of_programs();
    let path = directory.join(name);
    if !path.exists() {
        BUILT.get_or_init(|| build(&directory));
    }
    assert!(path.exists(), "{} is missing; run cargo build --workspace", path.display());
    path
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
