//! A simulator of GitLab: what of its REST API and of its git server a provisioner of credentials meets.
//!
//! It answers as GitLab's documentation, source and request specs say, down to the wording of errors, and keeps
//! its state in memory. Its clock can be set, its answers can be made to fail, and what it holds and was asked
//! can be read, all on a second port, below `/_sim/`:
//!
//! | request | does |
//! |---|---|
//! | `GET clock`, `PUT clock` | `{"now": …}` stops the clock there, `{"offset_seconds": …}` lets it run apart |
//! | `POST seed` | adds users, groups, projects, members and tokens; the answer has their ids and values |
//! | `GET settings`, `PATCH settings` | what an administrator decides, edition, limits ([`settings`]) |
//! | `GET state`, `GET live` | everything there is; the minted identities and tokens that still work |
//! | `PATCH users/:name` | `{"state": "active" / "blocked" / "pending", "admin": …}` |
//! | `PATCH tokens/:id`, `DELETE tokens/:id` | `revoked`, `expires_at`, `scopes`; removes the row |
//! | `POST service_accounts` | many at once: `{"group": …, "count": …}` |
//! | `POST jobs` | deletes now what waits for its deletion |
//! | `POST faults`, `GET faults`, `DELETE faults` | failures to come ([`fault`]) |
//! | `GET requests`, `DELETE requests` | what was asked: method, path, fingerprint of the token, status |
//! | `GET secrets` | every token value ever issued, to search for in what must not have them |

mod access;
mod admin;
mod answer;
mod api;
mod auth;
mod call;
mod clock;
mod expiry;
mod fault;
mod git;
mod handle;
mod journal;
mod limit;
mod model;
mod page;
mod params;
mod routes;
mod seed;
mod server;
mod settings;
mod stream;
mod text;
mod token;
mod value;
mod web;

pub use handle::GitLab;
pub use server::serve as serve_gitlab;
