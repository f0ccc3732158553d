//! The manual pages and the completions, made from what the argument parser, the exit codes and the
//! environment module know. They are rendered when the project is tested and built into the program as text: what
//! renders them would make every start of the program slower.

mod text;

use clap::builder::StyledStr;
use clap_complete::Shell;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::cli::{self, ManPage};

/// Where a rendered file lies in this crate's directory, and what it must have in it.
fn files() -> [(&'static str, String); 5] {
    [
        ("man/dvxir.1", render(ManPage::Dvxir)),
        ("man/git-credential-dvxir.1", render(ManPage::GitCredentialDvxir)),
        ("completions/dvxir.bash", completions(Shell::Bash)),
        ("completions/_dvxir", completions(Shell::Zsh)),
        ("completions/dvxir.fish", completions(Shell::Fish)),
    ]
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "dvxir", &mut script);
    String::from_utf8(script).unwrap()
}

fn render(page: ManPage) -> String {
    let roff = match page {
        ManPage::Dvxir => dvxir(),
        ManPage::GitCredentialDvxir => git_credential_dvxir(),
    };
    roff.render()
}

fn dvxir() -> Roff {
    let mut definition = cli::definition();
    definition.build();
    let mut roff = page("DVXIR", "dvxir", "credentials for agents");
    roff.control("SH", ["SYNOPSIS"]);
    for command in leaves(&definition) {
        synopsis(&mut roff, command);
    }
    paragraphs(&mut roff, "DESCRIPTION", text::DESCRIPTION);
    roff.control("SH", ["COMMANDS"]);
    for command in leaves(&definition) {
        let mut described = vec![bold(command.get_bin_name().unwrap_or_default().replace("dvxir ", ""))];
        for argument in command.get_positionals() {
            let name = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
            described.extend([roman(" "), italic(name.unwrap_or_default().to_lowercase())]);
        }
        item(&mut roff, described, &description(command));
    }
    options(&mut roff, &leaves(&definition));
    item(&mut roff, vec![bold("-h"), roman(", "), bold("--help")], "Print help; also after each command.");
    item(&mut roff, vec![bold("-V"), roman(", "), bold("--version")], "Print the version.");
    items(&mut roff, "ENVIRONMENT", text::VARIABLES);
    items(&mut roff, "FILES", text::FILES);
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in text::EXITS {
        item(&mut roff, vec![bold(exit.code().to_string())], meaning);
    }
    paragraphs(&mut roff, "SECURITY", text::SECURITY);
    examples(&mut roff, text::EXAMPLES);
    paragraphs(&mut roff, "SEE ALSO", &["git-credential-dvxir(1), gitcredentials(7), dvx-broker(8)"]);
    roff
}

fn git_credential_dvxir() -> Roff {
    let mut roff =
        page("GIT-CREDENTIAL-DVXIR", "git-credential-dvxir", "git's credentials from the enclave's broker");
    roff.control("SH", ["SYNOPSIS"]);
    let operations = [bold(" get"), roman("|"), bold("store"), roman("|"), bold("erase")];
    for name in ["dvxir git-credential", "git-credential-dvxir"] {
        let mut line = vec![bold(name)];
        line.extend(operations.clone());
        roff.text(line);
        roff.control("br", []);
    }
    paragraphs(&mut roff, "DESCRIPTION", text::GIT_DESCRIPTION);
    items(&mut roff, "COMMANDS", text::GIT_COMMANDS);
    paragraphs(&mut roff, "OPTIONS", &["None."]);
    items(&mut roff, "ENVIRONMENT", text::VARIABLES);
    items(&mut roff, "FILES", text::GIT_FILES);
    items(&mut roff, "EXIT STATUS", text::GIT_EXITS);
    paragraphs(&mut roff, "SECURITY", text::GIT_SECURITY);
    examples(&mut roff, text::GIT_EXAMPLES);
    paragraphs(&mut roff, "SEE ALSO", &["dvxir(1), gitcredentials(7), git-credential(1)"]);
    roff
}

/// The beginning of a page. It has no date: it changes with the version only.
fn page(title: &str, name: &str, purpose: &str) -> Roff {
    let mut roff = Roff::new();
    let version = concat!("dvxir ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [title, "1", "", version]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {purpose}"))]);
    roff
}

