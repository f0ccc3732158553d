//! Protected memory for secret values and for keys: an arena, handed out in slots that are wiped when the last
//! reader lets go.
//!
//! Its pages come from memfd_secret(2) where the kernel has it: not even root reads those through /proc, ptrace
//! or a core dump. The descriptor is closed at once, since pidfd_getfd(2) could map it elsewhere. Elsewhere
//! pages are locked, not dumped, and wiped in children. Guard pages stand on both sides of every run.
#![expect(
    unsafe_code,
    reason = "mapping pages and handing out disjoint parts of them is what this crate is for"
)]
#![warn(missing_docs)]

/// Says why a test does not run on this machine. Written straight to the stream, since the test harness shows
/// what is printed only of tests that fail.
#[cfg(test)]
macro_rules! skipped {
    ($($why:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED {}\n", format_args!($($why)*)))
            .unwrap_or_default()
    };
}

use std::ffi::c_void;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroize;

use self::free::{FreeList, Place};

mod free;
#[cfg(test)]
mod tests;

/// What keeps others from reading the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// memfd_secret(2): unreadable from outside the process.
    Secretmem,
    /// Never swapped, never dumped; whoever may trace the process reads it.
    Locked,
    /// Never dumped, but it may be swapped: RLIMIT_MEMLOCK allows too little.
    Plain,
}

/// Where secret values live. Clones share the memory.
#[derive(Clone)]
pub struct Arena(Arc<Shared>);

/// How full the arena is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What is mapped; more is mapped as it is needed.
    pub capacity_bytes: usize,
    /// What is handed out.
    pub used_bytes: usize,
}

/// Memory that one writer fills before anybody can read it.
pub struct SlotMut(Extent);

/// A value in the arena. Clones share it, and the last one wipes it.
#[derive(Clone)]
pub struct Slot(Bytes);

/// Why there is no memory for a secret.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The configuration requires memfd_secret(2) and the kernel refuses it.
    #[error("memfd_secret is required, and this kernel, its boot options or a limit refuse it")]
    SecretmemRequired(#[source] io::Error),
    /// Not even ordinary pages.
    #[error("no memory can be mapped for secrets")]
    Unavailable(#[source] io::Error),
    /// Mostly RLIMIT_MEMLOCK, which bounds both kinds of protected memory.
    #[error("no protected memory is left for {wanted_bytes} bytes more")]
    Exhausted {
        /// What was asked for.
        wanted_bytes: usize,
        /// What the kernel said; nothing where the arena's own bound was met.
        #[source]
        source: Option<io::Error>,
    },
}

/// The unit of allocation: a cache line, and about half of a short answer.
const GRANULE_BYTES: usize = 64;

/// The first run of pages. With its two guards it fits into RLIMIT_MEMLOCK's traditional 64 KiB, and it holds
/// the answers for more than a hundred credentials.
const FIRST_BYTES: usize = 56 * 1024;

/// The largest run of pages that is mapped ahead of need: mapping it takes about 7 ms.
const AHEAD_BYTES: usize = 1024 * 1024;

/// Who holds more than this has been given something else than credentials and keys.
const MAX_BYTES: usize = 256 * 1024 * 1024;

impl Protection {
    /// The name in logs and in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secretmem => "secretmem",
            Self::Locked => "locked",
            Self::Plain => "plain",
        }
    }
}

impl Arena {
    /// Maps the first pages with the best protection that there is.
    pub fn new(require_secretmem: bool) -> Result<Self, MemoryError> {
        let secretmem = match Self::with(Protection::Secretmem, FIRST_BYTES, MAX_BYTES) {
            Ok(arena) => return Ok(arena),
            Err(error) => io::Error::from(error),
        };
        if require_secretmem {
            return Err(MemoryError::SecretmemRequired(secretmem));
        }
        warn!(error = %secretmem, "memfd_secret is not available; secrets are kept in locked memory");
        Self::with(Protection::Locked, FIRST_BYTES, MAX_BYTES).or_else(|error| {
            warn!(error = %io::Error::from(error), "memory cannot be locked; secrets may reach the swap");
            Self::with(Protection::Plain, FIRST_BYTES, MAX_BYTES)
                .map_err(|error| MemoryError::Unavailable(error.into()))
        })
    }

