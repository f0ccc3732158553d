//! Enclaves.

use dvx_proto::EnclaveName;
use dvx_proto::operator::{CreateEnclave, CreatedEnclave, Enclave, Page};

use super::page::PageQuery;
use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::idempotency::{self, Created};

/// A page of the enclaves.
#[utoipa::path(
    get, path = "/api/v1/enclaves", operation_id = "list_enclaves", params(PageQuery),
    responses((status = 200, body = Page<Enclave>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    answer::json(&call.app().store.enclaves(call.org(), &page, call.now()).await?)
}

/// Make an enclave. The key of its broker is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/api/v1/enclaves", operation_id = "create_enclave", request_body = CreateEnclave,
    responses((status = 201, body = CreatedEnclave))
)]
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let CreateEnclave { name } = call.json()?;
    let once = idempotency::once(&call);
    let store = &call.app().store;
    idempotency::answer(store.create_enclave(&call.cause(), &name, once.as_ref().map(Created::once)).await?)
}

/// An enclave.
#[utoipa::path(
    get, path = "/api/v1/enclaves/{enclave}", operation_id = "get_enclave",
    params(("enclave" = EnclaveName, Path, description = "Its name")), responses((status = 200, body = Enclave))
)]
pub(crate) async fn get(call: Call) -> Answer {
    call.no_query()?;
    let name: EnclaveName = call.name(0, "enclave")?;
    answer::json(&call.app().store.enclave(call.org(), &name, call.now()).await?)
}

/// Delete an enclave and its agents. Its key is dead at once.
#[utoipa::path(
    delete, path = "/api/v1/enclaves/{enclave}", operation_id = "delete_enclave",
    params(("enclave" = EnclaveName, Path, description = "Its name")), responses((status = 204))
)]
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    let name: EnclaveName = call.name(0, "enclave")?;
    let changed = call.app().store.delete_enclave(&call.cause(), &name).await?;
    call.app().hub.enclave_deleted(call.org(), &name);
    Ok(answer::at(changed.revision, answer::no_content()))
}
