//! `dvx man`: the manual pages, made from the command line's own description and what it cannot tell.

use std::io;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::completions::print;
use crate::cli::Cli;
use crate::failure::{Failure, exit};

/// Every page, with the sections after OPTIONS.
const PAGES: [(&str, &str); 2] =
    [("dvx", include_str!("man/dvx.roff")), ("dvx-dev", include_str!("man/dvx-dev.roff"))];

pub(crate) fn run(page: Option<&str>) -> Result<ExitCode, Failure> {
    let names = PAGES.map(|(name, _)| name);
    let Some(wanted) = page else { return print(format!("{}\n", names.join("\n")).as_bytes()) };
    let found = PAGES.iter().find(|(name, _)| *name == wanted);
    let Some((name, more)) = found else {
        let why = format!("the pages are {}", names.join(" and "));
        return Err(Failure::new(format!("no page {wanted}"), why).with_exit(exit::USAGE));
    };
    let text =
        render(name, more).map_err(|error| Failure::io(format!("cannot make the page {name}"), &error))?;
    print(&text)
}

fn render(name: &'static str, more: &str) -> io::Result<Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    let command = match name.strip_prefix("dvx-") {
        Some(subcommand) => root.find_subcommand(subcommand).cloned().unwrap_or_default(),
        None => root,
    };
    let source = format!("dvx {}", env!("CARGO_PKG_VERSION"));
    let commands = commands_section(&command);
    // The date would change with every build; the source tells the version.
    let man = |command: Command| Man::new(command).title(name).date("").source(source.clone()).manual("dvx");
    let mut page = Vec::new();
    let named = man(command.clone().name(name).display_name(name));
    named.render_title(&mut page)?;
    named.render_name_section(&mut page)?;
    let used = man(command);
    used.render_synopsis_section(&mut page)?;
    used.render_description_section(&mut page)?;
    used.render_options_section(&mut page)?;
    page.extend_from_slice(commands.as_bytes());
    page.extend_from_slice(more.as_bytes());
    Ok(page)
}

/// The subcommands that are for people. Not all have a page of their own, so this is no list of pages.
fn commands_section(command: &Command) -> String {
    let visible = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    let entry = |subcommand: &Command| {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        format!(".TP\n.B {} {}\n{about}\n", command.get_name(), subcommand.get_name())
    };
    let entries: String = visible.map(entry).collect();
    if entries.is_empty() { entries } else { format!(".SH COMMANDS\n{entries}") }
}
