//! A client of GitLab with only the calls that dvx needs to link, provision, rotate, repair and unlink, and of
//! GitHub with the one that it needs to check a token.
//!
//! ```text
//! Guard ── Transport ── GitLab ── with_token ── user, token_self, create_service_account, …
//!  where may     one connection     which         typed calls; every failure is an Error by its cause
//!  we connect?   to a checked       instance?
//!                address a call
//! ```
//!
//! What holds for every call:
//!
//! - A request takes at most 30 seconds, attempts and waits included ([`Transport::with_limit`]). Calls that make
//!   several, such as those that read a list, take that for each.
//! - The address that the [`Guard`] has checked is the one that is dialled; there is no second look-up.
//! - A redirect is never followed, no proxy is used, and bodies of more than 1 MiB are refused.
//! - Only a call that is safe to repeat is repeated, after a wait with jitter: one that reads, one whose second
//!   time changes nothing, or one of which not a byte was sent. [`Session::rotate_self`] is never repeated.
//! - A call that changes something, was sent, and brought no readable answer fails with
//!   [`Error::ResponseLost`]: it may have had its effect.
//! - The token stands in a header that no log shows, and in nothing else. What the instance says is shortened
//!   and cleared of tokens before it becomes part of an error ([`ServerText`]).
//! - Tokens that arrive become [`dvx_proto::Token`], and the buffer that they came in is wiped. The buffers of
//!   hyper and rustls are theirs: a program that wants those wiped as well frees its memory through an allocator
//!   that does that.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod answer;
mod call;
mod classify;
mod client;
mod clock;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod github;
mod guard;
mod ids;
mod kind;
mod lifetime;
mod page;
mod scope;
mod text;
mod transport;
mod types;

#[cfg(test)]
mod testing;

pub use access::AccessLevel;
pub use client::{Added, GitLab, NewToken, Removed, Session};
pub use error::{Error, Loss, Missing};
pub use github::{GitHub, GitHubUser};
pub use guard::{AddressKind, Guard, InvalidNetwork, Network, Refusal};
pub use ids::{GroupId, GroupRef, InvalidGroupRef, ProjectId, TokenId, UserId};
pub use kind::TokenKind;
pub use lifetime::{Jitter, ends_at, expiry_date, rotate_at};
pub use scope::{Need, Scopes};
pub use text::ServerText;
pub use transport::{InvalidRoots, Transport};
pub use types::{Group, Member, MintedToken, Project, ServiceAccount, TokenInfo, User};
