//! `dvx-control init`

use std::io::ErrorKind;

use dvx_memory::Arena;
use dvx_proto::{OperatorName, Secret};
use zeroize::Zeroizing;

use super::{Exit, Output, failed, print};
use crate::clock;
use crate::config::{Config, Database};
use crate::crypto::{Kek, KekError};
use crate::server::RunError;
use crate::store::Store;

/// An organisation's name, which is like an operator's.
pub(super) fn organisation(text: &str) -> Result<String, String> {
    let is_name = text.parse::<dvx_proto::OperatorName>().is_ok();
    if is_name { Ok(text.to_owned()) } else { Err("expected [a-z0-9][a-z0-9_-]{0,63}".to_owned()) }
}

pub(super) fn run(config: &Config, organisation: &str, output: Output) -> Exit {
    match initialise(config, organisation) {
        Ok(token) => show(&token, output),
        Err(error) => failed(&error),
    }
}

fn initialise(config: &Config, organisation: &str) -> Result<Secret, RunError> {
    let arena = Arena::new(false)?;
    let kek = kek(config, &arena)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("runtime", error))?;
    let url = config.database.url();
    let admin = first_admin()?;
    let made = Store::init(url, kek, organisation, &admin, clock::wall());
    Ok(runtime.block_on(made)?.into_secret())
}

fn first_admin() -> Result<OperatorName, RunError> {
    "admin".parse().map_err(|_| RunError::Essential("the name of the first admin"))
}

/// The key that is there, or else a new one. Not beside a database that has its own already: that one is lost, and
/// another would only hide it.
fn kek(config: &Config, arena: &Arena) -> Result<Kek, KekError> {
    let missing = match Kek::read(&config.kek, arena) {
        Err(KekError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            KekError::Io { path, source }
        }
        read => return read,
    };
    if let Database::Sqlite { path, .. } = &config.database
        && !matches!(path.try_exists(), Ok(false))
    {
        return Err(missing);
    }
    match Kek::create(&config.kek, arena) {
        // Another init was faster.
        Err(KekError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
            Kek::read(&config.kek, arena)
        }
        created => created,
    }
}

fn show(token: &Secret, output: Output) -> Exit {
    let token = Zeroizing::new(String::from_utf8_lossy(token.expose_secret()).into_owned());
    let text = Zeroizing::new(match output {
        Output::Table => format!("{}\n", *token),
        Output::Json => format!("{}\n", serde_json::json!({ "token": *token })),
    });
    print(&text)
}