    /// One that is easily filled.
    #[cfg(any(test, feature = "testing"))]
    pub fn bounded(max_bytes: usize) -> Result<Self, MemoryError> {
        Self::with(Protection::Plain, page_bytes(), max_bytes)
            .map_err(|error| MemoryError::Unavailable(error.into()))
    }

    fn with(protection: Protection, first_bytes: usize, max_bytes: usize) -> Result<Self, Errno> {
        let page_bytes = page_bytes();
        let first = Pages::map(protection, first_bytes.next_multiple_of(page_bytes), page_bytes)?;
        let mut book = Book::default();
        book.add(first);
        Ok(Self(Arc::new(Shared { protection, page_bytes, max_bytes, book: Mutex::new(book) })))
    }

    /// What keeps others from reading.
    pub fn protection(&self) -> Protection {
        self.0.protection
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        let book = self.0.book();
        Usage { capacity_bytes: book.capacity, used_bytes: book.used }
    }

    /// Memory for `length` bytes, all zero.
    pub fn allocate(&self, length: usize) -> Result<SlotMut, MemoryError> {
        let exhausted = |source: Option<Errno>| MemoryError::Exhausted {
            wanted_bytes: length,
            source: source.map(io::Error::from),
        };
        let size = length.max(1).checked_next_multiple_of(GRANULE_BYTES).ok_or_else(|| exhausted(None))?;
        let free = self.0.book().take(size);
        let (place, start) = match free {
            Some(taken) => taken,
            None => self.0.grow(size).map_err(exhausted)?,
        };
        Ok(SlotMut(Extent { shared: Arc::clone(&self.0), place, start, size, length }))
    }
}

impl SlotMut {
    /// Shortens the slot. What is cut off is wiped.
    pub fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.as_mut().get_mut(length..) {
            rest.zeroize();
            self.0.length = length;
        }
    }

    /// What has been written so far.
    pub fn expose_secret(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// Ends writing.
    pub fn freeze(self) -> Slot {
        Slot(Bytes::from_owner(self.0))
    }
}

impl AsMut<[u8]> for SlotMut {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the extent is `size >= length` readable, writable, initialised bytes that belong to nobody
        // else while it lives, and `&mut self` makes this the only slice of it.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.0.as_ptr(), self.0.length) }
    }
}

impl Slot {
    /// The value.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// The value as a response body: the same memory, kept until the body has been written.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

/// Part of a run of pages, owned by one slot.
struct Extent {
    shared: Arc<Shared>,
    place: Place,
    start: Address,
    size: usize,
    length: usize,
}

impl AsRef<[u8]> for Extent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in `SlotMut::as_mut`; every writer needs `&mut`, so shared slices never see a write.
        unsafe { std::slice::from_raw_parts(self.start.0.as_ptr(), self.length) }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // SAFETY: the extent owns these `size` bytes, and in `drop` nobody else has a slice of them. They are
        // given back below, after they have been wiped.
        unsafe { std::slice::from_raw_parts_mut(self.start.0.as_ptr(), self.size) }.zeroize();
        self.shared.book().give_back(self.place, self.size);
    }
}

struct Shared {
    protection: Protection,
    page_bytes: usize,
    max_bytes: usize,
    book: Mutex<Book>,
}

impl Shared {
    /// Held for a few map operations only: readers that drop an answer take it too.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps more pages, a lot where the limits allow it and else as few as will do, and takes the first `size`
    /// bytes of them.
    fn grow(&self, size: usize) -> Result<(Place, Address), Option<Errno>> {
        let capacity = self.book().capacity;
        let needed = size.checked_next_multiple_of(self.page_bytes).ok_or(None)?;
        let ahead = capacity.min(AHEAD_BYTES).next_multiple_of(self.page_bytes);
        let mut refusal = None;
        for length in [needed.max(ahead), needed] {
            if capacity.saturating_add(length) > self.max_bytes {
                continue;
            }
            // Not under the lock: it takes milliseconds.
            match Pages::map(self.protection, length, self.page_bytes) {
                Ok(pages) => {
                    let mut book = self.book();
                    book.add(pages);
                    // Under the same lock, so this finds the pages just added.
                    return book.take(size).ok_or(None);
                }
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal)
    }
}

/// Who has what.
#[derive(Default)]
struct Book {
    runs: Vec<Pages>,
    free: FreeList,
    capacity: usize,
    used: usize,
}

impl Book {
    fn add(&mut self, pages: Pages) {
        self.capacity += pages.length;
        self.free.give(Place { run: self.runs.len(), offset: 0 }, pages.length);
        self.runs.push(pages);
    }

