//! The command line.

mod client;
mod logging;
mod man;
mod status;

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::audit::verify::verify;
use crate::causes::causes;
use crate::config::{Config, ConfigError, UpstreamConfig};
use crate::{sandbox, server};

/// The daemon that serves agents their credentials.
///
/// dvx-broker reads the secrets of its enclave's agents from an upstream, keeps them in protected memory and
/// nowhere else, and serves each to the agent that it belongs to, over a Unix socket or loopback, with the
/// caller's identity taken from the kernel.
#[derive(Debug, Parser)]
#[command(name = "dvx-broker", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop
    ///
    /// SIGTERM and SIGINT let requests in flight finish, for 10 seconds at the most. SIGHUP opens the audit file
    /// again and reads the configuration; one with errors is reported and changes nothing.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Say whether a configuration is sound
    ///
    /// Names every error with its line and key. The broker need not run, and one that does is not touched.
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show what a running broker serves, and how fresh it is
    Status {
        /// The configuration that names the admin socket
        #[arg(long, value_name = "FILE", conflicts_with = "socket")]
        config: Option<PathBuf>,
        /// The admin socket itself
        #[arg(long, value_name = "SOCKET")]
        socket: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// Look after audit logs
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
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
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check that nothing is missing from audit logs and nothing was changed
    ///
    /// The files of a rotated log may be given in any order. The first place at which the chain is broken is
    /// named. That lines are missing at the very end, or that the last line was changed, cannot be seen.
    Verify {
        /// Logs of one broker
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
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
    /// Not reachable, or not ready to serve.
    Unavailable = 5,
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
        Command::Run { config } => run(&config.config),
        Command::Check { config } => check(&config.config),
        Command::Status { config, socket, format } => show_status(config, socket, format.output),
        Command::Audit(AuditCommand::Verify { files, format }) => verify_logs(&files, format.output),
        Command::Completions { shell } => print(&completions(shell)),
        Command::Man { page } => print(&man::render(page)),
    };
    exit.into()
}

fn run(path: &Path) -> Exit {
    logging::start();
    let config = match load(path) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match server::run(path, config) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Failure
        }
    }
}

fn check(path: &Path) -> Exit {
    let config = match load(path) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let agents = match config.upstream {
        UpstreamConfig::Directory { .. } => config.agents.len().to_string(),
        UpstreamConfig::Control(_) => "from there".to_owned(),
    };
    let kind = config.upstream.kind();
    print(&format!(
        "{}: ok (enclave {}, upstream {kind}, agents: {agents})\n",
        path.display(),
        config.enclave,
    ))
}

fn load(path: &Path) -> Result<Config, Exit> {
    Config::load(path, &|name| std::env::var(name).ok()).map_err(|errors| refuse(&errors))
}

fn refuse(errors: &[ConfigError]) -> Exit {
    for error in errors {
        write_error(&error.to_string());
    }
    Exit::Config
}

/// Where the broker of this configuration answers operators. Their shells have not got all of the variables
/// that the service has.
fn admin_socket(config: Option<PathBuf>) -> Result<PathBuf, Exit> {
    const CREDENTIALS: &str = "/run/credentials/dvx-broker.service";
    let env = |name: &str| {
        let fallback = || (name == "CREDENTIALS_DIRECTORY").then(|| CREDENTIALS.to_owned());
        std::env::var(name).ok().or_else(fallback)
    };
    let named = |path: &Path| Config::admin_socket(path, &env).map_err(|errors| refuse(&errors));
    let default = Path::new(Config::DEFAULT_PATH);
    match config {
        Some(config) => named(&config),
        None if matches!(default.try_exists(), Ok(false)) => Ok(Config::DEFAULT_ADMIN_SOCKET.into()),
        None => named(default),
    }
}

fn show_status(config: Option<PathBuf>, socket: Option<PathBuf>, output: Output) -> Exit {
    let socket = match socket.map_or_else(|| admin_socket(config), Ok) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let report = match status::ask(&socket) {
        Ok(report) => report,
        Err(error) => {
            complain(&error);
            return Exit::Unavailable;
        }
    };
    let text = match output {
        Output::Json => report.json().to_owned(),
        Output::Table => report.table(),
    };
    match print(&text) {
        Exit::Success if !report.is_ready() => Exit::Unavailable,
        exit => exit,
    }
}

fn verify_logs(files: &[PathBuf], output: Output) -> Exit {
    match (verify(files), output) {
        (Ok(intact), Output::Table) => print(&format!("{intact}\n")),
        (Ok(intact), Output::Json) => match serde_json::to_string(&intact) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => {
                complain(&error);
                Exit::Failure
            }
        },
        (Err(found), _) => {
            write_error(&found.to_string());
            Exit::Failure
        }
    }
}

/// Without the commands that nobody types.
fn completions(shell: clap_complete::Shell) -> String {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let mut command = clap::Command::new("dvx-broker").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "dvx-broker", &mut text);
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
    write_error(&format!("dvx-broker: {}", causes(error)));
}

fn write_error(line: &str) {
    // Nobody is left to be told when this fails.
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}
