//! `dvx-control rekey`

use std::path::Path;

use dvx_memory::Arena;

use super::{Exit, Output, failed, print};
use crate::clock;
use crate::config::Config;
use crate::crypto::Kek;
use crate::server::RunError;
use crate::store::{Rekeyed, Store, StoreError};

pub(super) fn run(config: &Config, new_kek_file: &Path, output: Output) -> Exit {
    match rekey(config, new_kek_file) {
        Ok(rekeyed) => show(config, new_kek_file, rekeyed, output),
        Err(error) => failed(&error),
    }
}

fn rekey(config: &Config, new_kek_file: &Path) -> Result<Rekeyed, RunError> {
    let arena = Arena::new(false)?;
    let new = Kek::read(new_kek_file, &arena)?;
    let old = Kek::read(&config.kek, &arena)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .on_thread_park(dvx_proto::wipe_stack)
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("runtime", error))?;
    runtime.block_on(async {
        let store = match Store::open(config.database.url(), old, clock::wall()).await {
            // Killed after its last step, and repeated: nothing is left to be done.
            Err(StoreError::KekReplaced { current, .. }) if current == *new.id() => {
                return Ok(Rekeyed::default());
            }
            opened => opened?,
        };
        let rekeyed = store.rekey(&new, &clock::wall).await;
        // Else the others would wait for this process the next time, for as long as it may only be silent.
        if let Err(error) = store.sign_off().await {
            tracing::debug!(%error, "this process is not signed off");
        }
        store.close().await;
        Ok(rekeyed?)
    })
}

fn show(config: &Config, new: &Path, rekeyed: Rekeyed, output: Output) -> Exit {
    let Rekeyed { values, unreadable } = rekeyed;
    print(&match output {
        Output::Table => {
            let lost = if unreadable == 0 { String::new() } else { format!(", {unreadable} cannot be read") };
            format!(
                "values under the new key: {values}{lost}\ninstall {} as {} before the next start\n",
                new.display(),
                config.kek.display()
            )
        }
        Output::Json => {
            format!("{}\n", serde_json::json!({ "values": values, "unreadable": unreadable }))
        }
    })
}
