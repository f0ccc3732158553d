//! How far changes have come.

use dvx_proto::operator::Delivery;

use crate::http::answer::Answer;
use crate::http::call::Call;
use crate::http::error::Refusal;

/// How far a change has come.
#[utoipa::path(
    get, path = "/api/v1/deliveries/{revision}", operation_id = "get_delivery",
    params(("revision" = u64, Path, description = "The revision")),
    responses((status = 200, body = Delivery))
)]
pub(crate) async fn get(_call: Call) -> Answer {
    Err(Refusal::not_found("revision"))
}
