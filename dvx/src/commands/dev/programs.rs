//! Our other programs, which lie beside this one.

use std::env;
use std::path::PathBuf;

use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) broker: PathBuf,
}

impl Programs {
    pub(crate) fn beside_us() -> Result<Self, Failure> {
        let us = env::current_exe().map_err(|error| Failure::io("cannot find this program", &error))?;
        let find = |name: &str| {
            let path = us.with_file_name(name);
            if path.is_file() {
                return Ok(path);
            }
            let directory = path.parent().unwrap_or(&path).display();
            Err(Failure::new(format!("cannot find {name}"), format!("it is not in {directory}"))
                .with_hint("cargo build --release builds all programs; packages: dvx-broker, dvxir, dvx"))
        };
        find("dvxir")?;
        Ok(Self { broker: find("dvx-broker")? })
    }
}
