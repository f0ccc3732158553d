use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use proptest::prelude::*;

use super::*;

fn every_protection() -> Vec<Arena> {
    [Protection::Secretmem, Protection::Locked, Protection::Plain]
        .into_iter()
        .filter_map(|protection| match Arena::with(protection, FIRST_BYTES, MAX_BYTES) {
            Ok(arena) => Some(arena),
            Err(error) => {
                skipped!("{} memory is not available: {error}", protection.as_str());
                None
            }
        })
        .collect()
}

fn filled(arena: &Arena, value: &[u8]) -> SlotMut {
    let mut slot = arena.allocate(value.len()).unwrap();
    slot.as_mut().copy_from_slice(value);
    slot
}

#[test]
fn a_slot_is_zero_before_and_after_its_life() {
    for arena in every_protection() {
        let slot = filled(&arena, &[0xa5; 200]).freeze();
        let address = slot.expose_secret().as_ptr();
        let clone = slot.to_bytes();
        drop(slot);
        assert_eq!(&clone[..], [0xa5; 200], "a reader keeps the value");
        drop(clone);
        // SAFETY: the pages stay mapped as long as the arena lives, and nothing else allocates from it.
        let freed = unsafe { std::slice::from_raw_parts(address, 256) };
        assert_eq!(freed, [0; 256]);
        assert_eq!(arena.usage().used_bytes, 0);

        let mut again = arena.allocate(256).unwrap();
        assert_eq!(again.as_mut().as_ptr(), address, "freed memory is used again");
        assert_eq!(again.as_mut(), [0; 256]);
    }
}

#[test]
fn what_truncation_cuts_off_is_wiped() {
    let arena = Arena::new(false).unwrap();
    let mut slot = filled(&arena, b"value\n");
    slot.truncate(5);
    slot.truncate(9);
    assert_eq!(slot.expose_secret(), b"value");
    let slot = slot.freeze();
    // SAFETY: the granule behind the slot belongs to it.
    assert_eq!(unsafe { *slot.expose_secret().as_ptr().add(5) }, 0);
}

#[test]
fn other_threads_read_the_value() {
    for arena in every_protection() {
        let slot = filled(&arena, b"shared").freeze();
        let reader = slot.clone();
        assert!(std::thread::spawn(move || reader.expose_secret() == b"shared").join().unwrap());
        assert_eq!(slot.expose_secret(), b"shared");
    }
}

#[test]
fn a_child_does_not_inherit_the_value() {
    for arena in every_protection() {
        let value = b"not for children";
        let slot = filled(&arena, value).freeze();
        let bytes = slot.expose_secret();
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the child calls write(2) and _exit(2) only, which are safe after fork in a program with
        // threads. Where the page is missing, write(2) fails.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                let wrote =
                    libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), bytes.as_ptr().cast(), bytes.len());
                libc::_exit(if wrote < 0 { 1 } else { 2 });
            }
            child
        };
        drop(writer);
        let mut seen = Vec::new();
        reader.read_to_end(&mut seen).unwrap();
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        match arena.protection() {
            Protection::Secretmem => assert_eq!((seen.as_slice(), libc::WEXITSTATUS(status)), (&[][..], 1)),
            Protection::Locked | Protection::Plain => assert_eq!(seen, [0; 16]),
        }
    }
}

#[test]
fn secret_memory_cannot_be_read_through_proc() {
    let arena = Arena::new(false).unwrap();
    if arena.protection() != Protection::Secretmem {
        skipped!("this kernel has no memfd_secret");
        return;
    }
    let slot = filled(&arena, b"not for debuggers").freeze();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let heap = b"an ordinary value".to_vec();
    let mut seen = [0; 17];
    memory.read_exact_at(&mut seen, heap.as_ptr() as u64).unwrap();
    assert_eq!(&seen[..], &heap[..], "the way of reading works");
    let error = memory.read_exact_at(&mut seen, slot.expose_secret().as_ptr() as u64).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}

#[test]
fn no_descriptor_of_the_pages_stays_open() {
    let _arena = Arena::new(false).unwrap();
    let is_open = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        targets.any(|target| target.to_string_lossy().contains("secretmem"))
    };
    // Other tests make arenas meanwhile, so one may be open for a moment, but none stays.
    let stays_open = (0..500).all(|_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        is_open()
    });
    assert!(!stays_open);
}

