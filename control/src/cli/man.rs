//! The manual pages. What the command line defines comes from there, so that it cannot drift.

mod config;
mod control;
mod text;

use clap::{Command, CommandFactory, ValueEnum};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use self::text::Section;

/// A page of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Page {
    #[value(name = "dvx-control.8")]
    Control,
    #[value(name = "control.toml.5")]
    Config,
}

/// A page, or all of them one behind the other.
pub(super) fn render(page: Option<Page>) -> String {
    match page {
        Some(Page::Control) => control_page(),
        Some(Page::Config) => config_page(),
        None => Page::value_variants().iter().map(|page| render(Some(*page))).collect(),
    }
}

/// The name, the section, no date, the source and the manual. An empty argument is more than `Roff` can write.
fn title(name: &str, section: &str) -> String {
    format!(".TH {name} {section} \"\" \"dvx {}\" \"dvx\"\n", env!("CARGO_PKG_VERSION"))
}

fn config_page() -> String {
    let mut roff = Roff::new();
    write(&mut roff, config::SECTIONS);
    title("control.toml", "5") + &roff.to_roff()
}

fn control_page() -> String {
    let mut command = super::Cli::command();
    command.build();
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    roff.text([roman("dvx-control - the control plane of dvx")]);
    roff.control("SH", ["SYNOPSIS"]);
    let leaves = leaves(&command, "dvx-control");
    for (path, leaf) in &leaves {
        roff.text(usage(path, leaf));
        roff.control("br", []);
    }
    roff.text([bold("dvx-control --help"), roman(" | "), bold("--version")]);
    let mut page = title("dvx-control", "8") + &roff.to_roff();
    page.push_str(&description(&command));

    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for (path, leaf) in &leaves {
        explain(&mut roff, path, leaf);
    }
    write(&mut roff, control::SECTIONS);
    page.push_str(&roff.to_roff());
    page
}

fn description(command: &Command) -> String {
    let mut text = Vec::new();
    // Writing to a vector does not fail.
    Man::new(command.clone()).render_description_section(&mut text).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// The commands that do something, each with the words that lead to it.
fn leaves<'c>(command: &'c Command, path: &str) -> Vec<(String, &'c Command)> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    let mut leaves = Vec::new();
    for sub in shown {
        let path = format!("{path} {}", sub.get_name());
        if sub.has_subcommands() {
            leaves.extend(self::leaves(sub, &path));
        } else {
            leaves.push((path, sub));
        }
    }
    leaves
}

/// The arguments that make sense to show: help is the same everywhere.
fn arguments(command: &Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
}

fn value_name(argument: &clap::Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

fn usage(path: &str, command: &Command) -> Vec<clap_mangen::roff::Inline> {
    let mut line = vec![bold(path)];
    for argument in arguments(command) {
        let value = italic(value_name(argument));
        match argument.get_long() {
            Some(long) if argument.is_required_set() => {
                line.extend([roman(" "), bold(format!("--{long}")), roman(" "), value]);
            }
            Some(long) => {
                line.extend([roman(" ["), bold(format!("--{long}")), roman(" "), value, roman("]")]);
            }
            None => line.extend([roman(" "), value]),
        }
        if argument.get_num_args().is_some_and(|count| count.max_values() > 1) {
            line.push(roman("..."));
        }
    }
    line
}

fn explain(roff: &mut Roff, path: &str, command: &Command) {
    let name = path.strip_prefix("dvx-control ").unwrap_or(path);
    roff.control("SS", [name]);
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    for (index, paragraph) in about.split("\n\n").enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        let stop = if paragraph.ends_with('.') { "" } else { "." };
        roff.text([roman(format!("{}{stop}", paragraph.replace('\n', " ")))]);
    }
    for argument in arguments(command) {
        roff.control("TP", []);
        let value = italic(value_name(argument));
        roff.text(match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => {
                vec![bold(format!("-{short}")), roman(", "), bold(format!("--{long}")), roman(" "), value]
            }
            (None, Some(long)) => vec![bold(format!("--{long}")), roman(" "), value],
            _ => vec![value],
        });
        roff.text([roman(argument_help(argument))]);
    }
}

fn argument_help(argument: &clap::Arg) -> String {
    let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !values.is_empty() {
        help = format!("{help}: {}", values.join(", "));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() {
        help = format!("{help} (default: {})", defaults.join(", "));
    }
    format!("{help}.")
}

fn write(roff: &mut Roff, sections: &[Section]) {
    for section in sections {
        section.write(roff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_sample_is_explained() {
        let page = render(Some(Page::Config));
        let sample = include_str!("../../control.toml");
        let keys = sample.lines().filter_map(|line| {
            let key = line.trim_start_matches('#').split_once(" = ")?.0;
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
        });
        let mut count = 0;
        for key in keys {
            assert!(page.contains(&format!("\\fB{key}\\fR")), "{key}");
            count += 1;
        }
        assert!(count > 7);
    }

    #[test]
    fn every_command_and_option_is_in_the_page() {
        let page = render(Some(Page::Control));
        for text in [
            "\\fBdvx\\-control rekey\\fR",
            "\\fB\\-\\-new\\-kek\\-file\\fR",
            "SH \"EXIT STATUS\"",
            "SH SECURITY",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(!page.contains("dvx\\-control man"));
    }
}
