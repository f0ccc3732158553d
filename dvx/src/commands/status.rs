//! `dvx status`: one screen of what an operator looks for first.

use std::process::ExitCode;

use dvx_proto::AgentName;
use dvx_proto::agent::AgentState;
use dvx_proto::operator::{
    Agent, Attention, CredentialProvider, CredentialProviderStatus, Debt, Enclave, Overview, Page,
};
use jiff::Timestamp;
use serde::Serialize;

use super::agent::{SOON, expiry, state_cell};
use super::enclave;
use crate::cli::OutputFormat;
use crate::client::{Client, ClientError, with_query};
use crate::failure::Failure;
use crate::output::{self, Cell, Table, harmless};
use crate::{clock, times};

/// How many agents a screen has room for.
const MAX_AGENTS: usize = 20;

/// How many pages of active agents are looked through for credentials that end soon.
const MAX_PAGES: usize = 10;

/// What the screen shows.
#[derive(Serialize)]
struct Screen {
    #[serde(flatten)]
    overview: Overview,
    enclaves: Vec<Enclave>,
    credential_providers: Vec<CredentialProvider>,
    /// What could not be removed at providers yet.
    debts: Vec<Debt>,
    /// Those that need a look first; not all of them.
    agents: Vec<Agent>,
}

pub(crate) async fn run(format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let screen = load(&mut client)
        .await
        .map_err(|error| error.into_failure("cannot tell the status of the control plane"))?;
    if format == OutputFormat::Json {
        return output::print(output::json(&screen)?.as_bytes());
    }
    let text = screen.render(&client, clock::wall(), output::colours());
    output::print(text.as_bytes())
}

async fn load(client: &mut Client) -> Result<Screen, ClientError> {
    let overview = client.get("/overview").await?;
    let enclaves = client.list("/enclaves").await?;
    let credential_providers = client.list("/credential-providers").await?;
    let debts = client.list("/credential-providers/debts").await?;
    let mut agents = Vec::new();
    for (state, pages) in
        [(AgentState::Isolated, 1), (AgentState::Revoked, 1), (AgentState::Active, MAX_PAGES)]
    {
        agents.extend(some_pages(client, state, pages).await?);
    }
    agents.sort_by_key(urgency);
    agents.truncate(MAX_AGENTS);
    Ok(Screen { overview, enclaves, credential_providers, debts, agents })
}

