//! Lines read back from the log and from the files that a rotation has left beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dvx_proto::EnclaveName;

use super::{Batch, Known, Most};
use crate::audit::line::hash;
use crate::audit::tail::{Link, MAX_LINE_BYTES};

/// A log that may be rotated at any time.
pub(super) struct Files {
    path: PathBuf,
    enclave: EnclaveName,
    place: Option<Place>,
    /// Behind the batch that was given out.
    given: Option<(u64, u64)>,
}

/// Where to read on.
struct Place {
    file: File,
    offset: u64,
    /// The number of the next line.
    seq: u64,
}

/// A file of the log.
struct Part {
    file: File,
    first_seq: u64,
}

impl Files {
    pub(super) fn new(path: &Path, enclave: &EnclaveName) -> Self {
        Self { path: path.to_owned(), enclave: enclave.clone(), place: None, given: None }
    }

    pub(super) fn seek(&mut self, known: &Known) -> io::Result<()> {
        self.given = None;
        let mut parts = self.parts()?;
        let before = parts.iter().rposition(|part| part.first_seq <= known.seq);
        let found = match before.and_then(|index| parts.get(index)) {
            Some(part) => behind(&part.file, known)?,
            None => None,
        };
        self.place = match (found, before) {
            (Some(offset), Some(index)) => {
                let Part { file, .. } = parts.swap_remove(index);
                Some(Place { file, offset, seq: known.seq.saturating_add(1) })
            }
            // The oldest there is.
            _ if parts.is_empty() => None,
            _ => Some(Place::at_start(parts.swap_remove(0))),
        };
        Ok(())
    }

    pub(super) fn next(&mut self, most: Most) -> io::Result<Option<Batch>> {
        loop {
            if self.place.is_none() {
                self.place = self.parts()?.into_iter().next().map(Place::at_start);
            }
            let Some(place) = &self.place else { return Ok(None) };
            let (batch, end) = self.read(place, most)?;
            if let Some(batch) = batch {
                self.given = Some((end, batch.last_seq));
                return Ok(Some(batch));
            }
            let (seq, inode) = (place.seq, identity(&place.file)?);
            let moved_on = end > place.offset;
            if moved_on {
                // Nothing but lines that are none of ours.
                self.given = Some((end, seq.saturating_sub(1)));
                self.taken();
                continue;
            }
            let mut following = self.parts()?;
            following.retain(|part| {
                part.first_seq >= seq && identity(&part.file).is_ok_and(|other| other != inode)
            });
            match following.into_iter().next() {
                Some(part) => self.place = Some(Place::at_start(part)),
                None => return Ok(None),
            }
        }
    }

    pub(super) fn taken(&mut self) {
        if let (Some((offset, last_seq)), Some(place)) = (self.given.take(), &mut self.place) {
            (place.offset, place.seq) = (offset, last_seq.saturating_add(1));
        }
    }

    /// Whole lines from a place on, and where they end.
    fn read(&self, place: &Place, most: Most) -> io::Result<(Option<Batch>, u64)> {
        let length = place.file.metadata()?.len().saturating_sub(place.offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(most.bytes.max(MAX_LINE_BYTES));
        let mut bytes = vec![0; length];
        place.file.read_exact_at(&mut bytes, place.offset)?;
        let mut batch = Batch { text: Vec::with_capacity(length), last_seq: 0 };
        let mut end = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n').take(most.lines) {
            let Some(content) = line.strip_suffix(b"\n") else {
                if line.len() >= MAX_LINE_BYTES {
                    return Err(ErrorKind::InvalidData.into());
                }
                break;
            };
            end += line.len();
            // The other side would refuse the whole batch for it; so it sees a gap.
            if let Some(link) = self.link(content) {
                batch.text.extend_from_slice(line);
                batch.last_seq = link.seq;
            }
        }
        let end = place.offset + end as u64;
        Ok(((!batch.text.is_empty()).then_some(batch), end))
    }

    fn link(&self, line: &[u8]) -> Option<Link> {
        Link::parse(line).filter(|link| link.enclave == self.enclave.as_str())
    }

    /// The files of the log by their first lines.
    fn parts(&self) -> io::Result<Vec<Part>> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(name)
                && let Ok(Some(part)) = self.part(&entry.path())
            {
                parts.push(part);
            }
        }
        parts.sort_by_key(|part| part.first_seq);
        Ok(parts)
    }

    fn part(&self, path: &Path) -> io::Result<Option<Part>> {
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Ok(None);
        }
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(MAX_LINE_BYTES);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let first = end.and_then(|end| self.link(bytes.get(..end)?));
        Ok(first.map(|first| Part { file, first_seq: first.seq }))
    }
}

impl Place {
    fn at_start(part: Part) -> Self {
        Self { file: part.file, offset: 0, seq: part.first_seq }
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The end of the line that the other side has, if it is in this file and the same.
fn behind(file: &File, known: &Known) -> io::Result<Option<u64>> {
    use io::BufRead;
    let mut reader = io::BufReader::with_capacity(64 * 1024, Reader { file, offset: 0 });
    let (mut offset, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
        let Some(content) = line.strip_suffix(b"\n") else { return Ok(None) };
        offset += read as u64;
        if Link::parse(content).is_some_and(|link| link.seq == known.seq) {
            let same = known.head.as_ref().is_none_or(|head| head.as_bytes() == hash(content).as_slice());
            return Ok(same.then_some(offset));
        }
    }
}

/// Reads a file without moving its own offset.
struct Reader<'f> {
    file: &'f File,
    offset: u64,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
