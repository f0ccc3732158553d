//! `git http-backend` as the server's program (RFC 3875).

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use super::request::{Request, answer};
use crate::command::run_with_input;

/// What the program answered.
pub(crate) struct Reply {
    pub(crate) status: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(super) fn serve(stream: &TcpStream, request: &Request, root: &Path) -> io::Result<()> {
    let reply = reply(request, &request.path, root)?;
    let headers: Vec<(&str, &str)> =
        reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    answer(stream, &reply.status, &headers, &reply.body)
}

/// Runs the program for a request; its path in the directory of repositories may be another one.
pub(crate) fn reply(request: &Request, path: &str, root: &Path) -> io::Result<Reply> {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROJECT_ROOT", root)
        .env("REMOTE_USER", "tester")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string());
    for (header, variable) in
        [("content-encoding", "HTTP_CONTENT_ENCODING"), ("git-protocol", "GIT_PROTOCOL")]
    {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    let outcome = run_with_input(&mut command, &request.body);
    let at = outcome.stdout.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) =
        outcome.stdout.split_at(at.ok_or_else(|| io::Error::other("http-backend wrote no head"))? + 4);
    let head = String::from_utf8_lossy(head).into_owned();
    let mut headers: Vec<(String, String)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let status = headers.iter().find(|(name, _)| name == "Status");
    let status = status.map_or_else(|| "200 OK".into(), |(_, status)| status.clone());
    headers.retain(|(name, _)| name != "Status");
    Ok(Reply { status, headers, body: body.to_vec() })
}