    fn take(&mut self, size: usize) -> Option<(Place, Address)> {
        let place = self.free.take(size)?;
        self.used += size;
        Some((place, self.runs.get(place.run)?.at(place.offset)?))
    }

    fn give_back(&mut self, place: Place, size: usize) {
        self.used -= size;
        self.free.give(place, size);
    }
}

/// The address of bytes in a run of pages.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: an address by itself gives no access. `Extent` and `Pages`, which use theirs, own what it points to,
// and pages are the same to all threads.
unsafe impl Send for Address {}
// SAFETY: as above; through a shared `Extent` memory is only read.
unsafe impl Sync for Address {}

/// A run of pages, with a guard page on both sides.
struct Pages {
    /// Of the first page behind the guard.
    start: Address,
    /// Without the guards.
    length: usize,
    guard: usize,
}

impl Pages {
    /// `length` and `guard` are whole pages.
    fn map(protection: Protection, length: usize, guard: usize) -> Result<Self, Errno> {
        let whole = length + 2 * guard;
        let base = match protection {
            Protection::Secretmem => map_secret(whole)?,
            Protection::Locked | Protection::Plain => {
                // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
                unsafe {
                    mm::mmap_anonymous(
                        ptr::null_mut(),
                        whole,
                        ProtFlags::READ | ProtFlags::WRITE,
                        MapFlags::PRIVATE,
                    )
                }?
            }
        };
        let start = NonNull::new(base.cast::<u8>().wrapping_add(guard)).ok_or(Errno::NOMEM)?;
        // From here on an error unmaps by drop.
        let pages = Self { start: Address(start), length, guard };
        pages.protect(protection)?;
        pages.prefault(guard);
        Ok(pages)
    }

    fn protect(&self, protection: Protection) -> Result<(), Errno> {
        let first: *mut c_void = self.start.0.as_ptr().cast();
        let (before, after) = (first.wrapping_byte_sub(self.guard), first.wrapping_byte_add(self.length));
        // SAFETY: all ranges lie in this fresh mapping, of which no reference exists yet. None of the calls
        // changes what the usable pages contain in this process.
        unsafe {
            mm::mprotect(before, self.guard, MprotectFlags::empty())?;
            mm::mprotect(after, self.guard, MprotectFlags::empty())?;
            mm::madvise(first, self.length, Advice::LinuxDontDump)?;
            match protection {
                // WIPEONFORK is for private mappings only, and this one is shared.
                Protection::Secretmem => mm::madvise(first, self.length, Advice::LinuxDontFork),
                Protection::Locked => {
                    mm::madvise(first, self.length, Advice::LinuxWipeOnFork)?;
                    mm::mlock(first, self.length)
                }
                Protection::Plain => mm::madvise(first, self.length, Advice::LinuxWipeOnFork),
            }
        }
    }

    /// Makes every page present now, so that a lack of memory shows here and not while serving.
    fn prefault(&self, page_bytes: usize) {
        for offset in (0..self.length).step_by(page_bytes) {
            // SAFETY: within the usable pages, which are writable and not yet handed out.
            unsafe { self.start.0.as_ptr().add(offset).write_volatile(0) };
        }
    }

    fn at(&self, offset: usize) -> Option<Address> {
        let address = self.start.0.as_ptr().wrapping_add(offset);
        (offset < self.length).then(|| NonNull::new(address).map(Address)).flatten()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let base = self.start.0.as_ptr().wrapping_sub(self.guard);
        // SAFETY: exactly the mapping made in `map`. Every extent holds the arena, so none is left.
        let unmapped = unsafe { mm::munmap(base.cast(), self.length + 2 * self.guard) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own cannot be unmapped");
    }
}

fn map_secret(length: usize) -> Result<*mut c_void, Errno> {
    // SAFETY: the call takes flags and touches no memory.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0).ok_or_else(last_error)?;
    // SAFETY: a descriptor that the kernel has just made for us. It is closed when this function returns.
    let file = unsafe { OwnedFd::from_raw_fd(raw) };
    rustix::fs::ftruncate(&file, u64::try_from(length).map_err(|_| Errno::NOMEM)?)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    unsafe {
        mm::mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::NOSYS)
}

fn page_bytes() -> usize {
    // SAFETY: sysconf only returns a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