async fn some_pages(client: &mut Client, state: AgentState, pages: usize) -> Result<Vec<Agent>, ClientError> {
    let path = with_query("/agents", &[("state", Some(state.as_str().to_owned()))]);
    let mut agents = Vec::new();
    let mut after = None;
    for _ in 0..pages {
        let page: Page<Agent> = client.page(&path, after.as_deref(), dvx_proto::operator::MAX_PAGE).await?;
        agents.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(agents)
}

/// Isolated ones wait for somebody to decide; revoked ones are done with. Then whose credential ends first.
fn urgency(agent: &Agent) -> (u8, Timestamp, String) {
    let state = match agent.state {
        AgentState::Isolated => 0,
        AgentState::Revoked => 1,
        AgentState::Active => 2,
    };
    (state, agent.next_expiry.unwrap_or(Timestamp::MAX), agent.name.to_string())
}

impl Screen {
    fn render(&self, client: &Client, now: Timestamp, colours: bool) -> String {
        let Overview { version, organisation, revision, active, isolated, revoked, attention } =
            &self.overview;
        let mut text = format!(
            "control plane {} at {}, organisation {}, revision {revision}\n",
            harmless(version),
            client.address(),
            harmless(organisation)
        );
        text.push_str(&format!("enclaves: {}\n", self.enclave_summary()));
        text.push_str(&format!("agents: {active} active, {isolated} isolated, {revoked} revoked\n"));
        text.push_str(&self.provider_summary());
        if !attention.is_empty() {
            text.push('\n');
            text.push_str(&attention_table(attention, now).render(colours));
        }
        if !self.enclaves.is_empty() {
            text.push('\n');
            text.push_str(&enclave::table(&self.enclaves, now).render(colours));
        }
        if !self.agents.is_empty() {
            text.push('\n');
            text.push_str(&self.agent_table(now).render(colours));
        }
        let all = active.saturating_add(*isolated).saturating_add(*revoked);
        let shown = u64::try_from(self.agents.len()).unwrap_or(u64::MAX);
        if all > shown {
            text.push_str(&format!("and {} more; dvx agent list has all\n", all - shown));
        }
        text
    }

    fn enclave_summary(&self) -> String {
        if self.enclaves.is_empty() {
            return "none yet; dvx enclave create makes one".to_owned();
        }
        let count = |condition: fn(&Enclave) -> bool| {
            self.enclaves.iter().filter(|enclave| condition(enclave)).count()
        };
        let all = self.enclaves.len();
        let connected = count(|enclave| enclave.connected);
        // Those that are not connected are behind in any case.
        let behind = count(|enclave| enclave.connected && enclave.lag > 0);
        let degraded = count(|enclave| !enclave.degraded.is_empty());
        let mut summary = if connected == all {
            "all connected".to_owned()
        } else {
            format!("{} of {all} not connected", all - connected)
        };
        for (number, what) in [(behind, "behind"), (degraded, "degraded")] {
            if number > 0 {
                summary.push_str(&format!(", {number} {what}"));
            }
        }
        summary
    }

    /// Nothing where there is nothing to say.
    fn provider_summary(&self) -> String {
        let mut summary = String::new();
        let inactive: Vec<String> = self
            .credential_providers
            .iter()
            .filter(|provider| provider.status == CredentialProviderStatus::Inactive)
            .map(|provider| harmless(&provider.name))
            .collect();
        if !inactive.is_empty() {
            let names = inactive.join(", ");
            summary.push_str(&format!(
                "credential providers: inactive: {names}; dvx credential-provider list says why\n"
            ));
        }
        if !self.debts.is_empty() {
            summary.push_str(&format!(
                "still to be removed at providers: {}; dvx credential-provider debts says what\n",
                self.debts.len()
            ));
        }
        summary
    }

    fn agent_table(&self, now: Timestamp) -> Table {
        let mut table = Table::new(["AGENT", "ENCLAVE", "STATE", "CREDENTIALS", "NEXT EXPIRY", "REASON"]);
        for agent in &self.agents {
            table.push([
                Cell::new(agent.name.as_str()),
                Cell::new(agent.enclave.as_str()),
                state_cell(agent.state),
                Cell::number(agent.credentials),
                expiry(agent.next_expiry, now),
                Cell::maybe(agent.reason.as_deref()),
            ]);
        }
        table
    }
}

/// Credentials that want somebody to do something.
fn attention_table(attention: &[Attention], now: Timestamp) -> Table {
    let mut table = Table::new(["CREDENTIAL", "OF", "ENDS", "ATTENTION"]);
    for one in attention {
        let what = match (&one.refused, one.expires_at) {
            (Some(why), _) if one.credential_provider.is_some() => {
                Cell::new(format!("the credential provider is inactive: {why}")).bad()
            }
            (Some(cause), _) => Cell::new(format!("refused by the provider: {cause}")).bad(),
            (None, Some(end)) if end <= now => Cell::new("has ended").bad(),
            (None, Some(end)) => {
                let cell = Cell::new(format!("ends in {}", times::distance(now, end)));
                if end.duration_since(now) <= SOON { cell.bad() } else { cell.warning() }
            }
            (None, None) => Cell::new(""),
        };
        table.push([
            Cell::new(one.credential.as_str()),
            Cell::maybe(one.agent.as_ref().map(AgentName::as_str).or(one.credential_provider.as_deref())),
            expiry(one.expires_at, now),
            what,
        ]);
    }
    table
}
