//! The endpoints, by what they are about.

pub(super) mod accounts;
pub(super) mod groups;
pub(super) mod members;
pub(super) mod personal;
pub(super) mod projects;
pub(super) mod resource;
pub(super) mod users;
