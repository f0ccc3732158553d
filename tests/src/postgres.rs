//! A PostgreSQL server of a test's own, on loopback.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::User;
use tempfile::TempDir;

use crate::control::free_address;
use crate::ground::give;
use crate::{CallerSpec, Daemon, clock, run, skip, users};

/// A running server; it goes away with this value.
pub struct Postgres {
    programs: PathBuf,
    directory: TempDir,
    uid: u32,
    address: SocketAddr,
    server: Option<Daemon>,
}

impl Postgres {
    /// Starts a server, for the first line of a test; says why and is `None` where there is no PostgreSQL.
    pub fn start(test: &str) -> Option<Self> {
        let Some((programs, uid)) = installation() else {
            skip(test, "PostgreSQL is not installed, or there is no user to run it");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("dvx-pg-").tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        give(directory.path(), uid);
        let mut server = Self { programs, directory, uid, address: free_address(), server: None };
        let data = server.data();
        run(server
            .command("initdb")
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8"])
            .args(["--locale=C", "-D"])
            .arg(&data))
        .success();
        server.restart();
        Some(server)
    }

    /// The URL of the database that is there from the beginning.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of any database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.address)
    }

    /// Makes a database and gives its URL.
    #[track_caller]
    pub fn create_database(&self, name: &str) -> String {
        self.query(&format!("create database {name}"));
        self.url_of(name)
    }

    /// What `psql` prints for a statement, columns separated by `|`.
    #[track_caller]
    pub fn query(&self, statement: &str) -> String {
        let mut command = self.command("psql");
        run(command.arg("--dbname").arg(self.url()).args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement]))
            .success()
    }

    /// Everything that the server wrote lies below.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the server as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts the server after [`Postgres::kill`].
    #[track_caller]
    pub fn restart(&mut self) {
        // Processes of the one before may still be on their way out, and the new one does not start beside them.
        clock::eventually("PostgreSQL starts", || {
            let mut server = Daemon::start(&mut self.serve(), &self.directory.path().join("log"));
            let up = clock::within(Duration::from_secs(20), || {
                let ready = run(&mut self.ready()).status == 0;
                (ready || server.ended().is_some()).then_some(ready)
            });
            self.server = Some(server);
            up == Some(true)
        });
    }

    fn serve(&self) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.address.port()),
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    fn ready(&self) -> Command {
        let mut command = self.command("pg_isready");
        command.args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.address.port().to_string()]);
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = CallerSpec::user(self.uid).command(&self.programs.join(program));
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        if server.ended().is_none() {
            // A shutdown that does not wait for clients.
            server.signal(Signal::SIGINT);
            clock::within(Duration::from_secs(10), || server.ended());
        }
    }
}

/// The newest installation, and a user who may run it: it refuses to be root.
fn installation() -> Option<(PathBuf, u32)> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    let programs = versions.filter(|path| path.join("initdb").exists()).max()?;
    let uid = if users::is_root() {
        User::from_name("postgres").ok().flatten()?.uid.as_raw()
    } else {
        users::own_uid()
    };
    Some((programs, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_survives_a_crash() {
        let Some(mut postgres) = Postgres::start("what_was_committed_survives_a_crash") else { return };
        postgres.query("create table t as select 7 as n");
        postgres.kill();
        postgres.restart();
        assert_eq!(postgres.query("select n from t"), "7\n");
    }
}
