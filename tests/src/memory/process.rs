//! The memory of another process, as root reads it.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dvx_needles::{Hit, Needles};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::clock::eventually;

const PAGE: usize = 4096;

/// How far a text that begins in a page may go on in the next.
const OVERLAP: usize = 128;

/// How much around something that was found is shown.
const AROUND: usize = 48;

/// How often in a row a process has to be seen waiting, since it also waits for a moment within its work.
const RESTS: u32 = 4;

/// One mapping of a process.
struct Mapping {
    /// Its line in `/proc/<pid>/maps`.
    line: String,
    start: u64,
    length: usize,
    /// The file and the offset of what is shared with nobody and, as long as nobody writes to it, the file's.
    private_file: Option<(String, u64)>,
    is_readable: bool,
}

/// What a search of a process has brought.
#[derive(Debug)]
pub struct Findings {
    /// What was found.
    pub places: Vec<Place>,
    /// How much was read.
    pub bytes: usize,
    /// The mappings that the process itself reads and root cannot.
    pub hidden: Vec<String>,
}

/// Where something was found.
pub struct Place {
    /// What.
    pub hit: Hit,
    /// The line of the mapping.
    pub mapping: String,
    address: u64,
    around: String,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hit, mapping, address, around } = self;
        write!(f, "{} {}, {} bytes at {address:x} in {mapping}: {around}", hit.marker, hit.form, hit.length)
    }
}

/// Looks through all the memory of a process that can be read. Pages of a program or a library that are as they
/// are in its file, which is older than any marker, are read and not searched; so are pages of zeros.
pub fn search_memory(pid: u32, needles: &Needles) -> Findings {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("root reads the memory of processes");
    let mut findings = Findings { places: Vec::new(), bytes: 0, hidden: Vec::new() };
    for mapping in mappings(pid).iter().filter(|mapping| mapping.is_readable) {
        let (bytes, unread) = read(&memory, mapping);
        if unread > 0 {
            findings.hidden.push(mapping.line.clone());
        }
        findings.bytes += bytes.len() - unread * PAGE;
        let file =
            mapping.private_file.as_ref().and_then(|(path, offset)| file_text(path, *offset, bytes.len()));
        let file = file.unwrap_or_default();
        let is_known = |at: usize| {
            let page = &bytes[at..at + PAGE];
            page == [0; PAGE] || file.get(at..at + PAGE) == Some(page)
        };
        let mut at = 0;
        while at < bytes.len() {
            let mut end = at;
            while end < bytes.len() && !is_known(end) {
                end += PAGE;
            }
            let text = &bytes[at..(end + OVERLAP).min(bytes.len())];
            if end > at {
                findings
                    .places
                    .extend(needles.find(text).into_iter().map(|hit| place(hit, mapping, at, text)));
            }
            at = end + PAGE;
        }
    }
    // A thread that has ended meanwhile has taken its pages with it.
    let now: Vec<String> = mappings(pid).into_iter().map(|mapping| mapping.line).collect();
    findings.hidden.retain(|line| now.contains(line));
    findings
}

fn place(hit: Hit, mapping: &Mapping, from: usize, text: &[u8]) -> Place {
    let around = &text[hit.at.saturating_sub(AROUND)..(hit.at + hit.length + AROUND).min(text.len())];
    Place {
        mapping: mapping.line.clone(),
        address: mapping.start + (from + hit.at) as u64,
        around: around.escape_ascii().to_string(),
        hit,
    }
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process is there");
    maps.lines().map(Mapping::parse).collect()
}

impl Mapping {
    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default();
        let (range, mode, offset) = (word(), word(), word());
        let (_device, inode, path) = (word(), word(), word());
        let number = |text: &str| u64::from_str_radix(text, 16).expect("addresses are hexadecimal");
        let (start, end) = range.split_once('-').expect("a range has two ends");
        // What lies below the directory of the test may be younger than a marker.
        let is_older =
            inode != "0" && mode.ends_with('p') && !Path::new(path).starts_with(std::env::temp_dir());
        Self {
            start: number(start),
            length: usize::try_from(number(end) - number(start)).unwrap(),
            private_file: is_older.then(|| (path.to_owned(), number(offset))),
            is_readable: mode.starts_with('r'),
            line: line.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

/// What a mapping holds, and how many of its pages cannot be read.
fn read(memory: &File, mapping: &Mapping) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; mapping.length];
    if memory.read_exact_at(&mut bytes, mapping.start).is_ok() {
        return (bytes, 0);
    }
    let pages = bytes.chunks_mut(PAGE).enumerate();
    let unread = pages.filter_map(|(number, page)| {
        memory.read_exact_at(page, mapping.start + (number * PAGE) as u64).err()
    });
    let unread = unread.count();
    (bytes, unread)
}

/// As much of a file as there is, as often as it takes to fill whole pages: behind a file's end they have zeros.
fn file_text(path: &str, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut text = vec![0; length];
    let file = File::open(path).ok()?;
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut text[filled..], offset + filled as u64).ok()? {
            0 => break,
            count => filled += count,
        }
    }
    Some(text)
}

/// Waits until every thread of a process waits for something, as often as it is looked at.
#[track_caller]
pub fn at_rest(pid: u32) {
    let mut looks = 0;
    eventually("the process rests", || {
        looks = if rests(pid) { looks + 1 } else { 0 };
        looks == RESTS
    });
}

fn rests(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 't', 'T', 'Z', 'X']))
    })
}

/// Calls `end`, waits until a child of the test is about to end by itself, and calls `look` while its memory is still
/// there.
#[track_caller]
pub fn look_at_its_end<T>(pid: u32, end: impl FnOnce(), look: impl FnOnce() -> T) -> T {
    let process = Pid::from_raw(pid.cast_signed());
    ptrace::seize(process, Options::PTRACE_O_TRACEEXIT).expect("root traces its children");
    end();
    loop {
        match waitpid(process, Some(WaitPidFlag::__WALL)).expect("it is a child of this thread's") {
            WaitStatus::PtraceEvent(..) => {
                let seen = look();
                ptrace::detach(process, None).expect("it is stopped");
                return seen;
            }
            WaitStatus::Stopped(_, signal) => pass_on(process, signal),
            other => panic!("the process ended unseen: {other:?}"),
        }
    }
}

fn pass_on(process: Pid, signal: Signal) {
    ptrace::cont(process, Some(signal)).expect("it is stopped");
}
