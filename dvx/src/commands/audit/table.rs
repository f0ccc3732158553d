//! Events on standard output, page by page.

use std::process::ExitCode;

use dvx_proto::operator::AuditEvent;

use crate::cli::AuditFormat;
use crate::failure::Failure;
use crate::output::{self, Cell, Table};
use crate::times;

/// Writes events as they come.
pub(super) struct Events {
    format: AuditFormat,
    table: Table,
    count: u64,
    colours: bool,
}

impl Events {
    pub(super) fn new(format: AuditFormat) -> Self {
        let table = Table::new(["TIME", "ACTOR", "ACTION", "SUBJECT", "AGENT", "DECISION", "REASON"]);
        Self { format, table, count: 0, colours: output::colours() }
    }

    /// Writes some more; tells whether somebody still reads.
    pub(super) fn show(&mut self, events: &[AuditEvent]) -> Result<bool, Failure> {
        let first = self.count == 0;
        let text = match self.format {
            AuditFormat::Table => self.rows(events),
            AuditFormat::Json => self.elements(events)?,
            AuditFormat::Jsonl | AuditFormat::Ocsf => {
                events.iter().map(output::json).collect::<Result<String, _>>()?
            }
        };
        self.count = self.count.saturating_add(1);
        if text.is_empty() && !first { Ok(true) } else { output::write(text.as_bytes()) }
    }

    /// Writes what stands after the last one.
    pub(super) fn end(&self) -> Result<ExitCode, Failure> {
        if self.format == AuditFormat::Json {
            return output::print(b"]\n");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn rows(&mut self, events: &[AuditEvent]) -> String {
        let first = self.count == 0;
        for event in events {
            self.table.push(row(event));
        }
        if !first {
            return self.table.take_rows(self.colours);
        }
        let text = self.table.render(self.colours);
        self.table.take_rows(self.colours);
        text
    }

    fn elements(&self, events: &[AuditEvent]) -> Result<String, Failure> {
        let mut text = String::new();
        for (place, event) in events.iter().enumerate() {
            text.push_str(if self.count == 0 && place == 0 { "" } else { "," });
            text.push_str(output::json(event)?.trim_end());
        }
        Ok(if self.count == 0 { format!("[{text}") } else { text })
    }
}

fn row(event: &AuditEvent) -> [Cell; 7] {
    let decision = Cell::new(&event.decision);
    let decision = match event.decision.as_str() {
        "allowed" | "served" => decision,
        "denied" => decision.bad(),
        _ => decision.warning(),
    };
    // The decisions of a broker are about what an agent did; where it was is part of who it was.
    let actor = match &event.enclave {
        Some(enclave) => format!("{} ({enclave})", event.actor),
        None => event.actor.clone(),
    };
    [
        Cell::new(times::shown(event.time)),
        Cell::new(actor),
        Cell::new(&event.action),
        Cell::maybe(event.subject.as_deref()),
        Cell::maybe(event.agent.as_deref()),
        decision,
        Cell::maybe(event.reason.as_deref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> AuditEvent {
        let json = format!(
            r#"{{"number":{number},"time":"2026-01-31T00:00:00Z","actor":"ann","action":"agent.isolate","decision":"allowed"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn an_array_is_one_over_all_pages() {
        let mut events = Events::new(AuditFormat::Json);
        let mut text = events.elements(&[event(1), event(2)]).unwrap();
        events.count = 1;
        text.push_str(&events.elements(&[event(3)]).unwrap());
        text.push_str(&events.elements(&[]).unwrap());
        let all: Vec<AuditEvent> = serde_json::from_str(&format!("{text}]")).unwrap();
        assert_eq!(all.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(Events::new(AuditFormat::Json).elements(&[]).unwrap(), "[");
    }

    #[test]
    fn the_headers_come_once() {
        let mut events = Events::new(AuditFormat::Table);
        assert!(events.rows(&[event(1)]).starts_with("TIME "));
        events.count = 1;
        assert!(events.rows(&[event(2)]).starts_with("2026-01-31T00:00:00Z    ann      agent.isolate    -"));
    }
}
