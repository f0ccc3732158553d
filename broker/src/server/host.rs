//! What an upstream that knows the agents changes here.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dvx_proto::{AgentName, Fingerprint, ProviderName};
use tokio::sync::Notify;

use crate::api::{Rejections, Settings};
use crate::clock;
use crate::keyring::Keyring;
use crate::policy::Rules;
use crate::upstream::Host;

/// The server, as upstreams see it.
pub(super) struct ServerHost {
    settings: Arc<ArcSwap<Settings>>,
    keyring: Arc<Keyring>,
    rejections: Arc<Rejections>,
    /// Rings when the agents are others.
    token_files: Arc<Notify>,
}

impl ServerHost {
    pub(super) fn new(
        settings: Arc<ArcSwap<Settings>>,
        keyring: Arc<Keyring>,
        rejections: Arc<Rejections>,
    ) -> Self {
        Self { settings, keyring, rejections, token_files: Arc::default() }
    }

    pub(super) fn token_files(&self) -> Arc<Notify> {
        Arc::clone(&self.token_files)
    }

    fn replace(&self, rules: Rules) {
        let rules = Arc::new(rules);
        // The configuration may be read again at the same time.
        self.settings.rcu(|before| before.with_rules(&rules));
    }
}

impl Host for ServerHost {
    fn narrow(&self, rules: &Rules) {
        if *self.settings.load().rules != *rules {
            self.replace(rules.clone());
        }
    }

    fn enforce(&self, rules: Rules) {
        if *self.settings.load().rules != rules {
            self.replace(rules);
            self.token_files.notify_one();
        }
    }

    fn max_stale(&self) -> Duration {
        self.settings.load().max_stale
    }

    fn settle(&self, agent: &AgentName, provider: &ProviderName, fingerprint: Fingerprint) {
        self.rejections.settle(agent, provider, fingerprint, clock::monotonic());
        self.keyring.wake();
    }
}
