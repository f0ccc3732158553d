//! What `dvx login` remembers: one file that only its owner reads.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use dvx_proto::{ControlAddress, Token};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Lookup;
use crate::failure::{Failure, exit};

/// More than an address, a path and a token can have.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A control plane, and who to be there.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) address: ControlAddress,
    pub(crate) ca_file: Option<PathBuf>,
    /// None where the kernel tells who we are.
    pub(crate) token: Option<Token>,
}

/// A [`Login`] as it lies in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parsed {
    url: String,
    ca_file: Option<PathBuf>,
    token: Option<Token>,
}

#[derive(Serialize)]
struct Written<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Where it lies.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// In the user's configuration directory (XDG Base Directory Specification); none without a home.
    pub(crate) fn at_home(lookup: Lookup<'_>) -> Option<Self> {
        let absolute = |name: &str| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
        Some(Self { directory: base.join("dvx") })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join("login.json")
    }

    /// What is stored, if anything is. A file that others could have read or written is not used.
    pub(crate) fn load(&self) -> Result<Option<Login>, Failure> {
        let path = self.file();
        let what = || format!("cannot use {}", path.display());
        let refused = |why: &str| {
            Failure::new(what(), why).with_exit(exit::REFUSED).with_hint("dvx login writes it anew")
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(Failure::io(what(), &error)),
        };
        let metadata = file.metadata().map_err(|error| Failure::io(what(), &error))?;
        if !metadata.is_file() {
            return Err(refused("it is not a file"));
        }
        if metadata.uid() != Uid::effective().as_raw() && metadata.uid() != 0 {
            return Err(refused("it belongs to another user"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refused("others can read or write it"));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(4096));
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(|error| Failure::io(what(), &error))?;
        // The parser's own words may repeat what it read.
        let read: Parsed = serde_json::from_slice(&text).map_err(|_| refused("it is malformed"))?;
        let address = read.url.parse().map_err(|_| refused("its url is malformed"))?;
        Ok(Some(Login { address, ca_file: read.ca_file, token: read.token }))
    }

    /// Stores it in place of what was there, as a whole or not at all.
    pub(crate) fn save(&self, login: &Login) -> Result<(), Failure> {
        let written = self.write(login);
        written.map_err(|error| Failure::io(format!("cannot write {}", self.file().display()), &error))
    }

    fn write(&self, login: &Login) -> io::Result<()> {
        let invalid = |why: &'static str| io::Error::new(ErrorKind::InvalidInput, why);
        let ca_file = login
            .ca_file
            .as_ref()
            .map(|path| path.to_str().ok_or_else(|| invalid("a path that is not UTF-8")));
        let token = login.token.as_ref().map(|token| str::from_utf8(token.expose_secret()));
        let written = Written {
            url: login.address.to_string(),
            ca_file: ca_file.transpose()?,
            token: token.transpose().map_err(|_| invalid("a token that is not text"))?,
        };
        let text = Zeroizing::new(serde_json::to_vec(&written)?);
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory)?;
        let metadata = fs::symlink_metadata(&self.directory)?;
        if !metadata.is_dir() || metadata.uid() != Uid::effective().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(invalid("others can write its directory, or own it"));
        }
        // A name that nobody else uses, so that a second login at the same time does not mix with it.
        let new = self.directory.join(format!("login.json.{}", std::process::id()));
        let result = write_whole(&new, &text).and_then(|()| fs::rename(&new, self.file()));
        if result.is_err() {
            fs::remove_file(&new).ok();
        }
        result
    }
}

fn write_whole(path: &std::path::Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store(base: &tempfile::TempDir) -> Store {
        let home = base.path().as_os_str().to_owned();
        Store::at_home(&|name| (name == "HOME").then(|| home.clone())).unwrap()
    }

    fn login(token: &str) -> Login {
        let token = Token::try_from(Zeroizing::new(token.as_bytes().to_vec())).unwrap();
        Login { address: "https://a.example:1".parse().unwrap(), ca_file: None, token: Some(token) }
    }

    #[test]
    fn what_is_stored_comes_back_and_only_its_owner_reads_it() {
        let base = tempfile::tempdir().unwrap();
        let store = store(&base);
        assert!(store.load().unwrap().is_none());
        store.save(&login("dvxo_1")).unwrap();
        store.save(&login("dvxo_2")).unwrap();
        let loaded = store.load().unwrap().unwrap();
        assert_eq!(loaded.address.to_string(), "https://a.example:1");
        assert_eq!(loaded.token.unwrap().expose_secret(), b"dvxo_2");
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(store.file()), mode(base.path().join(".config/dvx"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(base.path().join(".config/dvx")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let store = store(&base);
        store.save(&login("dvxo_1")).unwrap();
        fs::set_permissions(store.file(), fs::Permissions::from_mode(0o640)).unwrap();
        let failure = store.load().unwrap_err();
        assert_eq!(failure.exit(), 4);
        assert!(failure.to_string().contains("others can read or write it"), "{failure}");
    }

    #[test]
    fn a_directory_that_others_can_write_gets_no_token() {
        let base = tempfile::tempdir().unwrap();
        let store = store(&base);
        fs::create_dir_all(base.path().join(".config/dvx")).unwrap();
        fs::set_permissions(base.path().join(".config/dvx"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(store.save(&login("dvxo_1")).is_err());
    }

    #[test]
    fn malformed_content_is_not_repeated() {
        let base = tempfile::tempdir().unwrap();
        let store = store(&base);
        store.save(&login("dvxo_1")).unwrap();
        fs::write(store.file(), r#"{"url":"https://a","token":"dvxo_a b"}"#).unwrap();
        assert!(!store.load().unwrap_err().to_string().contains("dvxo_"));
    }

    #[test]
    fn the_configuration_directory_can_be_elsewhere() {
        let lookup = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some("/x".into()),
            "HOME" => Some("/h".into()),
            _ => None,
        };
        assert_eq!(Store::at_home(&lookup).unwrap().file(), PathBuf::from("/x/dvx/login.json"));
        let relative = |name: &str| (name == "XDG_CONFIG_HOME").then(|| "x".into());
        assert!(Store::at_home(&relative).is_none());
    }
}
