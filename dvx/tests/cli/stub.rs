//! A control plane whose answers a test writes down, and which remembers what it was asked.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// `GET /api/v1/whoami`
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered. `None` closes the connection instead.
pub(crate) type Answer = Option<Vec<u8>>;

type Handler = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

#[derive(Clone)]
pub(crate) struct Stub {
    handler: Arc<Handler>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// `handler` gets each request, and how many came before it.
    pub(crate) fn new(handler: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self { handler: Arc::new(handler), asked: Arc::default() }
    }

    /// Listens at a path of its own below `base`; gives the URL.
    pub(crate) fn listen(&self, base: &Path) -> String {
        let path: PathBuf = base.join("control.sock");
        fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path).unwrap();
        let stub = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stub = stub.clone();
                thread::spawn(move || stub.serve(stream.try_clone().unwrap(), stream));
            }
        });
        format!("unix://{}", path.display())
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Their first lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// Answers on one connection until it ends.
    pub(crate) fn serve(&self, reader: impl Read, mut writer: impl Write) {
        let mut reader = BufReader::new(reader);
        while let Some(asked) = read_request(&mut reader) {
            let number = {
                let mut all = self.asked.lock().unwrap();
                all.push(asked.clone());
                all.len() - 1
            };
            let Some(answer) = (self.handler)(&asked, number) else { return };
            if writer.write_all(&answer).and_then(|()| writer.flush()).is_err() {
                return;
            }
        }
    }

    /// Answers on a connection that is read and written by one thing.
    pub(crate) fn serve_both_ways(&self, mut stream: impl Read + Write) {
        loop {
            let asked = {
                let mut reader = BufReader::with_capacity(1, &mut stream);
                read_request(&mut reader)
            };
            let Some(asked) = asked else { return };
            self.asked.lock().unwrap().push(asked.clone());
            let Some(answer) = (self.handler)(&asked, 0) else { return };
            if stream.write_all(&answer).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut asked =
        Asked { line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(), ..Asked::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}

/// An answer with a body of JSON, and perhaps a revision.
pub(crate) fn json(status: u16, revision: Option<u64>, body: &str) -> Answer {
    let revision = revision.map(|number| format!("dvx-revision: {number}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{revision}content-length: {length}\r\n\r\n"
    );
    Some(format!("{head}{body}").into_bytes())
}

pub(crate) fn ok(body: &str) -> Answer {
    json(200, None, body)
}

/// A problem of this code.
pub(crate) fn problem(status: u16, code: &str, detail: &str) -> Answer {
    json(
        status,
        None,
        &format!(r#"{{"type":"urn:dvx:problem:{code}","title":"T","status":{status},"detail":"{detail}"}}"#),
    )
}

/// Connects, as a check that somebody listens.
pub(crate) fn can_connect(url: &str) -> bool {
    UnixStream::connect(url.trim_start_matches("unix://")).is_ok()
}
