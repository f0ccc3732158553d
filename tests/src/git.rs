//! A git server behind Basic authentication, and git commands that do not know the machine's own settings.

mod cgi;
mod lfs;
mod request;
mod server;

pub use server::GitServer;
