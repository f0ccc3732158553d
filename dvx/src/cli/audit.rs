//! `dvx audit …`

use clap::{Args, Subcommand, ValueEnum};
use dvx_proto::AgentName;
use jiff::Timestamp;

use super::{Output, OutputFormat};
use crate::times;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show events, oldest first
    List {
        #[command(flatten)]
        query: AuditQuery,
        #[command(flatten)]
        output: Output,
    },
    /// Write events for other programs: one JSON object a line, unless another format is asked for
    Export {
        #[command(flatten)]
        query: AuditQuery,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditQuery {
    #[command(flatten)]
    pub(crate) filter: AuditFilter,
    /// Stay, and show what happens; Ctrl-C ends it
    #[arg(long, short = 'f', conflicts_with = "until")]
    pub(crate) follow: bool,
    /// table for people; jsonl for programs; ocsf for what collects security events
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<AuditFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditFilter {
    /// Only events about this agent, also when it has been deleted
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<AgentName>,
    /// Only events from then on: RFC 3339, YYYY-MM-DD, or how long ago, such as 90m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = times::point_in_the_past)]
    pub(crate) since: Option<Timestamp>,
    /// Only events before then
    #[arg(long, value_name = "TIME", value_parser = times::point_in_the_past)]
    pub(crate) until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    Table,
    /// An array, as -o json
    #[value(skip)]
    Json,
    Jsonl,
    Ocsf,
}

impl AuditQuery {
    /// The format that is meant: --format before -o.
    pub(crate) fn format(&self, output: Option<OutputFormat>) -> AuditFormat {
        match (self.format, output) {
            (Some(format), _) => format,
            (None, Some(OutputFormat::Table)) => AuditFormat::Table,
            (None, Some(OutputFormat::Json)) => AuditFormat::Json,
            (None, None) => AuditFormat::Jsonl,
        }
    }
}
