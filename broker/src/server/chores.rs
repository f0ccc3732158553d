//! What is done at intervals: agents' token files are renewed, and the service manager hears that requests
//! are answered.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::admin::status::View;
use crate::api::Api;
use crate::clock;
use crate::identity::{TokenFileProblem, TokenFiles};
use crate::systemd;
use crate::ticks::Ticks;
use crate::upstream::Degraded;

/// How often the agents' files are looked after; mostly there is nothing to do.
const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps a fresh token in every agent's file.
pub(super) struct TokenFileChore {
    files: TokenFiles,
    api: Arc<Api>,
    view: Arc<View>,
}

/// Lets others ask for the files to be looked after at once. The chore ends with it.
pub(super) struct TokenFilesHandle {
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl TokenFileChore {
    pub(super) fn new(files: TokenFiles, api: Arc<Api>, view: Arc<View>) -> Self {
        Self { files, api, view }
    }

    /// Looks after the files now, and then at intervals.
    pub(super) fn start(mut self, wake: Arc<Notify>) -> io::Result<TokenFilesHandle> {
        self.run_once();
        let ticks = Ticks::every(FILES_INTERVAL)?;
        let woken = wake.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = woken.notified() => {}
                    () = ticks.next() => {}
                }
                self.run_once();
            }
        });
        Ok(TokenFilesHandle { wake, task: task.abort_handle() })
    }

    fn run_once(&mut self) {
        let settings = self.api.settings.load();
        let problems = self.files.refresh(&settings.rules, &self.api.issuer, clock::wall());
        let trouble = |problem: TokenFileProblem| Degraded {
            what: problem.path.display().to_string(),
            why: problem.cause.to_string(),
        };
        self.view.set_token_file_troubles(problems.into_iter().map(trouble).collect());
    }
}

impl TokenFilesHandle {
    pub(super) fn refresh(&self) {
        self.wake.notify_one();
    }
}

impl Drop for TokenFilesHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tokens end with the key, that is with the process: their files go as well.
impl Drop for TokenFileChore {
    fn drop(&mut self) {
        self.files.remove_all();
    }
}

/// Tells the service manager that the broker is alive, each time after a request over its own socket was
/// answered: a process that runs and does not serve is restarted.
pub(super) struct Watchdog(Option<AbortHandle>);

impl Watchdog {
    pub(super) fn start(socket: PathBuf) -> io::Result<Self> {
        let Some(interval) = systemd::watchdog_interval() else { return Ok(Self(None)) };
        let pause = interval / 2;
        let ticks = Ticks::every(pause)?;
        let task = tokio::spawn(async move {
            loop {
                match tokio::time::timeout(pause, probe(&socket)).await {
                    Ok(Ok(())) => systemd::alive(),
                    Ok(Err(error)) => tracing::error!(%error, "the broker's own request failed"),
                    Err(_) => tracing::error!("the broker's own request was not answered in time"),
                }
                ticks.next().await;
            }
        });
        Ok(Self(Some(task.abort_handle())))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn probe(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /v1/agent/discover HTTP/1.1\r\nhost: dvx\r\nconnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    if status == *b"HTTP/1.1 200" { Ok(()) } else { Err(io::Error::other("the answer was not 200")) }
}
