//! Secrets that tests plant, and the search for them in everything that was written.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The random parts of the secrets of one world. A fragment of one is as bad as the whole.
#[derive(Clone, Default)]
pub struct Planted(Arc<Mutex<Vec<Needle>>>);

#[derive(Clone)]
struct Needle {
    name: String,
    fragments: Vec<String>,
}

impl Planted {
    /// A new GitLab-like token that must not show up anywhere.
    pub fn token(&self, name: &str) -> String {
        let random = random_alphanumeric(20);
        self.remember(name, &random);
        format!("glpat-{random}")
    }

    /// Adds a secret that somebody else made, such as an agent token. Only its end is looked for: the
    /// beginnings of JWTs are alike.
    pub fn remember(&self, name: &str, secret: &str) {
        let tail = secret.len().saturating_sub(24);
        let tail = secret.get(tail..).unwrap_or(secret);
        let fragments =
            tail.as_bytes().chunks_exact(8).map(|chunk| String::from_utf8_lossy(chunk).into_owned());
        let needle = Needle { name: name.to_owned(), fragments: fragments.collect() };
        assert!(
            !needle.fragments.is_empty(),
            "a secret of less than eight characters cannot be searched for"
        );
        self.0.lock().unwrap().push(needle);
    }

    /// The names of the planted secrets of which eight characters or more stand in a text.
    pub fn found_in(&self, text: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(text);
        let needles = self.0.lock().unwrap();
        let found =
            |needle: &&Needle| needle.fragments.iter().any(|fragment| text.contains(fragment.as_str()));
        needles.iter().filter(found).map(|needle| needle.name.clone()).collect()
    }

    /// The files below a directory in which a planted secret stands, as `path: secret`.
    pub fn found_below(&self, directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for path in files_below(directory) {
            let Ok(text) = fs::read(&path) else { continue };
            found.extend(self.found_in(&text).into_iter().map(|name| format!("{}: {name}", path.display())));
        }
        found
    }
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

/// Random letters and digits.
pub fn random_alphanumeric(length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    random_bytes(length).iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

pub(crate) fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("/dev/urandom is readable");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_of_a_planted_secret_is_found() {
        let planted = Planted::default();
        let token = planted.token("one");
        assert!(planted.found_in(b"nothing of it").is_empty());
        assert_eq!(planted.found_in(format!("x {token} y").as_bytes()), ["one"]);
        assert_eq!(planted.found_in(&token.as_bytes()[6..22]), ["one"]);
    }
}
