//! The log for somebody who copies it elsewhere while it is being written.
//!
//! Writing a line never waits for the copy: it leaves a mark, and where lines go to a file that is all. What goes
//! to stderr cannot be read back, so the newest of it is kept in memory.

mod files;
mod queue;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dvx_proto::EnclaveName;
use tokio::sync::Notify;

use self::files::Files;
use self::queue::Queue;
use super::line::Chain;

/// Says when there are lines.
pub(crate) struct Feed {
    news: Notify,
    source: Source,
}

enum Source {
    File { path: PathBuf, enclave: EnclaveName },
    Memory(Mutex<Queue>),
}

/// Gives lines to one who copies them.
pub(crate) struct Reader {
    feed: Arc<Feed>,
    from: From,
}

enum From {
    Files(Files),
    /// The last line of the batch that was given out.
    Memory {
        given: u64,
    },
}

/// What the other side has already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// The number of the last line; 0 for none.
    pub(crate) seq: u64,
    /// Its SHA-256.
    pub(crate) head: Option<String>,
}

/// Whole lines, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) text: Vec<u8>,
    /// The number of the last of them.
    pub(crate) last_seq: u64,
}

/// How much is taken at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) lines: usize,
    pub(crate) bytes: usize,
}

impl Feed {
    /// Of a log in a file.
    pub(super) fn of_file(path: &Path, enclave: &EnclaveName) -> Arc<Self> {
        let source = Source::File { path: path.to_owned(), enclave: enclave.clone() };
        Arc::new(Self { news: Notify::new(), source })
    }

    /// Of a log that cannot be read back.
    pub(super) fn in_memory() -> Arc<Self> {
        Arc::new(Self { news: Notify::new(), source: Source::Memory(Mutex::default()) })
    }

    /// The lines of this chain were written; where they are kept here it was one.
    pub(super) fn written(&self, chain: &Chain) {
        if let Source::Memory(queue) = &self.source {
            lock(queue).push(chain.last_seq(), chain.head(), chain.lines());
        }
        self.news.notify_one();
    }

    /// Until a line was written since the last time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Begins a copy.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        let from = match &self.source {
            Source::File { path, enclave } => From::Files(Files::new(path, enclave)),
            Source::Memory(_) => From::Memory { given: 0 },
        };
        Reader { feed: Arc::clone(self), from }
    }

    fn queue(&self) -> Option<MutexGuard<'_, Queue>> {
        match &self.source {
            Source::File { .. } => None,
            Source::Memory(queue) => Some(lock(queue)),
        }
    }
}

impl Reader {
    /// Goes to what follows the lines that the other side has. Where it has another log's, or where lines are
    /// missing here, that is the oldest line there is. Reads files.
    pub(crate) fn seek(&mut self, known: &Known) -> io::Result<()> {
        if let From::Files(files) = &mut self.from {
            return files.seek(known);
        }
        if let Some(mut queue) = self.feed.queue() {
            queue.seek(known);
        }
        Ok(())
    }

    /// The next lines; nothing while there are none. They come again until they are [`taken`](Self::taken).
    /// Reads files.
    pub(crate) fn next(&mut self, most: Most) -> io::Result<Option<Batch>> {
        let given = match &mut self.from {
            From::Files(files) => return files.next(most),
            From::Memory { given } => given,
        };
        let batch = self.feed.queue().and_then(|queue| queue.next(most));
        *given = batch.as_ref().map_or(0, |batch| batch.last_seq);
        Ok(batch)
    }

    /// The other side has the lines of the last batch.
    pub(crate) fn taken(&mut self) {
        match &mut self.from {
            From::Files(files) => files.taken(),
            From::Memory { given } => {
                if let Some(mut queue) = self.feed.queue() {
                    queue.drop_up_to(*given);
                }
            }
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
