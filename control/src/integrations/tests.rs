//! Against a simulator of GitLab.

mod crashes;
mod left_behind;
mod life;
mod repair;
mod repeated;
mod world;
