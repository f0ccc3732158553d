//! `dvx operator create|list|delete`

use std::process::ExitCode;

use dvx_proto::OperatorName;
use dvx_proto::operator::{CreateOperator, CreatedOperator, Operator, Role};

use super::enclave::shown_once;
use crate::cli::{Group, OperatorCommand, OutputFormat};
use crate::client::{ClientError, Request};
use crate::failure::Failure;
use crate::output::{self, Cell, Table};
use crate::{prompt, times};

pub(crate) async fn run(arguments: Group<OperatorCommand>) -> Result<ExitCode, Failure> {
    let format = arguments.output.format;
    match arguments.command {
        OperatorCommand::Create { name, role } => create(&name, role, format).await,
        OperatorCommand::List => list(format).await,
        OperatorCommand::Delete { name, confirmation } => {
            prompt::confirm(&format!("Delete the operator {name}?"), confirmation.yes)?;
            delete(&name).await
        }
    }
}

async fn create(name: &OperatorName, role: Role, format: OutputFormat) -> Result<ExitCode, Failure> {
    let failed = |error: ClientError| error.into_failure(&format!("cannot create the operator {name}"));
    let mut client = super::client()?;
    let body = CreateOperator { name: name.clone(), role };
    let answer = client.send(Request::create("/operators", &body).map_err(failed)?).await.map_err(failed)?;
    let created: CreatedOperator = client.parse(&answer).map_err(failed)?;
    shown_once(format, &created, &created.token)
}

async fn list(format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let operators: Vec<Operator> =
        client.list("/operators").await.map_err(|error| error.into_failure("cannot list the operators"))?;
    output::answer(format, &operators, |operators| {
        let mut table = Table::new(["NAME", "ROLE", "SINCE"]);
        for operator in operators {
            let since = times::shown(operator.created_at);
            table.push([
                Cell::new(operator.name.as_str()),
                Cell::new(operator.role.as_str()),
                Cell::new(since),
            ]);
        }
        table
    })
}

async fn delete(name: &OperatorName) -> Result<ExitCode, Failure> {
    let sent = super::client()?.send(Request::delete(format!("/operators/{name}"))).await;
    sent.map_err(|error| error.into_failure(&format!("cannot delete the operator {name}")))?;
    Ok(ExitCode::SUCCESS)
}
