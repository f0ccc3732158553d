//! `dvx man`: the manual pages, made from the command line's own description and what it cannot tell.

use std::io;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::{Failure, exit};
use crate::output::print;

/// Every page, with the sections after OPTIONS.
const PAGES: [(&str, &[&str]); 10] = [
    ("dvx", &[include_str!("man/dvx.roff")]),
    ("dvx-agent", &[include_str!("man/client.roff"), include_str!("man/dvx-agent.roff")]),
    ("dvx-audit", &[include_str!("man/client.roff"), include_str!("man/dvx-audit.roff")]),
    (
        "dvx-credential-provider",
        &[include_str!("man/client.roff"), include_str!("man/dvx-credential-provider.roff")],
    ),
    ("dvx-dev", &[include_str!("man/dvx-dev.roff")]),
    ("dvx-enclave", &[include_str!("man/client.roff"), include_str!("man/dvx-enclave.roff")]),
    ("dvx-login", &[include_str!("man/client.roff"), include_str!("man/dvx-login.roff")]),
    ("dvx-operator", &[include_str!("man/client.roff"), include_str!("man/dvx-operator.roff")]),
    ("dvx-secret", &[include_str!("man/client.roff"), include_str!("man/dvx-secret.roff")]),
    ("dvx-status", &[include_str!("man/client.roff"), include_str!("man/dvx-status.roff")]),
];

pub(crate) fn run(page: Option<&str>) -> Result<ExitCode, Failure> {
    let names = PAGES.map(|(name, _)| name);
    let Some(wanted) = page else { return print(format!("{}\n", names.join("\n")).as_bytes()) };
    let found = PAGES.iter().find(|(name, _)| *name == wanted);
    let Some((name, more)) = found else {
        let why = format!("the pages are {}", names.join(", "));
        return Err(Failure::new(format!("no page {wanted}"), why).with_exit(exit::USAGE));
    };
    let text =
        render(name, more).map_err(|error| Failure::io(format!("cannot make the page {name}"), &error))?;
    print(&text)
}

fn render(name: &'static str, more: &[&str]) -> io::Result<Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    let command = match name.strip_prefix("dvx-") {
        Some(subcommand) => root.find_subcommand(subcommand).cloned().unwrap_or_default(),
        None => root,
    };
    let mut page = Vec::new();
    let named = man(command.clone().name(name).display_name(name), name);
    named.render_title(&mut page)?;
    named.render_name_section(&mut page)?;
    let used = man(command.clone(), name);
    used.render_synopsis_section(&mut page)?;
    used.render_description_section(&mut page)?;
    used.render_options_section(&mut page)?;
    if name == "dvx" {
        page.extend_from_slice(summaries(&command).as_bytes());
    } else {
        page.extend_from_slice(&details(&command)?);
    }
    for section in more {
        page.extend_from_slice(section.as_bytes());
    }
    Ok(page)
}

/// The date would change with every build; the source tells the version.
fn man(command: Command, title: &str) -> Man {
    let source = format!("dvx {}", env!("CARGO_PKG_VERSION"));
    Man::new(command).title(title).date("").source(source).manual("dvx")
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set())
}

/// The subcommands that are for people. Not all have a page of their own, so this is no list of pages.
fn summaries(command: &Command) -> String {
    let entry = |subcommand: &Command| {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        format!(".TP\n.B {} {}\n{about}\n", command.get_name(), subcommand.get_name())
    };
    format!(".SH COMMANDS\n{}", visible(command).map(entry).collect::<String>())
}

/// What each command of a group does and takes.
fn details(group: &Command) -> io::Result<Vec<u8>> {
    let mut section = Vec::new();
    if group.has_subcommands() {
        section.extend_from_slice(b".SH COMMANDS\n");
    }
    for command in visible(group) {
        each(command, &mut section)?;
    }
    Ok(section)
}

/// A command, or what there is below it.
fn each(command: &Command, section: &mut Vec<u8>) -> io::Result<()> {
    if !command.has_subcommands() {
        return detail(command, section);
    }
    visible(command).try_for_each(|deeper| each(deeper, section))
}

fn detail(command: &Command, section: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or(command.get_name()).replace('-', "\\-");
    section.extend_from_slice(format!(".SS \"{name}\"\n").as_bytes());
    // Those of every command stand in the group's own section.
    let own = command.clone().mut_args(|argument| {
        let is_common = ["output", "help", "version"].contains(&argument.get_id().as_str());
        argument.hide(is_common)
    });
    let man = man(own, command.get_name());
    let mut text = Vec::new();
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    // Sections of a page of its own are paragraphs here.
    for line in String::from_utf8_lossy(&text).lines() {
        match line {
            ".ie \\n(.g .ds Aq \\(aq" | ".el .ds Aq '" | ".SH OPTIONS" => {}
            ".SH SYNOPSIS" | ".SH DESCRIPTION" => section.extend_from_slice(b".PP\n"),
            other => {
                section.extend_from_slice(other.as_bytes());
                section.push(b'\n');
            }
        }
    }
    Ok(())
}
