//! SIGHUP: the audit file is opened again, and a good new configuration comes into force.

use std::path::PathBuf;
use std::sync::Arc;

use super::chores::TokenFilesHandle;
use super::settings_of;
use crate::admin::status::View;
use crate::api::Api;
use crate::config::{Config, ConfigError};
use crate::listener::gate::{ConnectionLimits, Gate};
use crate::systemd;
use crate::upstream::Degraded;

pub(super) struct Reloader {
    pub(super) path: PathBuf,
    /// What the broker was started with: sockets are bound and the process is confined by it.
    pub(super) started: Config,
    pub(super) api: Arc<Api>,
    pub(super) gate: Gate,
    pub(super) view: Arc<View>,
    pub(super) files: TokenFilesHandle,
}

impl Reloader {
    pub(super) async fn reload(&self) {
        systemd::reloading();
        if let Err(error) = self.api.audit.reopen() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the audit file cannot be opened again"
            );
        }
        let path = self.path.clone();
        // Looking up users may take its time; agents are served meanwhile.
        let loaded =
            tokio::task::spawn_blocking(move || Config::load(&path, &|name| std::env::var(name).ok())).await;
        match loaded {
            Ok(Ok(config)) => self.apply(&config),
            Ok(Err(errors)) => self.refuse(&errors),
            Err(error) => tracing::error!(%error, "the configuration was not read again"),
        }
        systemd::ready();
    }

    fn apply(&self, config: &Config) {
        let fixed = self.started.fixed_differences(config);
        if !fixed.is_empty() {
            tracing::warn!(keys = fixed.join(", "), "changed, but only a restart brings these into force");
        }
        // The upstream may be changing them as well.
        self.api.settings.rcu(|before| settings_of(config, Some(before)));
        let limits =
            ConnectionLimits { per_uid: config.limits.connections, total: config.limits.total_connections };
        self.gate.set_limits(limits);
        self.api.upstream.set_agents(config.agents.iter().map(|rule| rule.name.clone()).collect());
        self.files.refresh();
        self.view.set_reload_trouble(None);
        tracing::info!(
            agents = self.api.settings.load().rules.iter().len(),
            "the configuration was read again and is in force"
        );
    }

    fn refuse(&self, errors: &[ConfigError]) {
        for error in errors {
            tracing::error!("{error}");
        }
        tracing::error!("the configuration was read again and has errors; the one before stays in force");
        let why = errors.first().map_or_else(String::new, ToString::to_string);
        let what = self.path.display().to_string();
        self.view.set_reload_trouble(Some(Degraded { what, why }));
    }
}
