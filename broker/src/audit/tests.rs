use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::verify::verify;
use super::*;

pub(super) const EVENT: Event<'static> = Event {
    time: Timestamp::UNIX_EPOCH,
    agent: None,
    uid: None,
    gid: None,
    pid: None,
    cgroup: None,
    transport: Transport::Tcp,
    action: Action::Unknown,
    subject: None,
    decision: Verdict::Denied,
    reason: None,
    fingerprint: None,
    revision: None,
    request_id: "r",
};

pub(super) fn enclave() -> EnclaveName {
    "lab-1".parse().unwrap()
}

fn open(path: &Path) -> Result<Audit, AuditError> {
    Audit::open(&AuditSink::File(path.to_owned()), &enclave())
}

pub(super) struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path("audit.jsonl")
    }

    pub(super) fn open(&self) -> Audit {
        open(&self.file()).unwrap()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.file()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The numbers of the lines of a chain that goes on through these files.
    pub(super) fn seqs(&self, names: &[&str]) -> (u64, u64) {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let intact = verify(&paths).unwrap_or_else(|found| panic!("{found}"));
        (intact.first_seq.unwrap(), intact.last_seq.unwrap())
    }
}

#[test]
fn a_line_has_all_members_in_the_documented_order() {
    let log = Log::new();
    let audit = log.open();
    let served = Event {
        time: "2027-01-02T03:04:05.678901234Z".parse().unwrap(),
        agent: Some("my-agent"),
        uid: Some(1001),
        gid: Some(0),
        pid: Some(u32::MAX),
        cgroup: Some("/system.slice/x.service"),
        transport: Transport::Unix,
        action: Action::CredentialGet,
        subject: Some("gitlab"),
        decision: Verdict::Served,
        reason: Some("why \"not\""),
        fingerprint: Some(Fingerprint::of(b"abc")),
        revision: Some(u64::MAX),
        request_id: "id-1",
    };
    audit.record(&served).unwrap();
    audit.record(&EVENT).unwrap();
    let zeros = "0".repeat(64);
    let first = format!(
        r#"{{"time":"2027-01-02T03:04:05.678901Z","seq":1,"enclave":"lab-1","agent":"my-agent","uid":1001,"gid":0,"pid":4294967295,"cgroup":"/system.slice/x.service","transport":"unix","action":"credential.get","subject":"gitlab","decision":"served","reason":"why \"not\"","fingerprint":"ba7816bf8f01cfea","revision":18446744073709551615,"request_id":"id-1","prev":"{zeros}"}}"#
    );
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(first.as_bytes()).into();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let second = format!(
        r#"{{"time":"1970-01-01T00:00:00.000000Z","seq":2,"enclave":"lab-1","agent":null,"uid":null,"gid":null,"pid":null,"cgroup":null,"transport":"tcp","action":"unknown","subject":null,"decision":"denied","reason":null,"fingerprint":null,"revision":null,"request_id":"r","prev":"{hash}"}}"#
    );
    assert_eq!(log.lines(), [first, second]);
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 2));
}

#[test]
fn a_restart_goes_on_with_the_chain() {
    let log = Log::new();
    for _ in 0..3 {
        let audit = log.open();
        audit.record(&EVENT).unwrap();
        audit.record(&EVENT).unwrap();
    }
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 6));
}

#[test]
fn a_line_that_was_never_finished_is_cut_off() {
    let log = Log::new();
    log.open().record(&EVENT).unwrap();
    let whole = fs::read(log.file()).unwrap();
    for torn in [&b"{\"time\":\"20"[..], b"\0\0\0\0", b"x"] {
        fs::write(log.file(), [whole.as_slice(), torn].concat()).unwrap();
        drop(log.open());
        assert_eq!(fs::read(log.file()).unwrap(), whole);
    }
    fs::write(log.file(), &whole[..20]).unwrap();
    log.open().record(&EVENT).unwrap();
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 1));
}

#[test]
fn a_rotation_by_renaming_keeps_the_chain() {
    let log = Log::new();
    let audit = log.open();
    audit.record(&EVENT).unwrap();
    fs::rename(log.file(), log.path("audit.jsonl.1")).unwrap();
    audit.record(&EVENT).unwrap(); // before anyone told us: goes to the renamed file
    audit.reopen().unwrap();
    audit.record(&EVENT).unwrap();
    audit.reopen().unwrap(); // nothing was renamed
    audit.record(&EVENT).unwrap();
    assert_eq!(log.lines().len(), 2);
    assert_eq!(log.seqs(&["audit.jsonl", "audit.jsonl.1"]), (1, 4));
}

