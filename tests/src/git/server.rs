//! The server.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::request::{Request, answer};
use super::{cgi, lfs};
use crate::command::run;

/// Serves the repositories below a directory to whoever knows one of the accepted tokens.
pub struct GitServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    root: PathBuf,
    base: String,
    accepted: Mutex<BTreeSet<String>>,
    seen: Mutex<Vec<Seen>>,
    lfs: lfs::Store,
    ending: AtomicBool,
}

/// A request that was answered.
#[derive(Debug, Clone)]
struct Seen {
    what: String,
    password: Option<String>,
    accepted: bool,
}

impl GitServer {
    /// Starts on a free loopback port.
    pub fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().unwrap();
        drop(fs::create_dir_all(root));
        let state = Arc::new(State {
            root: root.to_path_buf(),
            base: format!("http://{address}"),
            accepted: Mutex::default(),
            seen: Mutex::default(),
            lfs: lfs::Store::default(),
            ending: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || accept(&listener, &shared));
        Self { address, state, thread: Some(thread) }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.state.base
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// From now on accepts this token too.
    pub fn accept(&self, token: &str) {
        self.state.accepted.lock().unwrap().insert(token.to_owned());
    }

    /// From now on refuses this token.
    pub fn revoke(&self, token: &str) {
        self.state.accepted.lock().unwrap().remove(token);
    }

    /// Makes an empty repository and gives its URL.
    pub fn repository(&self, name: &str) -> String {
        let path = self.path_of(name);
        initialise(&path, &self.state.root);
        format!("{}/{name}", self.url())
    }

    /// Where a repository lies.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.state.root.join(name)
    }

    /// How many requests were refused although they carried a password.
    pub fn refusals(&self) -> usize {
        self.state
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.password.is_some() && !seen.accepted)
            .count()
    }

    /// How many requests were answered with an accepted token, of those whose `METHOD /path` contains a text.
    pub fn served(&self, what: &str) -> usize {
        self.state
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.accepted && seen.what.contains(what))
            .count()
    }

    /// How many requests came in all.
    pub fn requests(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// Every password that was presented.
    pub fn passwords(&self) -> BTreeSet<String> {
        self.state.seen.lock().unwrap().iter().filter_map(|seen| seen.password.clone()).collect()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Makes an empty repository that takes pushes over HTTP.
pub(crate) fn initialise(path: &Path, home: &Path) {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1");
    run(command.args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(path)).success();
    let config = path.join("config");
    let text = fs::read_to_string(&config).unwrap() + "[http]\n\treceivepack = true\n";
    fs::write(config, text).unwrap();
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let state = Arc::clone(state);
        // A client that hangs up is no failure of the server.
        thread::spawn(move || drop(serve(&stream, &state)));
    }
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    let request = Request::read(stream)?;
    let password = request.password();
    let accepted =
        password.as_ref().is_some_and(|password| state.accepted.lock().unwrap().contains(password));
    let what = format!("{} {}", request.method, request.path);
    state.seen.lock().unwrap().push(Seen { what, password, accepted });
    if !accepted {
        let challenge = [("WWW-Authenticate", "Basic realm=\"dvx test\"")];
        return answer(stream, "401 Unauthorized", &challenge, b"a token is needed\n");
    }
    if lfs::is_lfs(&request.path) {
        return lfs::serve(stream, &request, &state.lfs, &state.base);
    }
    cgi::serve(stream, &request, &state.root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ground, users};

    #[test]
    fn git_clones_with_an_accepted_token_only() {
        let ground = Ground::new(users::own_uid());
        let server = GitServer::start(&ground.path("repositories"));
        let url = server.repository("r.git").replace("http://", "http://oauth2:good@");
        let clone = |to: &str| {
            let mut command = Command::new("git");
            command
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", ground.root())
                .env("GIT_TERMINAL_PROMPT", "0");
            run(command.args(["clone", "--quiet", &url]).arg(ground.path(to)))
        };
        assert_ne!(clone("one").status, 0);
        server.accept("good");
        clone("two").success();
        server.revoke("good");
        assert_ne!(clone("three").status, 0);
        assert!(server.passwords().contains("good"));
    }
}
