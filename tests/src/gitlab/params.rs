//! Parameters out of query and body, and Grape's checks of them.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::text::decoded_form;
use crate::git::Request;

/// All parameters of a request; the body's win over the query's.
#[derive(Debug, Clone, Default)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// A body that claims to be JSON and is none is a bad request.
    pub(super) fn of(request: &Request) -> Result<Self, Answer> {
        let mut params = Self::default();
        params.add_form(&request.query);
        let kind = request.header("content-type").unwrap_or_default();
        if kind.starts_with("application/json") && !request.body.is_empty() {
            let Ok(Value::Object(members)) = serde_json::from_slice(&request.body) else {
                return Err(Answer::bad_request("Invalid JSON"));
            };
            params.0.extend(members);
        } else if kind.starts_with("application/x-www-form-urlencoded") {
            params.add_form(&String::from_utf8_lossy(&request.body));
        }
        Ok(params)
    }

    fn add_form(&mut self, form: &str) {
        for pair in form.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded_form(name), Value::String(decoded_form(value)));
            match name.strip_suffix("[]") {
                Some(name) => match self.0.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(list) => list.push(value),
                    other => *other = Value::Array(vec![value]),
                },
                None => drop(self.0.insert(name, value)),
            }
        }
    }

    /// A parameter as text. Missing and null are the same.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// The same, where blank counts as absent.
    pub(super) fn present(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.trim().is_empty())
    }

    pub(super) fn check(&self) -> Check<'_> {
        Check { params: self, problems: Vec::new() }
    }
}

/// Collects what is wrong with the parameters of a call.
pub(super) struct Check<'a> {
    params: &'a Params,
    problems: Vec<String>,
}

impl Check<'_> {
    /// Ends the check: 400 with all problems in one text.
    pub(super) fn finish(self) -> Result<(), Answer> {
        if self.problems.is_empty() { Ok(()) } else { Err(Answer::parameter(self.problems.join(", "))) }
    }

    pub(super) fn required(&mut self, name: &str) -> String {
        let value = self.params.text(name);
        if value.is_none() {
            self.problems.push(format!("{name} is missing"));
        }
        value.unwrap_or_default()
    }

    /// A list of which each element is one of `known`; with commas split where the endpoint does that.
    pub(super) fn list(&mut self, name: &str, split: Commas, known: impl Fn(&str) -> bool) -> Vec<String> {
        let list: Vec<String> = match self.params.0.get(name) {
            None | Some(Value::Null) => {
                self.problems.push(format!("{name} is missing"));
                return Vec::new();
            }
            Some(Value::Array(list)) => list.iter().map(as_text).collect(),
            Some(other) if split == Commas::Split => vec![as_text(other)],
            Some(_) => {
                self.problems.push(format!("{name} is invalid"));
                return Vec::new();
            }
        };
        let list: Vec<String> = match split {
            Commas::Split => {
                list.iter().flat_map(|text| text.split(',')).map(|s| s.trim().to_owned()).collect()
            }
            Commas::Keep => list,
        };
        if !list.iter().all(|element| known(element)) {
            self.invalid_value(name);
        }
        list
    }

    pub(super) fn date(&mut self, name: &str) -> Option<Date> {
        self.parsed(name, |text| text.parse().ok())
    }

    pub(super) fn time(&mut self, name: &str) -> Option<Timestamp> {
        self.parsed(name, |text| text.parse().ok())
    }

    pub(super) fn integer(&mut self, name: &str) -> Option<u64> {
        self.parsed(name, |text| text.parse().ok())
    }

    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, |text| match text {
            "true" | "1" | "on" | "t" => Some(true),
            "false" | "0" | "off" | "f" => Some(false),
            _ => None,
        })
    }

    /// One of these words, or the first of them.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let Some(text) = self.params.present(name) else { return words[0] };
        let found = words.iter().find(|word| **word == text);
        if found.is_none() {
            self.invalid_value(name);
        }
        found.unwrap_or(&words[0])
    }

    /// A segment of the path that has to be a number.
    pub(super) fn id(&mut self, name: &str, text: &str) -> u64 {
        let id = text.parse();
        if id.is_err() {
            self.problems.push(format!("{name} is invalid"));
        }
        id.unwrap_or_default()
    }

    pub(super) fn missing(&mut self, name: &str) {
        self.problems.push(format!("{name} is missing"));
    }

    pub(super) fn invalid_value(&mut self, name: &str) {
        self.problems.push(format!("{name} does not have a valid value"));
    }

    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.params.present(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.problems.push(format!("{name} is invalid"));
        }
        value
    }
}

/// Whether elements of a list may be joined by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commas {
    Split,
    Keep,
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}
