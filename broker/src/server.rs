//! From a configuration to a running broker, and down again.

use std::path::Path;

use crate::config::Config;

/// Why the broker did not start, or stopped without being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {}

/// Runs the broker until it is told to stop.
pub(crate) fn run(_path: &Path, _config: Config) -> Result<(), RunError> {
    Ok(())
}
