//! git as an agent runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::GitServer;
use crate::{Outcome, World, run};

/// An agent's git, with `dvxir` as its credential helper.
pub struct GitClient<'a> {
    world: &'a World,
    agent: &'static str,
    home: PathBuf,
}

impl<'a> GitClient<'a> {
    /// With `dvxir` as the helper for every host, so that `dvxir` alone decides.
    pub fn new(world: &'a World, agent: &'static str) -> Self {
        let client = Self::unconfigured(world, agent);
        client.set("credential.helper", "");
        client.add("credential.helper", &format!("{} git-credential", world.program("dvxir").display()));
        client
    }

    /// Without any helper.
    pub fn unconfigured(world: &'a World, agent: &'static str) -> Self {
        let home = world.ground.home(world.uid_of(agent));
        let client = Self { world, agent, home };
        client.set("user.name", "A Tester");
        client.set("user.email", "tester@example.org");
        client.set("init.defaultBranch", "main");
        client
    }

    /// A token that the agent holds and the server accepts.
    pub fn link(&self, server: &GitServer) -> String {
        let json = format!(r#"{{"instance_url":"{}"}}"#, server.url());
        self.world.upstream.json(self.agent, "gitlab", &json);
        self.rotate(server)
    }

    /// A new token that the agent holds and the server accepts; old ones are left alone.
    pub fn rotate(&self, server: &GitServer) -> String {
        let token = self.world.planted.token("a git token");
        server.accept(&token);
        self.world.upstream.token(self.agent, "gitlab", &token);
        token
    }

    /// Where the agent works.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A git command in a directory below the home.
    pub fn command(&self, directory: &str, arguments: &[&str]) -> Command {
        let mut command = self.world.command(self.agent, "git");
        command.current_dir(self.home.join(directory)).args(arguments);
        command
    }

    /// Runs git and checks that it shows no secret.
    #[track_caller]
    pub fn git(&self, directory: &str, arguments: &[&str]) -> Outcome {
        let outcome = run(&mut self.command(directory, arguments));
        self.world.assert_clean("git's stdout", &outcome.stdout);
        self.world.assert_clean("git's stderr", outcome.stderr.as_bytes());
        outcome
    }

    /// Commits a file of this content.
    #[track_caller]
    pub fn commit(&self, directory: &str, file: &str, content: &[u8]) {
        let path = self.home.join(directory).join(file);
        std::fs::write(&path, content).unwrap();
        crate::ground::give(&path, self.world.uid_of(self.agent));
        self.git(directory, &["add", "."]).success();
        self.git(directory, &["commit", "--quiet", "-m", file]).success();
    }

    /// Sets a key of the user's own configuration.
    pub fn set(&self, key: &str, value: &str) {
        self.git("", &["config", "--global", key, value]).success();
    }

    fn add(&self, key: &str, value: &str) {
        self.git("", &["config", "--global", "--add", key, value]).success();
    }
}
