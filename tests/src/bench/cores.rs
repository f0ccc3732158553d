//! Where programs run. On two idle cores of a virtual machine, waking the other one costs more than the request
//! that is measured.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::settings;

/// The cores that are used.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// All servers', and a single client's.
    pub server: usize,
    /// That of many clients.
    pub clients: usize,
}

impl Cores {
    /// `DVX_BENCH_CORES`, such as `2,3`; else the first and the last that this process may use.
    pub fn choose() -> Self {
        let named = settings::words("DVX_BENCH_CORES", "");
        let numbers: Vec<usize> = named.iter().map(|word| word.parse().expect("cores are numbers")).collect();
        match (numbers.as_slice(), allowed().as_slice()) {
            ([server, clients], _) => Self { server: *server, clients: *clients },
            ([], [only]) => Self { server: *only, clients: *only },
            ([], [first, .., last]) => Self { server: *first, clients: *last },
            _ => panic!("DVX_BENCH_CORES is two numbers"),
        }
    }
}

fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap()).collect()
}

/// Keeps this thread, and the programs that it starts, on one core.
pub fn pin_this_thread(core: usize) {
    pin(Pid::from_raw(0), core);
}

/// Keeps all threads of a process on one core.
pub fn pin_process(pid: u32, core: usize) {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let id: i32 = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        pin(Pid::from_raw(id), core);
    }
}

fn pin(thread: Pid, core: usize) {
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(thread, &set).unwrap_or_else(|error| panic!("core {core}: {error}"));
}
