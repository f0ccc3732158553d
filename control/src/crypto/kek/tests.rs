use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

fn written(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kek");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

fn arena() -> Arena {
    Arena::new(false).unwrap()
}

fn good() -> String {
    STANDARD.encode([7; 32])
}

#[test]
fn a_made_key_is_read_back_and_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kek");
    let made = Kek::create(&path, &arena()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(Kek::read(&path, &arena()).unwrap().id(), made.id());
    assert!(matches!(Kek::create(&path, &arena()), Err(KekError::Io { .. })));
    assert_eq!(Kek::read(&path, &arena()).unwrap().id(), made.id());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    for mode in [0o600, 0o400, 0o440, 0o640] {
        let (_directory, path) = written(good().as_bytes(), mode);
        assert!(Kek::read(&path, &arena()).is_ok(), "{mode:o}");
    }
    for mode in [0o644, 0o604, 0o660, 0o602, 0o601] {
        let (_directory, path) = written(good().as_bytes(), mode);
        assert!(matches!(Kek::read(&path, &arena()), Err(KekError::Mode { .. })), "{mode:o}");
    }
}

#[test]
fn anything_but_32_bytes_in_base64_is_refused_without_being_repeated() {
    let with_newline = format!("{}\n", good());
    let (_directory, path) = written(with_newline.as_bytes(), 0o600);
    assert!(Kek::read(&path, &arena()).is_ok());
    let short = STANDARD.encode([7; 31]);
    let long = STANDARD.encode([7; 33]);
    let two = format!("{}\n\n", good());
    for bad in ["", "\n", "hunter2", &short, &long, &two, &format!(" {}", good())] {
        let (_directory, path) = written(bad.as_bytes(), 0o600);
        let Err(error) = Kek::read(&path, &arena()) else { panic!("{bad:?}") };
        assert!(matches!(error, KekError::Malformed(_)), "{bad:?}");
        assert!(!error.to_string().contains("hunter2"));
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Kek::read(directory.path(), &arena()), Err(KekError::NotAFile(_))));
    assert!(matches!(Kek::read(&directory.path().join("none"), &arena()), Err(KekError::Io { .. })));
}

#[test]
fn one_key_wraps_another_and_shows_which_it_is() {
    let (a, b) = (Kek::generate(), Kek::generate());
    assert_ne!(a.id(), b.id());
    let wrapped = b.wrapped_under(&a);
    assert_eq!(a.unwrap_other(b.id(), &wrapped).unwrap().unwrap().id(), b.id());
    assert!(a.unwrap_other(a.id(), &wrapped).unwrap().is_none());
    assert!(Kek::generate().unwrap_other(b.id(), &wrapped).unwrap().is_none());
    assert!(a.matches(&a.probe()) && !b.matches(&a.probe()));
}
