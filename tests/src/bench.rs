//! What the benchmarks under `benches/` share: a load generator, the servers that it drives, and the report.

mod acting;
mod closed_loop;
mod cores;
mod load;
mod open_loop;
mod process;
mod report;
mod servers;
mod settings;
mod statistics;
mod target;
mod wire;

pub use acting::Acting;
pub use cores::{Cores, pin_process, pin_this_thread};
pub use load::{Load, Pace, Sample, Use, drive};
pub use process::{Memory, cpu_time, memory};
pub use report::{Bound, Report, Table, Verdict};
pub use servers::{Broker, GitCache, Server, run_if_asked, servers};
pub use settings::{is_asked_to_measure, number, release_program, setting, static_program, words};
pub use statistics::{median, quantile};
pub use target::Transport;

pub use crate::ground::give;
