//! dvxir's client, but for the connection: the broker is in this process.

use std::net::SocketAddr;

use dvx_broker::fuzzing::Caller;
use dvx_proto::BrokerAddress;
use zeroize::Zeroizing;

use crate::world::serve;

#[expect(dead_code, reason = "dvxir's own")]
#[path = "../../dvxir/src/client/failure.rs"]
mod failure;
#[expect(dead_code, reason = "dvxir's own")]
#[path = "../../dvxir/src/client/response.rs"]
mod response;

pub(crate) use failure::ClientError;
pub(crate) use response::{Answer, InvalidAnswer};
use response::{Progress, parse};

/// Asks as the user that it was made for.
pub(crate) struct Client {
    uid: u32,
}

impl Client {
    pub(crate) fn new(uid: u32) -> Self {
        Self { uid }
    }

    pub(crate) fn hurried(&self) -> Self {
        Self { uid: self.uid }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"), b"")
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
        let length = body.len();
        self.exchange(
            &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"),
            body,
        )
    }

    pub(crate) fn malformed(&self, source: InvalidAnswer) -> ClientError {
        ClientError::Malformed { address: address(), source }
    }

    fn exchange(&self, head: &str, body: &[u8]) -> Result<Answer, ClientError> {
        let caller = Caller { tcp: false, uid: Some(self.uid), chunk_bytes: 1 << 16 };
        let answer = serve(caller, &[head.as_bytes(), body].concat()).answer;
        read(answer)
            .expect("a broker's answer is one that its client understands")
            .expect("whole")
            .into_result()
    }
}

fn address() -> BrokerAddress {
    BrokerAddress::Loopback(SocketAddr::from(([127, 0, 0, 1], 8471)))
}

/// Reads an answer, if it is whole.
pub(crate) fn read(bytes: Vec<u8>) -> Result<Option<Answer>, InvalidAnswer> {
    match parse(&bytes)? {
        Progress::Complete(head) => Ok(Some(Answer::new(head, Zeroizing::new(bytes)))),
        Progress::Needs(wanted) => {
            assert!(wanted > bytes.len(), "nothing would be waited for");
            Ok(None)
        }
    }
}

/// What the user is told of an answer that is no success.
pub(crate) fn refused(answer: Answer) -> Option<ClientError> {
    answer.into_result().err()
}
