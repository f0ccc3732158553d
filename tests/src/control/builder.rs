//! How a control plane comes to be.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{ControlPlane, Replica, write_private};
use crate::{Authority, Ground, Identity, Planted, Postgres, eventually, faketime, run, users};

/// How a control plane will be.
pub struct ControlBuilder {
    postgres: Option<Postgres>,
    replicas: usize,
    settings: Vec<(String, String, String)>,
    movable_clock: bool,
}

impl ControlBuilder {
    pub(super) fn new() -> Self {
        Self { postgres: None, replicas: 1, settings: Vec::new(), movable_clock: false }
    }

    /// On a database server of its own instead of SQLite.
    #[must_use]
    pub fn postgres(mut self, postgres: Postgres) -> Self {
        self.postgres = Some(postgres);
        self
    }

    /// Several processes on one database.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Sets a key of the configuration, in TOML's syntax; an empty value leaves it out.
    #[must_use]
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        self.settings.push((table.into(), key.into(), value.into()));
        self
    }

    /// Puts the replicas' wall clock under [`ControlPlane::shift_clock`]; only where
    /// [`faketime_library`](crate::faketime_library) is there.
    #[must_use]
    pub fn movable_clock(mut self) -> Self {
        self.movable_clock = true;
        self
    }

    /// Makes directories, certificates and configurations. Nothing runs yet, and there is no database.
    pub fn build(self) -> ControlPlane {
        let uid = if users::is_root() { users::fresh_uid() } else { users::own_uid() };
        let ground = Ground::new(uid);
        ground.directory("data", uid, 0o700);
        ground.directory("keys", uid, 0o700);
        let authority = Authority::new();
        fs::write(ground.path("etc/ca.pem"), authority.pem()).unwrap();
        write_identity(&ground, &authority.identity(), uid);
        let replicas: Vec<Replica> = (0..self.replicas).map(|number| Replica::new(&ground, number)).collect();
        for replica in &replicas {
            fs::write(&replica.config, self.render(&ground, replica)).unwrap();
        }
        let planted = Planted::default();
        let mut control = ControlPlane {
            ground,
            planted,
            uid,
            authority,
            replicas,
            postgres: self.postgres,
            token: String::new(),
            environment: Vec::new(),
            clock: None,
        };
        if self.movable_clock {
            control.shift_clock(0);
            control.clock = Some(faketime::library().expect("asked for by tests that found it"));
        }
        control
    }

    /// The same, initialised and running.
    #[track_caller]
    pub fn start(self) -> ControlPlane {
        let mut control = self.build();
        control.initialise();
        control.start_all();
        control
    }

    fn render(&self, ground: &Ground, replica: &Replica) -> String {
        let database = match &self.postgres {
            Some(postgres) => postgres.url(),
            None => format!("sqlite://{}", ground.path("data/control.db").display()),
        };
        let path = |path: &Path| format!("{path:?}");
        let mut values = vec![
            ("database", "url", format!("{database:?}")),
            ("kek", "file", path(&ground.path("keys/kek"))),
            ("listen", "unix", path(&replica.socket)),
            ("listen", "https", format!("\"{}\"", replica.https)),
            ("listen", "cert_file", path(&ground.path("etc/tls.pem"))),
            ("listen", "key_file", path(&ground.path("keys/tls.key"))),
            ("listen", "admin", format!("\"{}\"", replica.admin)),
        ];
        for (table, key, value) in &self.settings {
            values.retain(|(known_table, known_key, _)| known_table != table || known_key != key);
            values.push((table, key, value.clone()));
        }
        values.sort();
        let mut text = String::new();
        let mut current = "";
        for (table, key, value) in values.iter().filter(|(_, _, value)| !value.is_empty()) {
            if *table != current {
                write!(text, "\n[{table}]\n").unwrap();
                current = table;
            }
            writeln!(text, "{key} = {value}").unwrap();
        }
        text
    }
}

impl ControlPlane {
    /// Makes the database and the first operator.
    #[track_caller]
    pub fn initialise(&mut self) {
        let outcome = run(&mut self.command(&["init"]));
        let token = outcome.success().trim_end().to_owned();
        assert!(token.starts_with("dvxo_"), "init prints a token alone: {}", outcome.stderr);
        self.planted.remember("the first operator's token", &token);
        let kek = fs::read_to_string(self.kek_path()).expect("init makes the key");
        self.planted.remember("the key-encryption key", kek.trim_end());
        self.assert_clean("init's stderr", outcome.stderr.as_bytes());
        self.token = token;
    }

    /// Gives the replicas another certificate and key, as whoever renews one does.
    #[track_caller]
    pub fn renew_certificate(&mut self) {
        let identity = self.authority.identity();
        self.show_certificate(&identity);
    }

    /// The same with this one.
    #[track_caller]
    pub fn show_certificate(&mut self, identity: &Identity) {
        const DONE: &str = "certificate and key were read again";
        write_identity(&self.ground, identity, self.uid);
        for replica in &mut self.replicas {
            let times = |replica: &Replica| replica.log().matches(DONE).count();
            let before = times(replica);
            replica.daemon().signal(Signal::SIGHUP);
            eventually(DONE, || times(replica) > before);
        }
    }
}

fn write_identity(ground: &Ground, identity: &Identity, owner: u32) {
    fs::write(ground.path("etc/tls.pem"), identity.certificate_pem()).unwrap();
    write_private(&ground.path("keys/tls.key"), &identity.key_pem(), owner);
}
