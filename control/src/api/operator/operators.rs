//! Operators.

use dvx_proto::OperatorName;
use dvx_proto::operator::{CreateOperator, CreatedOperator, Operator, Page};

use super::page::PageQuery;
use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::idempotency::{self, Created};

/// A page of the operators.
#[utoipa::path(
    get, path = "/api/v1/operators", operation_id = "list_operators", params(PageQuery),
    responses((status = 200, body = Page<Operator>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    answer::json(&call.app().store.operators(call.org(), &page).await?)
}

/// Make an operator. The token is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/api/v1/operators", operation_id = "create_operator", request_body = CreateOperator,
    responses((status = 201, body = CreatedOperator))
)]
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let CreateOperator { name, role } = call.json()?;
    let once = idempotency::once(&call);
    let store = &call.app().store;
    let made = store.create_operator(&call.cause(), &name, role, once.as_ref().map(Created::once)).await?;
    idempotency::answer(made)
}

/// Delete an operator. Its token is dead at once. The last admin cannot be deleted.
#[utoipa::path(
    delete, path = "/api/v1/operators/{operator}", operation_id = "delete_operator",
    params(("operator" = OperatorName, Path, description = "Its name")), responses((status = 204))
)]
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    let name: OperatorName = call.name(0, "operator")?;
    let changed = call.app().store.delete_operator(&call.cause(), &name).await?;
    Ok(answer::at(changed.revision, answer::no_content()))
}
