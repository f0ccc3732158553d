//! Takes keys out of a TOML document, keeps the errors, and reports the keys that nobody took.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use dvx_proto::{quoted, quoted_unless_plain};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Cause, ConfigError};
use super::values::Kind;

/// A file that is being read.
pub(super) struct Document<'d> {
    path: &'d Path,
    text: &'d str,
    env: &'d dyn Fn(&str) -> Option<String>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'d> Document<'d> {
    pub(super) fn new(path: &'d Path, text: &'d str, env: &'d dyn Fn(&str) -> Option<String>) -> Self {
        Self { path, text, env, errors: RefCell::default() }
    }

    /// The top of the document. What is not TOML is an error each; the rest can still be read.
    pub(super) fn parse(&self) -> Section<'_, 'd> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let line = self.line(&error.span().unwrap_or_default());
            self.report(line, None, Cause::Syntax(error.message().to_owned()));
        }
        Section::new(self, None, 1, table.into_inner())
    }

    pub(super) fn report(&self, line: usize, key: Option<String>, cause: Cause) {
        self.errors.borrow_mut().push(ConfigError::new(self.path, line, key, cause));
    }

    /// All errors in the order of the file. Where something is not TOML, what seems to be missing or wrong
    /// there is not an error of its own.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.errors.into_inner();
        let broken: Vec<_> = errors.iter().filter(|error| error.is_syntax()).map(ConfigError::line).collect();
        if !broken.is_empty() {
            let stands = |error: &ConfigError| !error.is_missing() && !broken.contains(&error.line());
            errors.retain(|error| error.is_syntax() || stands(error));
            errors.dedup_by_key(|error| error.line());
        }
        errors.sort_by_key(ConfigError::line);
        errors
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A table of which keys are taken one by one.
pub(super) struct Section<'s, 'd> {
    document: &'s Document<'d>,
    /// The dotted key, none at the top.
    name: Option<String>,
    /// The line of its header.
    line: usize,
    table: DeTable<'d>,
    known: Vec<&'static str>,
    /// Lines of the keys that were taken.
    taken: Vec<(&'static str, usize)>,
}

/// A value under the key that it was found at.
pub(super) struct Value<'s, 'd> {
    document: &'s Document<'d>,
    key: String,
    line: usize,
    value: Spanned<DeValue<'d>>,
}

impl<'s, 'd> Section<'s, 'd> {
    fn new(document: &'s Document<'d>, name: Option<String>, line: usize, table: DeTable<'d>) -> Self {
        Self { document, name, line, table, known: Vec::new(), taken: Vec::new() }
    }

    /// The value of a key, or an error when there is none.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        read: impl FnOnce(&Value<'s, 'd>, Kind) -> Result<T, Cause>,
    ) -> Option<T> {
        if self.table.contains_key(key) {
            return self.optional(key, kind, read);
        }
        self.known.push(key);
        self.conflict(key, Cause::Missing(kind));
        None
    }

    /// The value of a key, where it is there and what it should be.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        read: impl FnOnce(&Value<'s, 'd>, Kind) -> Result<T, Cause>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match read(&value, kind) {
            Ok(value) => Some(value),
            Err(cause) => {
                self.document.report(value.line, Some(value.key), cause);
                None
            }
        }
    }

    /// The table under a key; an empty one where there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'s, 'd> {
        let name = self.dotted(key);
        let Some(Value { line, value, .. }) = self.take(key) else {
            return Section::new(self.document, Some(name), self.line, DeTable::new());
        };
        match value.into_inner() {
            DeValue::Table(table) => Section::new(self.document, Some(name), line, table),
            _ => {
                let cause = Cause::Invalid { given: "this".to_owned(), kind: Kind::TABLE };
                self.document.report(line, Some(name.clone()), cause);
                Section::new(self.document, Some(name), line, DeTable::new())
            }
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'s, 'd>> {
        let name = self.dotted(key);
        let Some(Value { line, value, .. }) = self.take(key) else { return Vec::new() };
        let DeValue::Array(array) = value.into_inner() else {
            let cause = Cause::Invalid { given: "this".to_owned(), kind: Kind::TABLES };
            self.document.report(line, Some(name), cause);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array {
            let line = self.document.line(&element.span());
            if let DeValue::Table(table) = element.into_inner() {
                sections.push(Section::new(self.document, Some(name.clone()), line, table));
            } else {
                let cause = Cause::Invalid { given: "this".to_owned(), kind: Kind::TABLE };
                self.document.report(line, Some(name.clone()), cause);
            }
        }
        sections
    }

    /// Whether a key that was not taken yet is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// An error about a key that was taken, or that is missing.
    pub(super) fn conflict(&self, key: &'static str, cause: Cause) {
        let line = self.line_of(key);
        self.document.report(line, Some(self.dotted(key)), cause);
    }

    /// The line of a key that was taken, else of the section.
    pub(super) fn line_of(&self, key: &'static str) -> usize {
        self.taken.iter().find(|(taken, _)| *taken == key).map_or(self.line, |(_, line)| *line)
    }

    /// The line of its header.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Reports the keys that were not taken.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let line = self.document.line(&key.span());
            let cause = Cause::Unknown { expected: self.known.clone() };
            self.document.report(line, Some(self.dotted(&quoted_unless_plain(key.get_ref()))), cause);
        }
    }

    /// Gives up on this section: its other keys are not looked at.
    pub(super) fn ignore_rest(self) {
        drop(self);
    }

    fn take(&mut self, key: &'static str) -> Option<Value<'s, 'd>> {
        self.known.push(key);
        let (spanned, value) = self.table.remove_entry(key)?;
        let line = self.document.line(&spanned.span());
        self.taken.push((key, line));
        Some(Value { document: self.document, key: self.dotted(key), line, value })
    }

    fn dotted(&self, key: &str) -> String {
        self.name.as_ref().map_or_else(|| key.to_owned(), |name| format!("{name}.{key}"))
    }
}

impl Value<'_, '_> {
    /// The value, where it is text.
    pub(super) fn text(&self, kind: Kind) -> Result<&str, Cause> {
        self.value.get_ref().as_str().ok_or_else(|| self.invalid(kind))
    }

    /// The value, where it is a whole number.
    pub(super) fn integer(&self, kind: Kind) -> Result<i64, Cause> {
        let integer = self.value.get_ref().as_integer().ok_or_else(|| self.invalid(kind))?;
        i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| self.invalid(kind))
    }

    /// The value, where it is `true` or `false`.
    pub(super) fn boolean(&self, kind: Kind) -> Result<bool, Cause> {
        self.value.get_ref().as_bool().ok_or_else(|| self.invalid(kind))
    }

    /// The value of an environment variable.
    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.document.env)(name)
    }

    /// That the value is not what it should be.
    pub(super) fn invalid(&self, kind: Kind) -> Cause {
        let given = match self.value.get_ref() {
            DeValue::String(text) => quoted(text),
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Array(_) => "an array".to_owned(),
            // Numbers and dates, as they were written.
            _ => self.document.text.get(self.value.span()).unwrap_or("this").chars().take(60).collect(),
        };
        Cause::Invalid { given, kind }
    }
}
