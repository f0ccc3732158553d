//! Words for a POSIX shell.

/// A word that a POSIX shell takes for exactly this text: as it is where nothing in it means anything to a
/// shell, else in single quotes.
pub(crate) fn quote(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_and_others_are_quoted() {
        assert_eq!(quote("/usr/bin/dvxir"), "/usr/bin/dvxir");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("*"), "'*'");
        assert_eq!(quote("~x"), "'~x'");
        assert_eq!(
            quote("it's $(x)\n"),
            r"'it'\''s $(x)
'"
        );
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for text in ["a b", "$HOME", "`id`", "'", "''", "\\", "a\nb", "!x", "\"", "é;|&<>#", "--x"] {
            let script = format!("printf %s {}", quote(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
