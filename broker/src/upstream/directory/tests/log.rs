//! What is logged: a line for each change, and never a value.

use std::io::{self, Write};
use std::sync::Mutex;

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines since the last call, from the level on, with `root` in place of the root's path.
    fn take(&self, root: &Path) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap().replace(root.to_str().unwrap(), "root");
        text.lines().map(|line| line.trim_start().to_owned()).collect()
    }
}

#[test]
fn every_change_is_logged_once_and_without_the_value() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::TRACE)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .finish();
    // While there is only one, tracing asks the thread that first comes to a line whether anybody listens, and that
    // may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    tracing::subscriber::with_default(subscriber, || follow(&log));
}

fn follow(log: &Log) {
    let mut world = World::new();
    let root = world.root.path().to_owned();
    world.put("a/gitlab.token", "glpat-visible-1");
    world.put("a/secrets/KEY", "visible");
    world.look_after(0);
    assert_eq!(
        log.take(&root),
        ["INFO directory read path=root agents=2 credentials=1 secrets=1"],
        "one line for all at the start"
    );
    world.settle();
    world.look_after(500);
    assert_eq!(log.take(&root), Vec::<String>::new(), "nothing happens");

    world.put("a/gitlab.token", "glpat-visible-2");
    world.put("a/secrets/KEY", "visible-2");
    world.settle();
    let fingerprint = dvx_proto::Fingerprint::of(b"glpat-visible-2");
    assert_eq!(
        log.take(&root),
        [
            format!("INFO credential changed agent=a provider=gitlab fingerprint={fingerprint}"),
            "INFO secret changed agent=a secret=KEY".to_owned(),
        ]
    );

    world.put("a/gitlab.token", "glpat visible");
    world.settle();
    world.settle();
    assert_eq!(
        log.take(&root),
        [
            "WARN cannot be used; what it gave before is served for max_stale path=root/a/gitlab.token why=the token has a character that no token has (byte 5): white space, control or non-ASCII"
        ]
    );

    world.put("a/gitlab.token", "glpat-visible-2");
    fs::remove_file(world.path("a/secrets/KEY")).unwrap();
    world.settle();
    assert_eq!(
        log.take(&root),
        ["INFO secret is gone agent=a secret=KEY", "INFO no longer a problem path=root/a/gitlab.token"]
    );
}
