//! Projects and their access tokens.

use serde::Serialize;

use super::{NewToken, Removed, Session};
use crate::access::AccessLevel;
use crate::error::{Error, Missing};
use crate::ids::{ProjectId, TokenId};
use crate::types::{MintedToken, Project, TokenInfo};

#[derive(Serialize)]
struct NewProjectToken<'a> {
    #[serde(flatten)]
    token: &'a NewToken,
    access_level: AccessLevel,
}

impl Session<'_> {
    /// A project: `GET /projects/:id`.
    pub async fn project(&self, project: ProjectId) -> Result<Project, Error> {
        self.read("/projects/:id", &format!("/projects/{project}")).await
    }

    /// Makes a token for a project, and with it a new user that is a member of it at `access_level`:
    /// `POST /projects/:id/access_tokens`.
    ///
    /// When the answer is lost, the list tells by the token's name what became of it.
    pub async fn create_project_token(
        &self,
        project: ProjectId,
        token: &NewToken,
        access_level: AccessLevel,
    ) -> Result<MintedToken, Error> {
        let target = format!("/projects/{project}/access_tokens");
        let body = NewProjectToken { token, access_level };
        self.mint("/projects/:id/access_tokens", &target, &body).await
    }

    /// The tokens of a project, the dead ones too: `GET /projects/:id/access_tokens`. Needs a Maintainer.
    pub async fn project_tokens(&self, project: ProjectId) -> Result<Vec<TokenInfo>, Error> {
        let path = format!("/projects/{project}/access_tokens");
        self.tell_denial(self.list("/projects/:id/access_tokens", &path).await).await
    }

    /// Revokes a token of a project; it is dead at once. Its user goes some time later.
    pub async fn revoke_project_token(&self, project: ProjectId, token: TokenId) -> Result<Removed, Error> {
        let target = format!("/projects/{project}/access_tokens/{token}");
        let outcome = self.delete("/projects/:id/access_tokens/:token_id", &target, &[Missing::Token]).await;
        self.tell_denial(outcome).await
    }
}
