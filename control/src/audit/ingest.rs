//! Lines of brokers' audit logs: read from a request, and stored as one.

use dvx_proto::EnclaveName;
use jiff::Timestamp;

use super::chain::{self, LineError};
use crate::domain::{BrokerLine, EnclaveIdentity, Ingested};
use crate::store::{Store, StoreError};

/// How often a batch that met another one is tried again.
const ATTEMPTS: u32 = 5;

/// Reads the lines of a batch; one bad line and none counts.
pub(crate) fn parse(body: &[u8], enclave: &EnclaveName) -> Result<Vec<BrokerLine>, LineError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let index = body.get(..error.valid_up_to()).unwrap_or_default();
        let index = index.iter().filter(|byte| **byte == b'\n').count();
        LineError::Malformed { index, why: "not UTF-8".to_owned() }
    })?;
    chain::parse(text, enclave)
}

/// Stores what is new of a batch, all of it or nothing.
pub(crate) async fn store(
    store: &Store,
    enclave: &EnclaveIdentity,
    lines: Vec<BrokerLine>,
    now: Timestamp,
) -> Result<Ingested, StoreError> {
    let mut attempt = 1;
    loop {
        match store.ingest(enclave, &lines, now).await {
            Err(error) if error.is_transient() && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_is_no_text_is_refused_by_the_index_of_its_line() {
        let error = parse(b"{}\n\xff\n", &"e".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "line 1 is not an audit line: not UTF-8");
    }
}
