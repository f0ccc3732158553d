//! The operator API: a table of what there is, and a module for each kind of thing.

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod deliveries;
pub(crate) mod enclaves;
pub(crate) mod integrations;
pub(crate) mod operations;
pub(crate) mod operators;
pub(crate) mod overview;
mod page;
pub(crate) mod providers;
mod refused;
pub(crate) mod secrets;

use dvx_proto::operator::Role;

use crate::http::body::Accepts;
use crate::http::router::Route;

use Accepts::{Json, Nothing, Secret};
use Role::{Admin, Auditor, Operator};

/// A handler as the table has it.
macro_rules! run {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}

macro_rules! routes {
    ($($method:ident $path:literal, $role:ident, $accepts:ident, $action:literal => $handler:path;)*) => {
        /// Every route but that of the API's description. An auditor reads; an operator also writes everything
        /// but operators and enclaves; an admin all.
        pub(crate) const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: concat!("/api/v1", $path),
            role: $role,
            action: $action,
            accepts: $accepts,
            run: run!($handler),
        }),*];
    };
}

routes! {
    GET "/whoami", Auditor, Nothing, "operator.whoami" => overview::whoami;
    GET "/overview", Auditor, Nothing, "organisation.get" => overview::overview;
    GET "/operators", Auditor, Nothing, "operator.list" => operators::list;
    POST "/operators", Admin, Json, "operator.create" => operators::create;
    DELETE "/operators/{operator}", Admin, Nothing, "operator.delete" => operators::delete;
    GET "/enclaves", Auditor, Nothing, "enclave.list" => enclaves::list;
    POST "/enclaves", Admin, Json, "enclave.create" => enclaves::create;
    GET "/enclaves/{enclave}", Auditor, Nothing, "enclave.get" => enclaves::get;
    DELETE "/enclaves/{enclave}", Admin, Nothing, "enclave.delete" => enclaves::delete;
    GET "/agents", Auditor, Nothing, "agent.list" => agents::list;
    POST "/agents", Operator, Json, "agent.create" => agents::create;
    GET "/agents/{agent}", Auditor, Nothing, "agent.get" => agents::get;
    DELETE "/agents/{agent}", Operator, Nothing, "agent.delete" => agents::delete;
    POST "/agents/{agent}/isolate", Operator, Json, "agent.isolate" => agents::isolate;
    POST "/agents/{agent}/restore", Operator, Nothing, "agent.restore" => agents::restore;
    POST "/agents/{agent}/revoke", Operator, Json, "agent.revoke" => agents::revoke;
    POST "/agents/{agent}/reprovision", Operator, Nothing, "agent.reprovision" => agents::reprovision;
    GET "/agents/{agent}/integrations", Auditor, Nothing, "integration.list" => integrations::list;
    POST "/agents/{agent}/integrations/{provider}", Operator, Secret, "integration.link" => integrations::link;
    DELETE "/agents/{agent}/integrations/{provider}", Operator, Nothing, "integration.unlink" => integrations::unlink;
    POST "/agents/{agent}/integrations/{provider}/rotate", Operator, Nothing, "integration.rotate" => integrations::rotate;
    GET "/operations/{operation}", Auditor, Nothing, "operation.get" => operations::get;
    GET "/credential-providers", Auditor, Nothing, "provider.list" => providers::list;
    POST "/credential-providers", Operator, Secret, "provider.create" => providers::create;
    GET "/credential-providers/debts", Auditor, Nothing, "provider.debts" => providers::debts;
    DELETE "/credential-providers/{provider}", Operator, Nothing, "provider.delete" => providers::delete;
    POST "/credential-providers/{provider}/rotate", Operator, Secret, "provider.rotate" => providers::rotate;
    GET "/agents/{agent}/secrets", Auditor, Nothing, "secret.list" => secrets::list_of_agent;
    PUT "/agents/{agent}/secrets/{secret}", Operator, Secret, "secret.set" => secrets::set_of_agent;
    DELETE "/agents/{agent}/secrets/{secret}", Operator, Nothing, "secret.delete" => secrets::delete_of_agent;
    GET "/secrets", Auditor, Nothing, "secret.list" => secrets::list;
    PUT "/secrets/{secret}", Operator, Secret, "secret.set" => secrets::set;
    DELETE "/secrets/{secret}", Operator, Nothing, "secret.delete" => secrets::delete;
    GET "/deliveries/{revision}", Auditor, Nothing, "delivery.get" => deliveries::get;
    GET "/audit", Auditor, Nothing, "audit.list" => audit::list;
    GET "/audit/export", Auditor, Nothing, "audit.export" => audit::export;
}
