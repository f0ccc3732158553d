//! The manual pages.

use clap::ValueEnum;

/// A page of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Page {
    #[value(name = "dvx-broker.8")]
    Broker,
    #[value(name = "broker.toml.5")]
    Config,
}

pub(super) fn render(_page: Option<Page>) -> String {
    String::new()
}
