//! The command line.

mod init;
mod logging;
mod man;
mod rekey;

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use dvx_memory::Arena;

use crate::app::DEFAULT_ORGANISATION;
use crate::causes::causes;
use crate::config::Config;
use crate::crypto::Kek;
use crate::listener::tls;
use crate::sandbox;
use crate::server::{self, RunError};

/// The control plane: identities, encrypted secrets, audit.
///
/// dvx-control keeps agents, their secrets and an audit log in SQLite or PostgreSQL, every value encrypted with a
/// key that is not in the database. Operators use it with dvx(1); the broker of each enclave is sent the secrets
/// of its agents, sealed for it alone, as soon as they change.
#[derive(Debug, Parser)]
#[command(name = "dvx-control", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop
    ///
    /// Brings the database's schema up to date first. SIGTERM and SIGINT let requests in flight finish, for 10
    /// seconds at the most. SIGHUP reads certificate and key again; bad ones are reported and change nothing.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make the key, the database and the first admin
    ///
    /// The key-encryption key is made where the configuration says, unless it is there. Prints the token of the
    /// operator "admin" and nothing else: it is not shown again. An organisation that has an admin already is an
    /// error and stays as it is.
    Init {
        #[command(flatten)]
        config: ConfigFile,
        /// The organisation to make
        #[arg(long, value_name = "NAME", default_value = DEFAULT_ORGANISATION, value_parser = init::organisation)]
        organisation: String,
        #[command(flatten)]
        format: Format,
    },
    /// Replace the key-encryption key while serving
    ///
    /// Everything is wrapped with the new key before this ends; running control planes follow by themselves. Then
    /// the old key opens nothing, and the new file has to be installed where the configuration says. Can be
    /// repeated if it was interrupted.
    Rekey {
        #[command(flatten)]
        config: ConfigFile,
        /// The file with the new key: 32 bytes in base64, readable by its owner alone
        #[arg(long, value_name = "FILE", required = true)]
        new_kek_file: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Say whether a configuration is sound
    ///
    /// Names every error with its line and key, and what is wrong with the files that it names. Nothing is
    /// connected to, and a control plane that runs is not touched.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        format: Format,
    },
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual
    #[command(hide = true)]
    Man {
        /// One page; all of them without it
        page: Option<man::Page>,
    },
    /// Print the description of the operator API
    #[command(hide = true)]
    Openapi,
    /// Print where a test can make this program end: values of DVX_TEST_FAIL_POINT
    #[command(hide = true)]
    FailPoints,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = Config::DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Format {
    /// How to print the answer
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What the process ends with. Usage errors are the argument parser's (2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Success = 0,
    Failure = 1,
    /// `EX_CONFIG` of sysexits.h.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    if let Err(error) = sandbox::early() {
        complain(&error);
        return Exit::Failure.into();
    }
    let exit = match Cli::parse().command {
        Command::Serve { config } => serve(&config.config),
        Command::Init { config, organisation, format } => {
            with_config(&config.config, |config| init::run(&config, &organisation, format.output))
        }
        Command::Rekey { config, new_kek_file, format } => {
            with_config(&config.config, |config| rekey::run(&config, &new_kek_file, format.output))
        }
        Command::Check { config, format } => {
            with_config(&config.config, |read| check(&config.config, &read, format.output))
        }
        Command::Completions { shell } => print(&completions(shell)),
        Command::Man { page } => print(&man::render(page)),
        Command::Openapi => print(&crate::openapi::text()),
        Command::FailPoints => print(&fail_points()),
    };
    exit.into()
}

fn fail_points() -> String {
    crate::integrations::POINTS.map(|point| format!("{point}:before\n{point}:after\n")).concat()
}

fn serve(path: &Path) -> Exit {
    logging::start();
    with_config(path, |config| match server::run(config) {
        Ok(()) => Exit::Success,
        Err(error) => failed(&error),
    })
}

fn check(path: &Path, config: &Config, output: Output) -> Exit {
    let errors = match Arena::new(false) {
        Ok(arena) => keys(config, &arena),
        Err(error) => vec![error.into()],
    };
    if !errors.is_empty() {
        for error in errors {
            write_error(&format!("{}: {}", path.display(), causes(&error)));
        }
        return Exit::Config;
    }
    let database = config.database.kind();
    print(&match output {
        Output::Table => format!("{}: ok (database {database})\n", path.display()),
        Output::Json => format!("{}\n", serde_json::json!({ "ok": true, "database": database })),
    })
}

/// What is wrong with the keys.
fn keys(config: &Config, arena: &Arena) -> Vec<RunError> {
    // Where there is none yet, `init` makes it.
    let is_missing = matches!(config.kek.try_exists(), Ok(false));
    let kek = (!is_missing).then(|| Kek::read(&config.kek, arena).err()).flatten();
    let https = config.listen.https.as_ref();
    let tls = https.and_then(|https| tls::load(&https.files, arena).err());
    kek.map(RunError::from).into_iter().chain(tls.map(RunError::from)).collect()
}

/// Reads the configuration, or says what is wrong with it.
fn with_config(path: &Path, then: impl FnOnce(Config) -> Exit) -> Exit {
    match Config::load(path, &|name| std::env::var(name).ok()) {
        Ok(config) => then(config),
        Err(errors) => {
            for error in errors {
                write_error(&error.to_string());
            }
            Exit::Config
        }
    }
}

fn failed(error: &RunError) -> Exit {
    complain(error);
    if error.is_configuration() { Exit::Config } else { Exit::Failure }
}

/// Without the commands that nobody types.
fn completions(shell: clap_complete::Shell) -> String {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let mut command = clap::Command::new("dvx-control").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "dvx-control", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Standard output has the answer and nothing else. A reader that has gone has read enough.
fn print(text: &str) -> Exit {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Success,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Failure
        }
    }
}

fn complain(error: &dyn Error) {
    write_error(&format!("dvx-control: {}", causes(error)));
}

fn write_error(line: &str) {
    // Nobody is left to be told when this fails.
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

#[cfg(test)]
mod tests;
