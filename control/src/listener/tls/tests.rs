use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// A certificate and its key.
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        place.write("cert", &pem("CERTIFICATE", made.cert.der()), 0o644);
        place.write("key", &pem("PRIVATE KEY", &made.signing_key.serialize_der()), 0o600);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        load(&TlsFiles { cert: self.path("cert"), key: self.path("key") })
    }
}

/// RFC 7468, without its line breaks, which readers do not need.
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn only_http_1_1_is_offered() {
    assert_eq!(Place::new().load().unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
}

#[test]
fn a_key_that_others_can_read_or_write_is_refused() {
    let place = Place::new();
    for (mode, fine) in [(0o400, true), (0o640, true), (0o604, false), (0o644, false), (0o620, false)] {
        fs::set_permissions(place.path("key"), Permissions::from_mode(mode)).unwrap();
        assert_eq!(place.load().is_ok(), fine, "{mode:o}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, two) = (Place::new(), Place::new());
    let mixed = load(&TlsFiles { cert: one.path("cert"), key: two.path("key") });
    assert!(matches!(mixed, Err(TlsError::Pair { .. })));
}

#[test]
fn what_is_not_a_certificate_or_a_key_is_named() {
    let place = Place::new();
    fs::write(place.path("cert"), "nothing").unwrap();
    assert!(matches!(place.load(), Err(TlsError::NoCertificate(_))));
    let place = Place::new();
    fs::write(place.path("key"), "-----BEGIN PRIVATE KEY-----\nplanted-value\n-----END").unwrap();
    let error = place.load().unwrap_err();
    assert!(matches!(error, TlsError::Key(_)));
    assert!(!format!("{error:?}").contains("planted"));
    fs::remove_file(place.path("key")).unwrap();
    assert!(matches!(place.load(), Err(TlsError::Io(..))));
}
