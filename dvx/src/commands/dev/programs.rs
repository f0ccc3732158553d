//! Our other programs, which lie beside this one.

use std::env;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The directory with all of them.
#[derive(Debug)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    pub(crate) fn beside_us() -> Result<Self, Failure> {
        let us = env::current_exe().map_err(|error| Failure::io("cannot find this program", &error))?;
        let programs = Self::at(us.parent().unwrap_or(&us).to_path_buf());
        for path in [programs.client(), programs.control(), programs.broker()] {
            if !path.is_file() {
                let name = path.file_name().unwrap_or_default().display();
                let why = format!("it is not in {}", programs.directory().display());
                return Err(Failure::new(format!("cannot find {name}"), why).with_hint(
                    "cargo build --release builds all programs; packages: dvx-control, dvx-broker, dvxir, dvx",
                ));
            }
        }
        Ok(programs)
    }

    /// The directory in which another process has found them.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    fn client(&self) -> PathBuf {
        self.0.join("dvxir")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.0.join("dvx-control")
    }

    pub(crate) fn broker(&self) -> PathBuf {
        self.0.join("dvx-broker")
    }
}
