//! The steps of a request apart from each other, so that a test can put changes in between.

use super::*;

/// As [`Api::in_force`], with somebody else's looks.
pub(crate) fn in_one_look(
    settings: impl FnMut() -> Arc<Settings>,
    view: impl FnMut() -> Arc<View>,
) -> (Arc<Settings>, Arc<View>) {
    super::in_one_look(settings, view)
}

impl Api {
    /// As [`Api::handle`], with what was in force when somebody looked.
    pub(crate) async fn handle_as_of(
        &self,
        in_force: (Arc<Settings>, Arc<View>),
        peer: &Peer,
        request: Request<impl RequestBody>,
        now: Now,
    ) -> Answer {
        self.handle_under(in_force, peer, request, now).answer().await
    }
}
