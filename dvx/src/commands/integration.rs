//! `dvx agent integration …`

use std::process::ExitCode;
use std::time::Duration;

use dvx_proto::AgentName;
use dvx_proto::operator::{Integration, LinkIntegration, Operation, Unlinked};

use super::agent::integrations_table as table;
use super::operation;
use crate::cli::{
    AgentIntegrationCommand, GitHubCommand, GitLabCommand, GitLabLink, HiddenText, OutputFormat, Unlink,
};
use crate::client::{Client, ClientError, Request};
use crate::delivery::Change;
use crate::failure::Failure;
use crate::output::note;
use crate::{output, prompt, value};

/// The control plane asks the provider for up to 30 seconds before it answers.
const PATIENCE: Duration = Duration::from_secs(45);

/// Which provider, in URLs and in words.
#[derive(Clone, Copy)]
struct Provider {
    name: &'static str,
    words: &'static str,
}

const GITLAB: Provider = Provider { name: "gitlab", words: "GitLab" };
const GITHUB: Provider = Provider { name: "github", words: "GitHub" };

/// One agent's link to one provider.
struct Link<'a> {
    agent: &'a AgentName,
    provider: Provider,
}

pub(super) async fn run(command: AgentIntegrationCommand, format: OutputFormat) -> Result<ExitCode, Failure> {
    match command {
        AgentIntegrationCommand::List { agent } => list(&agent, format).await,
        AgentIntegrationCommand::Gitlab(GitLabCommand::Link(link)) => gitlab(link, format).await,
        AgentIntegrationCommand::Gitlab(GitLabCommand::Unlink(unlink)) => undo(&unlink, GITLAB, format).await,
        AgentIntegrationCommand::Gitlab(GitLabCommand::Rotate { agent }) => {
            Link { agent: &agent, provider: GITLAB }.rotate(format).await
        }
        AgentIntegrationCommand::Github(GitHubCommand::Link { agent, pat, instance_url }) => {
            let body = LinkIntegration { instance_url, ..nothing() };
            Link { agent: &agent, provider: GITHUB }.with_token(pat.as_ref(), body, format).await
        }
        AgentIntegrationCommand::Github(GitHubCommand::Unlink(unlink)) => undo(&unlink, GITHUB, format).await,
    }
}

async fn list(agent: &AgentName, format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let integrations: Vec<Integration> = client
        .list(&format!("/agents/{agent}/integrations"))
        .await
        .map_err(|error| error.into_failure(&format!("cannot list the integrations of the agent {agent}")))?;
    output::answer(format, &integrations, |integrations| table(integrations))
}

async fn gitlab(link: GitLabLink, format: OutputFormat) -> Result<ExitCode, Failure> {
    let GitLabLink { agent, pat, instance_url, credential_provider, project_id, access_level } = link;
    let of = Link { agent: &agent, provider: GITLAB };
    if credential_provider.is_none() {
        return of.with_token(pat.as_ref(), LinkIntegration { instance_url, ..nothing() }, format).await;
    }
    let body = LinkIntegration { credential_provider, project_id, access_level, ..nothing() };
    of.minted(&of.path(), Some(&body), format).await
}

async fn undo(unlink: &Unlink, provider: Provider, format: OutputFormat) -> Result<ExitCode, Failure> {
    let agent = &unlink.agent;
    prompt::confirm(&format!("Unlink the agent {agent} from {}?", provider.words), unlink.confirmation.yes)?;
    Link { agent, provider }.undo(format).await
}

fn nothing() -> LinkIntegration {
    LinkIntegration {
        token: None,
        instance_url: None,
        credential_provider: None,
        project_id: None,
        access_level: None,
    }
}

impl Link<'_> {
    fn path(&self) -> String {
        format!("/agents/{}/integrations/{}", self.agent, self.provider.name)
    }

    fn failed(&self, verb: &str, preposition: &str, error: ClientError) -> Failure {
        let Self { agent, provider } = self;
        error.into_failure(&format!("cannot {verb} the agent {agent} {preposition} {}", provider.words))
    }

    /// With a token of somebody's.
    async fn with_token(
        &self,
        pat: Option<&HiddenText>,
        body: LinkIntegration,
        format: OutputFormat,
    ) -> Result<ExitCode, Failure> {
        let failed = |error| self.failed("link", "to", error);
        // First: nobody is to be asked for a token that cannot be sent anyway.
        let mut client = super::client()?;
        let whose = format!("{} token for the agent {}", self.provider.words, self.agent);
        let body = LinkIntegration { token: Some(value::token(pat, &whose)?), ..body };
        let request = Request::create(self.path(), &body).map_err(failed)?;
        drop(body);
        let answer = client.send(request.with_patience(PATIENCE)).await.map_err(failed)?;
        let integration: Integration = client.parse(&answer).map_err(failed)?;
        self.wait(&mut client, answer.revision).await;
        output::answer(format, &integration, |integration| table(std::slice::from_ref(integration)))
    }

    /// With what a credential provider makes: asks for it, and follows it to its end.
    async fn minted(
        &self,
        path: &str,
        body: Option<&LinkIntegration>,
        format: OutputFormat,
    ) -> Result<ExitCode, Failure> {
        let verb = if body.is_some() { "link" } else { "rotate the token of" };
        let preposition = if body.is_some() { "to" } else { "at" };
        let failed = |error| self.failed(verb, preposition, error);
        let mut client = super::client()?;
        let request = match body {
            Some(body) => Request::create(path, body),
            None => Request::post(path).keyed(),
        };
        let answer = client.send(request.map_err(failed)?.with_patience(PATIENCE)).await.map_err(failed)?;
        let begun: Operation = client.parse(&answer).map_err(failed)?;
        let what = format!("cannot {verb} the agent {} {preposition} {}", self.agent, self.provider.words);
        let revision = operation::follow(&mut client, begun, answer.revision, &what).await?;
        self.wait(&mut client, revision).await;
        let path = format!("/agents/{}/integrations", self.agent);
        let integrations: Vec<Integration> = client.list(&path).await.map_err(failed)?;
        let found = integrations.into_iter().find(|found| found.provider.as_str() == self.provider.name);
        let Some(integration) = found else {
            return Err(Failure::new(what, "it was done, and undone by somebody else since"));
        };
        output::answer(format, &integration, |integration| table(std::slice::from_ref(integration)))
    }

    async fn rotate(&self, format: OutputFormat) -> Result<ExitCode, Failure> {
        self.minted(&format!("{}/rotate", self.path()), None, format).await
    }

    async fn undo(&self, format: OutputFormat) -> Result<ExitCode, Failure> {
        let failed = |error| self.failed("unlink", "from", error);
        let mut client = super::client()?;
        let request = Request::delete(self.path()).with_patience(PATIENCE);
        let answer = client.send(request).await.map_err(failed)?;
        let unlinked: Unlinked = client.parse(&answer).map_err(failed)?;
        if !unlinked.missing.is_empty() {
            let names: Vec<String> = unlinked.missing.iter().map(|name| format!("enclave {name}")).collect();
            note(&format!("warning: unlinked, but not yet in force at {}", names.join(", ")));
        }
        if let Some(warning) = &unlinked.warning {
            note(&format!("warning: {warning}"));
        }
        match format {
            OutputFormat::Json => output::print(output::json(&unlinked)?.as_bytes()),
            OutputFormat::Table => Ok(ExitCode::SUCCESS),
        }
    }

    async fn wait(&self, client: &mut Client, revision: Option<u64>) {
        if let Some(revision) = revision {
            Change { revision, agent: Some(self.agent) }.await_connected(client).await;
        }
    }
}