#[test]
fn a_restart_after_a_rotation_goes_on_with_the_newest_log_of_its_own_enclave() {
    let log = Log::new();
    let foreign = Audit::open(&AuditSink::File(log.path("audit.jsonl-other")), &"other".parse().unwrap());
    let foreign = foreign.unwrap();
    for _ in 0..9 {
        foreign.record(&EVENT).unwrap();
    }
    for rotated in ["audit.jsonl.2", "audit.jsonl.1"] {
        let audit = log.open();
        audit.record(&EVENT).unwrap();
        audit.record(&EVENT).unwrap();
        fs::rename(log.file(), log.path(rotated)).unwrap();
    }
    fs::write(log.path("audit.jsonl.3.gz"), b"\x1f\x8b\n").unwrap();
    log.open().record(&EVENT).unwrap();
    assert_eq!(log.seqs(&["audit.jsonl.1", "audit.jsonl", "audit.jsonl.2"]), (1, 5));
}

#[test]
fn a_log_that_was_deleted_is_made_anew_with_the_chain_going_on() {
    let log = Log::new();
    let audit = log.open();
    audit.record(&EVENT).unwrap();
    fs::remove_file(log.file()).unwrap();
    assert_eq!(audit.health(), None);
    audit.record(&EVENT).unwrap();
    assert_eq!(log.seqs(&["audit.jsonl"]), (2, 2));
    fs::remove_file(log.file()).unwrap();
    fs::create_dir(log.file()).unwrap();
    assert!(audit.health().is_some_and(|why| why.contains("cannot open the audit file")));
}

#[test]
fn a_log_is_created_for_its_owner_alone() {
    let log = Log::new();
    drop(log.open());
    assert_eq!(fs::metadata(log.file()).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn logs_that_others_can_read_or_that_are_no_files_are_refused() {
    let log = Log::new();
    drop(log.open());
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(log.file(), Permissions::from_mode(mode)).unwrap();
        assert!(matches!(open(&log.file()), Err(AuditError::Mode { mode: found, .. }) if found == mode));
    }
    let link = log.path("link");
    symlink(log.path("target"), &link).unwrap();
    assert!(matches!(open(&link), Err(AuditError::File { action: "open", .. })));
    assert!(!log.path("target").exists());
    assert!(open(log.directory.path()).is_err());
    assert!(open(&log.path("none/audit.jsonl")).is_err());
    let fifo = log.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(matches!(open(&fifo), Err(AuditError::NotAFile(_))));
}

#[test]
fn a_log_that_belongs_to_another_user_is_refused() {
    let log = Log::new();
    drop(log.open());
    if std::os::unix::fs::chown(log.file(), Some(1), None).is_err() {
        skipped!("giving a file away needs root");
        return;
    }
    assert!(matches!(open(&log.file()), Err(AuditError::Owner { owner: 1, .. })));
}

#[test]
fn a_log_has_one_writer() {
    let log = Log::new();
    let first = log.open();
    assert!(matches!(open(&log.file()), Err(AuditError::InUse(_))));
    drop(first);
    assert!(open(&log.file()).is_ok());
}

#[test]
fn a_file_that_is_no_log_is_not_appended_to() {
    let log = Log::new();
    for text in ["hello\n", "\n", "{\"seq\":1}\n", "[]\n"] {
        OpenOptions::new().create(true).append(true).mode(0o600).open(log.file()).unwrap();
        fs::write(log.file(), text).unwrap();
        assert!(matches!(open(&log.file()), Err(AuditError::NotALog(_))), "{text:?}");
        assert_eq!(fs::read_to_string(log.file()).unwrap(), text);
    }
}

#[test]
fn a_rotation_into_a_foreign_log_is_refused_and_the_old_one_stays_in_use() {
    let log = Log::new();
    let audit = log.open();
    audit.record(&EVENT).unwrap();
    fs::rename(log.file(), log.path("old")).unwrap();
    let other = log.open();
    other.record(&Event { request_id: "other", ..EVENT }).unwrap();
    drop(other);
    assert!(matches!(audit.reopen(), Err(AuditError::NotOurs(_))));
    audit.record(&EVENT).unwrap();
    assert_eq!(log.seqs(&["old"]), (1, 2));
}

/// No file of this process grows beyond 1 GiB while this lives. No other test writes one that large.
pub(super) struct FileSizeLimit {
    _alone: MutexGuard<'static, ()>,
}

static LIMITED: Mutex<()> = Mutex::new(());

impl FileSizeLimit {
    const BYTES: u64 = 1 << 30;

    fn set(limit: Option<u64>) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: limit.or(maximum), maximum }).unwrap();
    }

    pub(super) fn new() -> Self {
        let alone = LIMITED.lock().unwrap_or_else(PoisonError::into_inner);
        // The signal that comes with the error would end the process.
        nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGXFSZ).thread_block().unwrap();
        Self::set(Some(Self::BYTES));
        Self { _alone: alone }
    }
}

