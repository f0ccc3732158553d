//! Control planes that are reached over TLS.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use base64::Engine;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::stub::{Stub, ok};
use crate::support::{Outcome, dvx, run};

const WHOAMI: &str = r#"{"name":"ann","role":"admin","organisation":"default"}"#;

/// A server with a certificate of its own for this name; gives its port, and leaves the certificate in `ca.pem`.
fn listen(base: &Path, name: &str, stub: Stub) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(certificate.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    fs::write(base.join("ca.pem"), pem).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut configuration = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    let configuration = Arc::new(configuration);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&configuration)).unwrap();
            stub.serve_both_ways(StreamOwned::new(connection, stream));
        }
    });
    port
}

fn whoami(base: &Path, port: u16, ca_file: bool) -> Outcome {
    let mut command = dvx(base, "whoami");
    command.env("DVX_CONTROL_URL", format!("https://localhost:{port}"));
    command.env("DVX_OPERATOR_TOKEN", "dvxo_planted");
    if ca_file {
        command.env("DVX_CA_FILE", base.join("ca.pem"));
    }
    run(&mut command, "")
}

#[test]
fn a_certificate_of_ones_own_authority_is_trusted_once_it_is_named() {
    let base = tempfile::tempdir().unwrap();
    let stub = Stub::new(|_, _| ok(WHOAMI));
    let port = listen(base.path(), "localhost", stub.clone());
    let refused = whoami(base.path(), port, false);
    assert_eq!((refused.status, refused.stdout.as_str()), (4, ""));
    let expected = format!("dvx: the certificate of https://localhost:{port} is not trusted: ");
    assert!(refused.stderr.starts_with(&expected), "{refused:?}");
    assert!(refused.stderr.contains("\nhint: if it has an authority of its own"), "{refused:?}");
    assert!(stub.asked().is_empty());
    let trusted = whoami(base.path(), port, true);
    assert_eq!(trusted.status, 0, "{trusted:?}");
    assert_eq!(stub.asked()[0].header("host"), Some(format!("localhost:{port}").as_str()));
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let stub = Stub::new(|_, _| ok(WHOAMI));
    let port = listen(base.path(), "elsewhere.example", stub.clone());
    assert_eq!(whoami(base.path(), port, true).status, 4);
    assert!(stub.asked().is_empty());
}

#[test]
fn a_login_remembers_the_certificates() {
    let base = tempfile::tempdir().unwrap();
    let stub = Stub::new(|_, _| ok(WHOAMI));
    let port = listen(base.path(), "localhost", stub);
    let line = format!("login --url https://localhost:{port} --ca-file ca.pem --token-stdin");
    let login = run(&mut dvx(base.path(), &line), "dvxo_planted");
    assert_eq!(login.status, 0, "{login:?}");
    assert_eq!(run(dvx(base.path(), "whoami").current_dir("/"), "").status, 0);
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let base = tempfile::tempdir().unwrap();
    let mut command = dvx(base.path(), "whoami");
    command.env("DVX_CONTROL_URL", "https://localhost:1").env("DVX_CA_FILE", "/no/such/file");
    let outcome = run(&mut command, "");
    assert_eq!(outcome.status, 2);
    assert!(
        outcome.stderr.starts_with(
            "dvx: cannot use the certificates in /no/such/file: no such file or directory\nhint: "
        ),
        "{outcome:?}"
    );
    fs::write(base.path().join("empty"), "").unwrap();
    let outcome = run(command.env("DVX_CA_FILE", base.path().join("empty")), "");
    assert!(outcome.stderr.contains("it has no certificate in PEM form"), "{outcome:?}");
}

#[test]
fn what_does_not_speak_tls_is_no_secure_connection() {
    let base = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    let outcome = whoami(base.path(), port, false);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, ""));
    let expected = format!("dvx: no secure connection to https://localhost:{port}: ");
    assert!(outcome.stderr.starts_with(&expected), "{outcome:?}");
}