#[test]
fn both_ends_of_the_pages_are_guarded() {
    for arena in every_protection() {
        let slot = arena.allocate(1).unwrap();
        let first = slot.expose_secret().as_ptr() as usize;
        let page = page_bytes();
        let last = first + arena.usage().capacity_bytes;
        for guard in [first - page, last] {
            assert_eq!(permissions(guard), "---", "{} at {guard:x}", arena.protection().as_str());
        }
        assert_eq!(permissions(first), "rw-");
    }
}

/// The permissions of the mapping at an address, as proc_pid_maps(5) has them.
fn permissions(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16).unwrap());
        (start..end).contains(&address)
    });
    line.map_or_else(String::new, |line| line.split(' ').nth(1).unwrap()[..3].to_owned())
}

#[test]
fn the_arena_grows_and_ends_in_an_error() {
    let page = page_bytes();
    let arena = Arena::bounded(16 * page).unwrap();
    let mut slots = Vec::new();
    let error = loop {
        match arena.allocate(1000) {
            Ok(slot) => slots.push(slot),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MemoryError::Exhausted { wanted_bytes: 1000, .. }));
    assert_eq!(arena.usage(), Usage { capacity_bytes: 16 * page, used_bytes: slots.len() * 1024 });
    assert!(slots.len() * 1024 > 15 * page, "{} slots", slots.len());
    assert!(arena.allocate(usize::MAX).is_err());
    slots.pop();
    assert!(arena.allocate(1024).is_ok(), "what was freed can be had again");
}

#[test]
fn a_large_value_gets_pages_of_its_own() {
    let arena = Arena::new(false).unwrap();
    let value = vec![7; 400 * 1024];
    let slot = filled(&arena, &value).freeze();
    assert_eq!(slot.expose_secret(), value);
}

const UNDER_A_LIMIT: &str = "DVX_TEST_UNDER_A_LIMIT";

/// The kernel's limit counts for the whole process and not for root, so this runs in one of its own.
#[test]
fn the_limit_on_locked_memory_is_met_with_an_error() {
    if std::env::var_os(UNDER_A_LIMIT).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tests::the_limit_on_locked_memory_is_met_with_an_error"]);
        if rustix::process::geteuid().is_root() {
            child.uid(65_533);
        }
        // SAFETY: setrlimit(2) is all that happens between fork and exec.
        unsafe { child.pre_exec(|| limit_locked_memory(64 * 1024)) };
        match child.env(UNDER_A_LIMIT, "1").output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => skipped!("the test binary cannot be run by another user: {error}"),
        }
        return;
    }
    let arena = Arena::new(false).unwrap();
    assert_ne!(arena.protection(), Protection::Plain, "the traditional 64 KiB are enough to begin with");
    let slots: Vec<_> = std::iter::from_fn(|| arena.allocate(64).ok()).collect();
    assert!(slots.len() * 64 >= FIRST_BYTES, "{} slots", slots.len());
    assert!(slots.len() * 64 <= 64 * 1024, "{} slots", slots.len());
}

fn limit_locked_memory(bytes: u64) -> io::Result<()> {
    let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Memlock, limit)?)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Takes and gives back in any order; what is held never overlaps, and in the end all is one free piece.
    #[test]
    fn the_book_never_hands_out_a_byte_twice(steps in prop::collection::vec((1_usize..40, any::<prop::sample::Index>(), any::<bool>()), 1..200)) {
        let arena = Arena::bounded(64 * 1024).unwrap();
        let mut held: Vec<SlotMut> = Vec::new();
        for (granules, index, give) in steps {
            if give && !held.is_empty() {
                drop(held.swap_remove(index.index(held.len())));
            } else if let Ok(slot) = arena.allocate(granules * GRANULE_BYTES) {
                held.push(slot);
            }
            let mut ends = BTreeSet::new();
            for slot in &held {
                let start = slot.0.start.0.as_ptr() as usize;
                prop_assert!(ends.insert((start, start + slot.0.size)));
            }
            let ordered: Vec<_> = ends.into_iter().collect();
            prop_assert!(ordered.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            prop_assert_eq!(arena.usage().used_bytes, held.iter().map(|slot| slot.0.size).sum::<usize>());
        }
        held.clear();
        let book = arena.0.book();
        prop_assert_eq!(book.free.pieces().count(), book.runs.len());
        prop_assert_eq!(book.free.pieces().map(|(_, size)| size).sum::<usize>(), book.capacity);
    }
}
