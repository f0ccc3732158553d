//! The files from which a broker takes its secrets.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::leak::random_alphanumeric;
use crate::users;

/// The directory of a directory upstream. Everything in it belongs to the broker's user.
#[derive(Debug, Clone)]
pub struct UpstreamDirectory {
    root: PathBuf,
    owner: u32,
}

impl UpstreamDirectory {
    pub(crate) fn create(root: &Path, owner: u32) -> Self {
        let upstream = Self { root: root.to_path_buf(), owner };
        upstream.directory(root, 0o755);
        upstream
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The path of an agent's directory, or of a file in it.
    pub fn path_of(&self, agent: &str, file: &str) -> PathBuf {
        self.root.join(agent).join(file)
    }

    /// Puts a token in place, at once.
    pub fn token(&self, agent: &str, provider: &str, token: &str) {
        self.put(&self.path_of(agent, &format!("{provider}.token")), token.as_bytes());
    }

    /// Puts what is known about a token in place, at once.
    pub fn json(&self, agent: &str, provider: &str, json: &str) {
        self.put(&self.path_of(agent, &format!("{provider}.json")), json.as_bytes());
    }

    /// Puts a secret in place, at once.
    pub fn secret(&self, agent: &str, name: &str, value: &[u8]) {
        self.put(&self.path_of(agent, "secrets").join(name), value);
    }

    /// Replaces a file as a whole, as careful programs do it: by rename.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let directory = path.parent().expect("a file lies in a directory");
        self.directories(directory);
        let temporary = directory.join(format!(".new-{}", random_alphanumeric(8)));
        self.write(&temporary, content, 0o600);
        fs::rename(&temporary, path).unwrap();
    }

    /// Writes a file in place, with this mode.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.give(path, mode);
    }

    /// Takes a file away.
    pub fn remove(&self, agent: &str, file: &str) {
        fs::remove_file(self.path_of(agent, file)).unwrap();
    }

    /// Publishes an agent's files as Kubernetes does it: a new generation beside the old one, then one symbolic
    /// link that changes. Names may lie in `secrets/`.
    pub fn publish(&self, agent: &str, files: &[(&str, &[u8])]) {
        let volume = self.root.join(agent);
        self.directories(&volume);
        let generation = format!("..{}", random_alphanumeric(8));
        for (name, content) in files {
            let path = volume.join(&generation).join(name);
            self.directories(path.parent().unwrap());
            self.write(&path, content, 0o640);
        }
        let data = volume.join("..data");
        let old = fs::read_link(&data).ok();
        symlink(&generation, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), &data).unwrap();
        for (name, _) in files {
            let name = name.split('/').next().unwrap();
            drop(symlink(Path::new("..data").join(name), volume.join(name)));
        }
        if let Some(old) = old {
            fs::remove_dir_all(volume.join(old)).unwrap();
        }
    }

    fn directories(&self, path: &Path) {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev() {
            self.directory(path, 0o700);
        }
    }

    fn directory(&self, path: &Path, mode: u32) {
        fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.give(path, mode);
    }

    fn give(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        if users::is_root() {
            chown(path, Some(self.owner), Some(self.owner)).unwrap();
        }
    }
}
