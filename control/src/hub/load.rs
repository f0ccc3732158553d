//! What is sent: read from the database as it is now, sealed, and put into lines.

use bytes::Bytes;
use dvx_proto::enclave::{Frame, SealedSecret, seal_aad};
use dvx_proto::{AgentName, Secret, SecretName};
use serde::Serialize;

use super::lines::Cut;
use crate::crypto::seal::Sealer;
use crate::domain::{EnclaveIdentity, Metadata, Revision, StoredSecret};
use crate::store::{Store, StoreError};

/// A secret as it is now.
pub(crate) enum Loaded {
    /// It has a value.
    Value { value: Secret, metadata: Metadata, credential: Option<String> },
    /// It has one that does not open.
    Unavailable,
    /// There is none.
    Gone,
}

impl Loaded {
    /// Opens what is stored.
    pub(crate) async fn open(store: &Store, stored: Option<&StoredSecret>) -> Result<Self, StoreError> {
        let Some(stored) = stored else { return Ok(Self::Gone) };
        match store.open_secret(stored, crate::clock::wall()).await? {
            Ok(value) => {
                let credential = stored.credential.then(|| stored.id.as_str().to_owned());
                Ok(Self::Value { value, metadata: stored.metadata.clone(), credential })
            }
            // The store has told the operators.
            Err(_unreadable) => Ok(Self::Unavailable),
        }
    }
}

/// Makes the lines of one stream.
pub(crate) struct Writer {
    enclave: EnclaveIdentity,
    sealer: Sealer,
}

impl Writer {
    pub(crate) fn new(enclave: EnclaveIdentity, sealer: Sealer) -> Self {
        Self { enclave, sealer }
    }

    pub(crate) fn encapsulated_key(&self) -> &str {
        self.sealer.encapsulated_key()
    }

    /// A secret, sealed for the commit of this revision.
    pub(crate) fn secret(
        &mut self,
        agent: Option<&AgentName>,
        name: &SecretName,
        loaded: &Loaded,
        revision: Revision,
    ) -> Result<Bytes, Cut> {
        let (agent, name) = (agent.cloned(), name.clone());
        let frame = match loaded {
            Loaded::Gone => Frame::SecretGone { agent, name },
            Loaded::Unavailable => Frame::SecretUnavailable { agent, name },
            Loaded::Value { value, metadata, credential } => {
                let EnclaveIdentity { org, name: enclave, .. } = &self.enclave;
                let aad = seal_aad(org.as_str(), enclave, agent.as_ref(), &name, revision.0);
                let sealed = self.sealer.seal(value.expose_secret(), &aad);
                Frame::Secret(SealedSecret {
                    agent,
                    name,
                    agent_accessible: metadata.agent_accessible,
                    revision: revision.0,
                    credential: credential.clone(),
                    display_name: metadata.display_name.clone(),
                    auth_type: metadata.auth_type,
                    instance_url: metadata.instance_url.clone(),
                    expires_at: metadata.expires_at,
                    sealed: sealed.map_err(|_| Cut("the sealing context is used up"))?,
                })
            }
        };
        line(&frame)
    }
}

/// A frame as a line.
pub(crate) fn line(frame: &impl Serialize) -> Result<Bytes, Cut> {
    let mut line = serde_json::to_vec(frame).map_err(|_| Cut("a frame cannot be written"))?;
    line.push(b'\n');
    Ok(line.into())
}
