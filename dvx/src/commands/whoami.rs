//! `dvx whoami`

use std::process::ExitCode;

use dvx_proto::operator::Whoami;

use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{self, Cell, Table};

pub(crate) async fn run(format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let whoami: Whoami = client
        .get("/whoami")
        .await
        .map_err(|error| error.into_failure("cannot tell who this is to the control plane"))?;
    output::answer(format, &whoami, table)
}

pub(super) fn table(whoami: &Whoami) -> Table {
    let mut table = Table::new(["NAME", "ROLE", "ORGANISATION"]);
    table.push([Cell::new(&whoami.name), Cell::new(whoami.role.as_str()), Cell::new(&whoami.organisation)]);
    table
}