impl Drop for FileSizeLimit {
    fn drop(&mut self) {
        Self::set(None);
    }
}

/// A log whose file is nearly as large as it may become. It ends with the first line of a chain.
pub(super) struct NearlyFull {
    pub(super) log: Log,
    /// Where that line is.
    start: u64,
    pub(super) line: Vec<u8>,
}

impl NearlyFull {
    /// With so much room behind the line.
    pub(super) fn new(room: impl FnOnce(&[u8]) -> usize) -> Self {
        let log = Log::new();
        log.open().record(&EVENT).unwrap();
        let line = fs::read(log.file()).unwrap();
        let file = OpenOptions::new().write(true).open(log.file()).unwrap();
        let start = FileSizeLimit::BYTES - (line.len() + room(&line)) as u64;
        file.write_all_at(b"\n", start - 1).unwrap();
        file.write_all_at(&line, start).unwrap();
        Self { log, start, line }
    }

    /// All from that line on.
    pub(super) fn end(&self) -> Vec<u8> {
        let file = fs::File::open(self.log.file()).unwrap();
        let mut end = vec![0; usize::try_from(file.metadata().unwrap().len() - self.start).unwrap()];
        file.read_exact_at(&mut end, self.start).unwrap();
        end
    }

    /// The numbers of the lines from that line on.
    pub(super) fn seqs(&self) -> (u64, u64) {
        fs::write(self.log.path("end"), self.end()).unwrap();
        self.log.seqs(&["end"])
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_whole_lines_and_passes() {
    let full = NearlyFull::new(|_| 100);
    let audit = full.log.open();
    assert_eq!(audit.health(), None);

    let limit = FileSizeLimit::new();
    for _ in 0..3 {
        assert_eq!(audit.record(&EVENT), Err(Unwritten));
        assert!(audit.health().is_some_and(|why| why.contains("cannot write to the audit file")));
        assert_eq!(full.end(), full.line);
    }
    drop(limit);

    audit.record(&EVENT).unwrap();
    assert_eq!(audit.health(), None);
    assert_eq!(full.seqs(), (1, 2));
}

#[test]
fn texts_of_any_length_and_content_make_one_line_each() {
    let log = Log::new();
    let audit = log.open();
    let long = "é\u{85}\"".repeat(100_000);
    audit.record(&Event { subject: Some(&long), reason: Some("\n\r\0\u{7f}\u{9b}\\"), ..EVENT }).unwrap();
    let lines = log.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() < 64 * 1024 && !lines[0].contains(char::is_control));
    let value: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value["reason"], "\n\r\0\u{7f}\u{9b}\\");
    assert!(value["subject"].as_str().unwrap().ends_with('…'));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_event_says_its_line_is_one_and_the_chain_holds(events in prop::collection::vec(prop::collection::vec(prop::option::of("(?s).{0,40}"), 4), 1..6)) {
        let log = Log::new();
        let audit = log.open();
        for texts in &events {
            let [agent, cgroup, subject, reason] = [0, 1, 2, 3].map(|at| texts[at].as_deref());
            let request_id = reason.unwrap_or("r");
            audit.record(&Event { agent, cgroup, subject, reason, request_id, ..EVENT }).unwrap();
        }
        let (lines, count) = (log.lines(), events.len() as u64);
        prop_assert_eq!(lines.len(), events.len());
        prop_assert_eq!(log.seqs(&["audit.jsonl"]), (1, count));
        for (line, texts) in lines.iter().zip(&events) {
            let value: Value = serde_json::from_str(line).unwrap();
            for (member, text) in ["agent", "cgroup", "subject", "reason"].iter().zip(texts) {
                prop_assert_eq!(value[member].as_str(), text.as_deref());
            }
            prop_assert!(!line.contains(char::is_control));
        }
    }

    #[test]
    fn any_text_is_read_back_as_it_was(text in prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,64}"], number in any::<u64>()) {
        prop_assume!(text.len() <= 2048);
        let mut chain = Chain::new(&enclave());
        let event = Event { subject: Some(&text), revision: Some(number), ..EVENT };
        chain.add(&event);
        let line = chain.lines().to_vec();
        let value: Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(value["subject"].as_str(), Some(text.as_str()));
        prop_assert_eq!(value["revision"].as_u64(), Some(number));
        prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    }
}
