use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use base64::Engine;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

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
        load(&TlsFiles { cert: self.path("cert"), key: self.path("key") }, &arena())
    }
}

fn arena() -> Arena {
    Arena::new(false).unwrap()
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
    let mixed = load(&TlsFiles { cert: one.path("cert"), key: two.path("key") }, &arena());
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

/// A certificate of a key, which is written in this form.
fn served(key: &KeyPair, label: &str, der: &[u8]) -> (Place, CertificateDer<'static>) {
    let place = Place { directory: tempfile::tempdir().unwrap() };
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(key).unwrap().der().clone();
    place.write("cert", &pem("CERTIFICATE", &certificate), 0o644);
    place.write("key", &pem(label, der), 0o600);
    (place, certificate)
}

/// Both sides of a handshake, up to where the client has found the server to have the certificate's key.
fn shake_hands(server: Arc<ServerConfig>, certificate: CertificateDer<'static>, version: usize) {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&rustls::ALL_VERSIONS[version..=version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets().unwrap();
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

/// A handshake with each version of TLS.
#[track_caller]
fn proves_itself(key: &KeyPair, label: &str, der: &[u8]) {
    let (place, certificate) = served(key, label, der);
    for version in 0..rustls::ALL_VERSIONS.len() {
        shake_hands(place.load().unwrap(), certificate.clone(), version);
    }
}

#[test]
fn keys_on_every_curve_and_in_every_form_prove_themselves() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        proves_itself(&key, "PRIVATE KEY", &key.serialize_der());
    }
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    // PKCS #8 has the other form within.
    proves_itself(&p256, "EC PRIVATE KEY", &p256.serialize_der()[29..]);
}

/// No library here makes one.
#[test]
fn an_rsa_key_in_either_form_proves_itself() {
    let Ok(made) = Command::new("openssl").args(["genpkey", "-algorithm", "RSA"]).output() else {
        skipped!("an_rsa_key_in_either_form_proves_itself: it needs openssl");
        return;
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&made.stdout).unwrap();
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap();
    proves_itself(&key, "PRIVATE KEY", &key.serialize_der());
    proves_itself(&key, "RSA PRIVATE KEY", &key.serialize_der()[26..]);
}
