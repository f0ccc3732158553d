use std::fs;

use super::*;

/// A file of the package and what it should hold.
fn is_current(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("DVX_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{} is not what the program prints: run this test with DVX_UPDATE=1",
        path.display()
    );
}

#[test]
fn the_packaged_manual_is_current() {
    is_current("man/dvx-control.8", &man::render(Some(man::Page::Control)));
    is_current("man/control.toml.5", &man::render(Some(man::Page::Config)));
}

#[test]
fn the_packaged_completions_are_current() {
    is_current("completions/dvx-control.bash", &completions(clap_complete::Shell::Bash));
    is_current("completions/_dvx-control", &completions(clap_complete::Shell::Zsh));
    is_current("completions/dvx-control.fish", &completions(clap_complete::Shell::Fish));
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}
