//! Against a simulator of GitLab.

mod crashes;
mod life;
mod repair;
mod world;
