//! One module for each command.

pub(crate) mod agent;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod dev;
pub(crate) mod enclave;
pub(crate) mod integration;
pub(crate) mod login;
pub(crate) mod man;
mod operation;
pub(crate) mod operator;
pub(crate) mod provider;
pub(crate) mod secret;
pub(crate) mod status;
pub(crate) mod whoami;

use std::env;

use crate::client::Client;
use crate::failure::Failure;
use crate::settings::Settings;

/// A client for the control plane that is meant.
fn client() -> Result<Client, Failure> {
    let settings = Settings::load(&|name| env::var_os(name))?;
    Client::new(settings).map_err(|error| error.into_failure("cannot ask the control plane"))
}