fn synopsis(roff: &mut Roff, command: &clap::Command) {
    let usage = plain(Some(&command.clone().render_usage()));
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let name = command.get_bin_name().unwrap_or_default();
    roff.text([bold(name), roman(usage.strip_prefix(name).unwrap_or_default())]);
    roff.control("br", []);
}

/// What a command does: its short description as a sentence, and the rest of the long one.
fn description(command: &clap::Command) -> String {
    let short = plain(command.get_about());
    let long = plain(command.get_long_about());
    match long.strip_prefix(&short).map(str::trim).filter(|rest| !rest.is_empty()) {
        Some(rest) => format!("{short}. {rest}"),
        None => format!("{short}."),
    }
}

/// Each option once, with the commands that take it.
fn options(roff: &mut Roff, commands: &[&clap::Command]) {
    roff.control("SH", ["OPTIONS"]);
    let mut found: Vec<(&clap::Arg, Vec<String>)> = Vec::new();
    for command in commands {
        let name = command.get_bin_name().unwrap_or_default().replace("dvxir ", "");
        for option in command.get_opts().filter(|option| !option.is_hide_set()) {
            match found.iter_mut().find(|(known, _)| known.get_long() == option.get_long()) {
                Some((_, takers)) => takers.push(name.clone()),
                None => found.push((option, vec![name.clone()])),
            }
        }
    }
    for (option, takers) in found {
        let help = plain(option.get_long_help().or(option.get_help()));
        item(roff, option_name(option), &format!("{help}. For {}.", takers.join(", ")));
    }
}

fn option_name(option: &clap::Arg) -> Vec<Inline> {
    let mut name = Vec::new();
    if let Some(short) = option.get_short() {
        name.extend([bold(format!("-{short}")), roman(", ")]);
    }
    name.extend(option.get_long().map(|long| bold(format!("--{long}"))));
    if let Some(value) = option.get_value_names().and_then(<[_]>::first) {
        name.extend([roman(" "), italic(value.to_string())]);
    }
    name
}

fn item(roff: &mut Roff, term: Vec<Inline>, text: &str) {
    roff.control("TP", []);
    roff.text(term);
    roff.text([roman(text)]);
}

fn items(roff: &mut Roff, heading: &str, items: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (term, text) in items {
        item(roff, vec![bold(*term)], text);
    }
}

fn paragraphs(roff: &mut Roff, heading: &str, paragraphs: &[&str]) {
    roff.control("SH", [heading]);
    for (at, paragraph) in paragraphs.iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
}

/// Each example: what it is for, and the commands.
fn examples(roff: &mut Roff, examples: &[(&str, &str)]) {
    roff.control("SH", ["EXAMPLES"]);
    for (purpose, commands) in examples {
        roff.control("PP", []);
        roff.text([roman(*purpose)]);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in commands.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

/// The commands that do something, in the order of the help.
fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
    let shown =
        command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let mut leaves: Vec<_> = shown.flat_map(leaves).collect();
    if leaves.is_empty() {
        leaves.push(command);
    }
    leaves
}

fn plain(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn path(file: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[test]
#[ignore = "writes the files anew"]
fn render_the_files() {
    for (file, content) in files() {
        std::fs::write(path(file), content).unwrap();
    }
}

#[test]
fn the_files_are_current() {
    for (file, content) in files() {
        let current = std::fs::read_to_string(path(file)).is_ok_and(|there| there == content);
        assert!(current, "{file} is not; cargo test -p dvxir render_the_files -- --ignored");
    }
}

#[test]
fn every_section_is_there_in_order() {
    for page in [ManPage::Dvxir, ManPage::GitCredentialDvxir] {
        let text = render(page);
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        assert_eq!(
            headings,
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "COMMANDS",
                "OPTIONS",
                "ENVIRONMENT",
                "FILES",
                "\"EXIT STATUS\"",
                "SECURITY",
                "EXAMPLES",
                "\"SEE ALSO\"",
            ]
        );
    }
}

#[test]
fn every_command_is_described() {
    let text = render(ManPage::Dvxir);
    for command in ["credentials get", "secrets list", "exec", "init", "status"] {
        assert!(text.contains(&format!("\\fB{command}\\fR")), "{command}");
    }
}

#[test]
fn exits_are_the_contract_s_numbers() {
    let codes: Vec<u8> = text::EXITS.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
}
