//! `dvxir completions`

use clap_complete::Shell;

use crate::cli;
use crate::error::{Exit, Failure};
use crate::output;

#[cold]
pub(super) fn run(shell: Shell) -> Result<Exit, Failure> {
    output::answer(&script(shell))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "dvxir", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_completions_are_the_current_ones() {
        for (shell, checked_in) in [
            (Shell::Bash, include_str!("../../completions/dvxir.bash")),
            (Shell::Zsh, include_str!("../../completions/_dvxir")),
            (Shell::Fish, include_str!("../../completions/dvxir.fish")),
        ] {
            assert!(script(shell) == checked_in.as_bytes(), "{shell} is out of date; run dvxir/man/render");
        }
    }
}
