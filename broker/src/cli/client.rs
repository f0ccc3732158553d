//! One request to the admin socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Ten thousand agents fit.
const MAX_ANSWER_BYTES: u64 = 8 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the answer is not HTTP")]
    Http(#[from] httparse::Error),
    #[error("the answer was cut off")]
    Short,
    #[error("the answer is {0}")]
    Status(u16),
}

/// The body of the answer to `GET <path>`.
pub(super) fn get(socket: &Path, path: &str) -> Result<Vec<u8>, ClientError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: dvx\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    body(answer)
}

fn body(mut answer: Vec<u8>) -> Result<Vec<u8>, ClientError> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(&answer)? else {
        return Err(ClientError::Short);
    };
    match head.code {
        Some(200) => {}
        other => return Err(ClientError::Status(other.unwrap_or_default())),
    }
    let announced = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let announced: Option<usize> = announced.and_then(|field| str::from_utf8(field.value).ok()?.parse().ok());
    let body = answer.split_off(length);
    if announced.is_some_and(|announced| announced != body.len()) {
        return Err(ClientError::Short);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_of_200_has_a_body() {
        let of = |text: &str| body(text.as_bytes().to_vec());
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap(), b"{}");
        assert_eq!(of("HTTP/1.1 200 OK\r\n\r\n{}").unwrap(), b"{}");
        assert!(matches!(of("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}"), Err(ClientError::Short)));
        assert!(matches!(of("HTTP/1.1 404 Not Found\r\n\r\n"), Err(ClientError::Status(404))));
        assert!(matches!(of("HTTP/1.1 200"), Err(ClientError::Short)));
        assert!(matches!(of("hello"), Err(ClientError::Http(_))));
    }
}
