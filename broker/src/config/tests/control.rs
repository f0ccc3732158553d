//! The control plane as an upstream.

use base64::Engine;
use dvx_proto::ControlAddress;
use tempfile::TempDir;

use super::*;

const KEY: &str = "dvxe_visible";

/// A directory with a key and a certificate, and the section of a configuration.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put("key", KEY, 0o600);
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(certificate.cert.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        files.put("ca.pem", &pem, 0o644);
        files
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn parse(&self, lines: &str) -> Result<Config, String> {
        let directory = self.0.path().display();
        parse(&format!(
            "enclave = \"e\"\n[upstream]\nkind = \"control\"\n{}",
            lines.replace("DIR", &directory.to_string())
        ))
    }

    /// The error of a configuration that is sound but for the files.
    fn error(&self) -> String {
        self.parse(SOUND).unwrap_err()
    }
}

const SOUND: &str = "url = \"https://control.example:8470\"\napi_key_file = \"DIR/key\"\nca_file = \"DIR/ca.pem\"\n\
    max_stale = \"5m\"\n";

#[test]
fn the_control_planes_keys_are_read_with_what_their_files_hold() {
    let files = Files::new();
    files.put("key", &format!("{KEY}\n"), 0o640);
    let config = files.parse(SOUND).unwrap();
    let UpstreamConfig::Control(control) = &config.upstream else { panic!() };
    assert_eq!(control.url, ControlAddress::Https { host: "control.example".to_owned(), port: 8470 });
    assert_eq!(control.api_key.expose_secret(), KEY.as_bytes());
    assert_eq!(control.roots.len(), 1);
    assert_eq!(config.max_stale, Duration::from_secs(300));
    assert!(!format!("{config:?}").contains(KEY));
    let unix = files.parse("url = \"unix:///run/dvx/control.sock\"\napi_key_file = \"DIR/key\"\n").unwrap();
    let UpstreamConfig::Control(control) = &unix.upstream else { panic!() };
    assert_eq!(control.url, ControlAddress::Unix("/run/dvx/control.sock".into()));
    assert_eq!(config.fixed_differences(&unix), ["upstream"]);
}

#[test]
fn a_key_that_others_can_read_or_write_is_refused() {
    let files = Files::new();
    for (mode, why) in [
        (0o604, "can be read by other users (mode 0604); expected at most 0640: chmod o-rwx,g-w"),
        (0o602, "is writable by other users (mode 0602)"),
        (0o660, "is writable by other users (mode 0660)"),
    ] {
        files.put("key", KEY, mode);
        let error = files.error();
        assert!(error.starts_with("/b.toml:5: upstream.api_key_file: "), "{error}");
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_is_no_key_is_refused_and_not_shown() {
    let files = Files::new();
    for text in
        ["", "\n", "glpat-visible", "dvxe_", "dvxe_vis ible", "dvxe_visible\ndvxe_visible", "dvxe_visiblé"]
    {
        files.put("key", text, 0o600);
        let error = files.error();
        assert!(error.contains("key is not an enclave's API key; expected the one line"), "{error}");
        assert!(!error.contains("visib"), "{error}");
    }
    fs::remove_file(files.0.path().join("key")).unwrap();
    assert!(files.error().contains("key cannot be read: No such file"));
}

#[test]
fn certificates_that_cannot_be_used_are_refused() {
    let files = Files::new();
    for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        files.put("ca.pem", text, 0o644);
        assert!(files.error().contains("upstream.ca_file: "), "{text}");
        assert!(files.error().contains("ca.pem has no certificate that can be used: "), "{text}");
    }
}

#[test]
fn addresses_that_are_no_control_planes_are_refused() {
    let files = Files::new();
    for url in ["http://control.example", "https://control.example/path", "unix://run/x", "control"] {
        let error = files.parse(&format!("url = \"{url}\"\napi_key_file = \"DIR/key\"\n")).unwrap_err();
        assert_eq!(
            error,
            format!(
                "/b.toml:4: upstream.url: \"{url}\" is not a control plane's address; expected https://host[:port] or \
                 unix:///path"
            )
        );
    }
    let error = files.parse("url = \"https://u:hunter2@h\"\napi_key_file = \"DIR/key\"\n").unwrap_err();
    assert!(error.contains("(not shown) is not a control plane's address"), "{error}");
}

#[test]
fn all_errors_of_the_section_are_reported() {
    let files = Files::new();
    let error = files.parse("path = \"/u\"\nca_file = \"ca.pem\"\nmax_stale = \"0s\"\n").unwrap_err();
    let keys: Vec<_> = error.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        ["upstream.url", "upstream.api_key_file", "upstream.path", "upstream.ca_file", "upstream.max_stale"]
    );
}

#[test]
fn agents_beside_a_control_plane_are_an_error() {
    let files = Files::new();
    let error = files.parse(&format!("{SOUND}[[agents]]\nname = \"a\"\nuser = \"agent1\"\n")).unwrap_err();
    assert_eq!(
        error,
        "/b.toml:8: agents: with upstream.kind = \"control\" the agents come from the control plane; expected none here"
    );
}

#[test]
fn the_admin_socket_is_known_without_the_key() {
    let files = Files::new();
    let text = "enclave = \"e\"\n[listen]\nadmin = \"/a/b.sock\"\n[upstream]\nkind = \"control\"\napi_key_file = \"/nox\"\n";
    files.put("broker.toml", text, 0o600);
    let path = files.0.path().join("broker.toml");
    assert_eq!(Config::admin_socket(&path, &|_| None).unwrap(), Path::new("/a/b.sock"));
    files.put("broker.toml", "[listen]\nadmin = 1\n", 0o600);
    assert!(Config::admin_socket(&path, &|_| None).is_err());
}
