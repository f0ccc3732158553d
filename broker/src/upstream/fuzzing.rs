//! An upstream in the place of a real one, for the fuzz targets.

use std::sync::Arc;

use super::{Health, Mailbox, Request, Upstream};
use crate::api::Rejections;
use crate::clock;
use crate::keyring::Keyring;

/// One that finds every token good that it is asked about, so that nobody waits for a newer one.
pub(crate) fn settling(rejections: Arc<Rejections>, keyring: Arc<Keyring>) -> Upstream {
    let health = Health { kind: "none", connected: None, degraded: Vec::new() };
    let work = move |mailbox: Mailbox| {
        loop {
            let bell = mailbox.bell();
            let mut ready = [rustix::event::PollFd::new(&bell, rustix::event::PollFlags::IN)];
            let _rung = rustix::event::poll(&mut ready, None);
            for request in mailbox.take() {
                match request {
                    Request::Recheck { agent, provider, fingerprint } => {
                        rejections.settle(&agent, &provider, fingerprint, clock::monotonic());
                        keyring.wake();
                    }
                    Request::SetAgents(_) => {}
                    Request::Stop => return,
                }
            }
        }
    };
    Mailbox::start(health, work).expect("a thread")
}
