//! Who am I, and how is it all.

use dvx_proto::operator::{Overview, Role, Whoami};

use crate::http::answer::{self, Answer};
use crate::http::call::Call;

/// Who the caller is.
#[utoipa::path(get, path = "/api/v1/whoami", operation_id = "whoami", responses((status = 200, body = Whoami)))]
pub(crate) async fn whoami(call: Call) -> Answer {
    let actor = call.actor();
    answer::json(&Whoami {
        name: actor.name.clone(),
        // The router lets nobody in without one.
        role: actor.role.unwrap_or(Role::Auditor),
        organisation: actor.organisation.clone(),
    })
}

/// The organisation in numbers.
#[utoipa::path(get, path = "/api/v1/overview", operation_id = "overview", responses((status = 200, body = Overview)))]
pub(crate) async fn overview(call: Call) -> Answer {
    answer::json(&call.app().store.overview(call.org(), env!("CARGO_PKG_VERSION"), call.now()).await?)
}
