//! Groups and who is in them.

use hyper::Method;

use super::{Added, Session};
use crate::access::AccessLevel;
use crate::answer::acknowledged;
use crate::call::Repeat;
use crate::error::{Error, Missing};
use crate::ids::{GroupId, GroupRef, UserId};
use crate::types::{Group, Member};

impl Session<'_> {
    /// A group: `GET /groups/:id`. That it is found says nothing about the user's role, for anyone sees a public
    /// group.
    pub async fn group(&self, group: &GroupRef) -> Result<Group, Error> {
        // Without this GitLab lists the group's projects as well.
        let target = format!("/groups/{}?with_projects=false", group.segment());
        self.read("/groups/:id", &target).await
    }

    /// A user's membership of a group, by itself, from a group around it, or through another group:
    /// `GET /groups/:id/members/all/:user_id`. An administrator of the instance need not be a member.
    pub async fn member(&self, group: GroupId, user: UserId) -> Result<Option<Member>, Error> {
        let target = format!("/groups/{group}/members/all/{user}");
        match self.read("/groups/:id/members/all/:user_id", &target).await {
            Ok(member) => Ok(Some(member)),
            Err(Error::NotFound { what: Missing::Other | Missing::User }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Passes if the session's user is an Owner of the group, or administers the instance; else
    /// [`Error::NotOwner`].
    pub async fn require_owner(&self, group: GroupId) -> Result<(), Error> {
        let user = self.user().await?;
        if user.is_admin {
            return Ok(());
        }
        match self.member(group, user.id).await? {
            Some(member) if member.access_level >= AccessLevel::OWNER => Ok(()),
            _ => Err(Error::NotOwner),
        }
    }

    /// Makes a user a member: `POST /groups/:id/members`. One who is a member already stays what it is, whatever
    /// its level.
    pub async fn add_member(&self, group: GroupId, user: UserId, level: AccessLevel) -> Result<Added, Error> {
        let target = format!("/groups/{group}/members");
        let body = serde_json::json!({ "user_id": user, "access_level": level });
        let route = "/groups/:id/members";
        match self.call(Method::POST, route, &target, Some(&body), Repeat::Idempotent).await {
            Ok(answer) => acknowledged(&answer).map(|()| Added::Now),
            Err(Error::Conflict { .. }) => Ok(Added::Before),
            Err(error) => Err(error),
        }
    }
}
