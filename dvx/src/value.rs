//! The value of a secret: from the command line, a file, a hidden prompt or stdin.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use dvx_proto::limits::MAX_SECRET_BYTES;
use dvx_proto::{Secret, SecretName, Token};
use zeroize::Zeroizing;

use crate::cli::{HiddenText, NewSecret};
use crate::failure::{Failure, exit};
use crate::prompt;

type Text = Zeroizing<Vec<u8>>;

/// Where a value came from, which decides what is done with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody wrote exactly this.
    Argument,
    File,
    /// A prompt or a pipe, to which people and programs add a newline.
    Stream,
}

/// The value that a secret is to have.
pub(crate) fn obtain(secret: &NewSecret) -> Result<Secret, Failure> {
    let (text, origin) = match (&secret.value, &secret.from_file) {
        (Some(value), _) => (Zeroizing::new(value.as_bytes().to_vec()), Origin::Argument),
        (None, Some(path)) if path.as_os_str() == "-" => (read(io::stdin().lock(), "stdin")?, Origin::Stream),
        (None, Some(path)) => (read_file(path)?, Origin::File),
        (None, None) if io::stdin().is_terminal() => (ask(&secret.name)?, Origin::Stream),
        (None, None) => (read(io::stdin().lock(), "stdin")?, Origin::Stream),
    };
    check(&secret.name, text, origin)
}

/// A token for a provider. `whose` says for what it is asked, such as `GitLab token for the agent a`.
pub(crate) fn token(given: Option<&HiddenText>, whose: &str) -> Result<Secret, Failure> {
    let mut text = match given {
        Some(value) => Zeroizing::new(value.as_bytes().to_vec()),
        None if io::stdin().is_terminal() => prompt::secret(&format!("{whose} (hidden): "), "the token")?,
        None => read(io::stdin().lock(), "stdin")?,
    };
    let range = Token::locate(&text)
        .map_err(|error| Failure::new(format!("no {whose}"), error).with_exit(exit::USAGE))?;
    text.truncate(range.end);
    Ok(Secret::from(std::mem::take(&mut *text)))
}

fn check(name: &SecretName, mut text: Text, origin: Origin) -> Result<Secret, Failure> {
    let refused = |why: &str| Failure::new(format!("no value for {name}"), why).with_exit(exit::USAGE);
    if name.provider().is_some() {
        let range = Token::locate(&text).map_err(|error| refused(&error.to_string()))?;
        text.truncate(range.end);
    } else if origin == Origin::Stream && text.last() == Some(&b'\n') {
        text.pop();
    }
    if text.len() > MAX_SECRET_BYTES {
        return Err(refused(&too_long()));
    }
    if str::from_utf8(&text).is_err() {
        return Err(refused("it is not UTF-8")
            .with_hint("binary data can be stored encoded: base64 FILE | dvx secret set NAME"));
    }
    Ok(Secret::from(std::mem::take(&mut *text)))
}

fn too_long() -> String {
    format!("a value has at most {MAX_SECRET_BYTES} bytes (64 KiB)")
}

fn ask(name: &SecretName) -> Result<Text, Failure> {
    prompt::secret(&format!("Value of {name} (hidden): "), "the value")
}

fn read_file(path: &Path) -> Result<Text, Failure> {
    let what = path.display().to_string();
    let file = File::open(path)
        .map_err(|error| Failure::io(format!("cannot read {what}"), &error).with_exit(exit::USAGE))?;
    read(file, &what)
}

/// All of it, which is more than a value can have only by mistake.
fn read(source: impl Read, what: &str) -> Result<Text, Failure> {
    // As large as it can get from the start, with a newline: a buffer that grows leaves copies behind.
    let most = MAX_SECRET_BYTES + 2;
    let mut text = Zeroizing::new(Vec::with_capacity(most + 1));
    let read = source.take(most as u64).read_to_end(&mut text);
    read.map_err(|error| Failure::io(format!("cannot read {what}"), &error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, text: &[u8], origin: Origin) -> Result<Vec<u8>, String> {
        let checked = check(&name.parse().unwrap(), Zeroizing::new(text.to_vec()), origin);
        checked.map(|value| value.expose_secret().to_vec()).map_err(|failure| {
            assert_eq!(failure.exit(), 2);
            failure.to_string()
        })
    }

    #[test]
    fn one_newline_is_dropped_from_what_was_piped_or_typed_alone() {
        assert_eq!(value("A", b"x\n\n", Origin::Stream).unwrap(), b"x\n");
        assert_eq!(value("A", b"x\n", Origin::File).unwrap(), b"x\n");
        assert_eq!(value("A", b"x\n", Origin::Argument).unwrap(), b"x\n");
        assert_eq!(value("A", b"", Origin::Stream).unwrap(), b"");
    }

    #[test]
    fn a_token_is_a_token_wherever_it_comes_from() {
        for origin in [Origin::Argument, Origin::File, Origin::Stream] {
            assert_eq!(value("gitlab:token", b"glpat-x\n", origin).unwrap(), b"glpat-x");
            for (bad, why) in [
                (&b"\n"[..], "empty"),
                (b"", "empty"),
                (b"secret x", "white space"),
                (b"x\n\n", "white space"),
            ] {
                let failure = value("gitlab:token", bad, origin).unwrap_err();
                assert!(failure.contains(why) && !failure.contains("secret"), "{failure}");
            }
        }
    }

    #[test]
    fn values_have_a_limit_that_the_error_names() {
        let largest = vec![b'x'; MAX_SECRET_BYTES];
        assert_eq!(value("A", &largest, Origin::File).unwrap().len(), MAX_SECRET_BYTES);
        let with_newline = [&largest[..], b"\n"].concat();
        assert_eq!(value("A", &with_newline, Origin::Stream).unwrap().len(), MAX_SECRET_BYTES);
        assert!(value("A", &with_newline, Origin::File).unwrap_err().contains("65536 bytes (64 KiB)"));
        assert_eq!(read(io::repeat(b'x'), "x").unwrap().len(), MAX_SECRET_BYTES + 2);
    }

    #[test]
    fn what_is_not_text_is_refused() {
        assert!(value("A", b"\xff", Origin::File).unwrap_err().contains("not UTF-8"));
    }
}
