//! `dvx audit list|export`

mod export;
mod follow;
mod table;

use std::process::ExitCode;

use dvx_proto::operator::{AuditEvent, Page};

use self::table::Events;
use crate::cli::{AuditCommand, AuditFilter, AuditFormat, AuditQuery};
use crate::client::with_query;
use crate::failure::{Failure, exit};

const TASK: &str = "cannot list the events";

pub(crate) async fn run(command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::List { query, output } => {
            let format = query.format(Some(output.format));
            show(&query, format).await
        }
        AuditCommand::Export { query } => {
            let format = query.format(None);
            match format {
                AuditFormat::Jsonl if !query.follow => export::run(&query.filter, "jsonl").await,
                format => show(&query, format).await,
            }
        }
    }
}

async fn show(query: &AuditQuery, format: AuditFormat) -> Result<ExitCode, Failure> {
    match format {
        AuditFormat::Ocsf if query.follow => {
            Err(Failure::new("cannot follow in the format ocsf", "it is for what has happened already")
                .with_exit(exit::USAGE)
                .with_hint("--follow --format jsonl has the same events"))
        }
        AuditFormat::Json if query.follow => {
            Err(Failure::new("cannot follow in the format json", "an array that grows has no end")
                .with_exit(exit::USAGE)
                .with_hint("--format jsonl has an event on each line"))
        }
        AuditFormat::Ocsf => export::run(&query.filter, "ocsf").await,
        AuditFormat::Json | AuditFormat::Table | AuditFormat::Jsonl => list(query, format).await,
    }
}

/// Shows a page as soon as it is there: there may be millions of events.
async fn list(query: &AuditQuery, format: AuditFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let path = with_query("/audit", &selection(&query.filter));
    let mut events = Events::new(format);
    let mut after: Option<String> = None;
    loop {
        let page: Page<AuditEvent> = client
            .page(&path, after.as_deref(), dvx_proto::operator::MAX_PAGE)
            .await
            .map_err(|error| error.into_failure(TASK))?;
        if !events.show(&page.items)? {
            return Ok(ExitCode::SUCCESS);
        }
        let last = page.items.last().map(|event| event.number.to_string());
        match page.next {
            // A list that comes back to where it was would never end.
            Some(next) if after.as_ref() == Some(&next) => {
                return Err(client.malformed("its list goes round in circles").into_failure(TASK));
            }
            Some(next) => after = Some(next),
            None => {
                after = last.or(after);
                break;
            }
        }
    }
    if query.follow {
        return follow::run(&mut client, &path, after, &mut events).await;
    }
    events.end()
}

/// The parts of a query that choose events.
fn selection(filter: &AuditFilter) -> [(&'static str, Option<String>); 3] {
    [
        ("agent", filter.agent.as_ref().map(ToString::to_string)),
        ("since", filter.since.map(|time| time.to_string())),
        ("until", filter.until.map(|time| time.to_string())),
    ]
}
