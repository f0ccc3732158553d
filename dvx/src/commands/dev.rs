//! `dvx dev`: everything on one machine, for as long as a shell or a command runs.
//!
//! Two processes watch each other: this one, which the user sees, and the [`keeper`], which is the parent of
//! control plane, broker and command. Whichever of them is killed, the other one ends all processes and removes all files.

mod broker;
mod channel;
mod children;
mod environment;
mod keeper;
mod place;
mod programs;
mod service;
mod session;
mod setup;
mod terminal;
mod token;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use nix::sys::prctl;
use nix::unistd::Uid;

use self::place::{Choice, Place};
use self::programs::Programs;
use self::session::{Plan, Session};
use self::terminal::Terminal;
use self::token::{Obtained, Sources};
use crate::cli::DevArguments;
use crate::failure::Failure;
use crate::output::note;
use crate::signals::Signals;

pub(crate) use self::keeper::run as keep;

pub(crate) fn run(arguments: DevArguments) -> Result<ExitCode, Failure> {
    let programs = Programs::beside_us()?;
    let signals = Signals::take_over().map_err(|error| Failure::io("cannot watch signals", &error))?;
    // Our memory and environment may hold the token: no process of the same user is to read them.
    prctl::set_dumpable(false).map_err(|errno| Failure::io("cannot protect our memory", &errno.into()))?;
    let terminal = Terminal::ours();
    let person = terminal.is_some() && io::stdin().is_terminal();
    let sources = Sources { stdin: arguments.token_stdin, variable: env::var_os(token::VARIABLE), person };
    let obtained = token::obtain(sources, &signals)?;
    let choice = Place::choose(env::var_os("XDG_RUNTIME_DIR").map(Into::into), env::temp_dir())
        .map_err(|error| Failure::io("no place for the session", &error))?;
    warn(&obtained, &choice);
    let is_shell = arguments.command.is_empty();
    let plan = Plan {
        is_interactive: is_shell && (person || (terminal.is_some() && arguments.token_stdin)),
        is_shell,
        stdin_is_used_up: arguments.token_stdin,
        command: if is_shell { vec![shell()] } else { arguments.command },
        instance: arguments.instance_url,
        place: choice.place,
        programs,
    };
    Session::start(plan, signals, terminal)?.run(&obtained.token)
}

fn shell() -> OsString {
    env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())
}

fn warn(obtained: &Obtained, choice: &Choice) {
    if Uid::effective().is_root() {
        note("warning: running as root, so the agent is root; an agent should be a user of its own");
    }
    if !choice.on_tmpfs {
        let place = choice.place.path().display();
        note(&format!(
            "warning: no tmpfs here, so the token is on disk for as long as this runs, in {place}"
        ));
    }
    if obtained.is_sample {
        note("no token given, so the agent gets a sample; GITLAB_TOKEN or --token-stdin brings a real one");
    }
}
