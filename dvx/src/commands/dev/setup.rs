//! What a session's control plane is told: the enclave, the agent that the user is, and the token.

use dvx_proto::operator::{CreateAgent, CreateEnclave, CreatedEnclave, Selectors, SetSecret};
use dvx_proto::{ControlAddress, RemoteUrl, Secret, Token};
use nix::unistd::Uid;

use super::place::{AGENT, ENCLAVE, Place, SECRET};
use crate::client::{Client, ClientError, Request};
use crate::failure::{Failure, cause};
use crate::settings::Settings;

const TASK: &str = "cannot set the session up";

/// Makes all of it. The control plane takes us for an admin, because it runs as our user.
pub(crate) async fn run(place: &Place, token: &Token, instance: &RemoteUrl) -> Result<(), Failure> {
    let failed = |error: ClientError| error.into_failure(TASK);
    let settings = Settings {
        address: ControlAddress::Unix(place.control_socket()),
        ca_file: None,
        token: None,
        // Nobody: root and ourselves are trusted anyway.
        control_user: "root".into(),
    };
    let mut client = Client::new(settings).map_err(failed)?;
    let key = enclave(&mut client).await.map_err(failed)?;
    place.write_key(&key).map_err(|error| Failure::new(TASK, cause(&error)))?;
    agent(&mut client).await.map_err(failed)?;
    secret(&mut client, token, instance).await.map_err(failed)
}

async fn enclave(client: &mut Client) -> Result<Secret, ClientError> {
    let body = CreateEnclave { name: name(ENCLAVE)? };
    let answer = client.send(Request::create("/enclaves", &body)?).await?;
    Ok(client.parse::<CreatedEnclave>(&answer)?.api_key)
}

/// By number: a user need not have a name.
async fn agent(client: &mut Client) -> Result<(), ClientError> {
    let body = CreateAgent {
        name: name(AGENT)?,
        enclave: name(ENCLAVE)?,
        unix_user: name(&Uid::effective().to_string())?,
        selectors: Selectors::default(),
        acts_as: None,
    };
    client.send(Request::create("/agents", &body)?).await.map(drop)
}

async fn secret(client: &mut Client, token: &Token, instance: &RemoteUrl) -> Result<(), ClientError> {
    let body = SetSecret {
        value: Secret::from(token.expose_secret().to_vec()),
        agent_accessible: false,
        display_name: Some(AGENT.to_owned()),
        auth_type: None,
        instance_url: Some(instance.clone()),
        expires_at: None,
    };
    let path = format!("/agents/{AGENT}/secrets/{SECRET}");
    client.send(Request::put_json(path, &body)?).await.map(drop)
}

/// One of our own names, which always are what they are to be.
fn name<T: std::str::FromStr>(text: &str) -> Result<T, ClientError> {
    text.parse().map_err(|_| ClientError::Unspeakable)
}
