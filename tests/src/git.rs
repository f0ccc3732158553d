//! A git server behind Basic authentication, and git commands that do not know the machine's own settings.

mod cgi;
mod client;
mod lfs;
mod request;
mod server;

pub use client::GitClient;
pub use server::GitServer;
pub(crate) use {cgi::reply, request::Request, request::answer, server::initialise};
