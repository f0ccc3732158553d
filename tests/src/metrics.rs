//! A strict reader of the Prometheus text format, in the manner of `promtool check metrics`.

use std::collections::{BTreeMap, BTreeSet};

/// What a scrape contains.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Name to type, of each family.
    pub families: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads a scrape; the error names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut metrics = Self::default();
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            if line == "# EOF" || line.is_empty() {
                continue;
            }
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(line)?;
                if !helped.insert(name.to_owned()) || help.is_empty() {
                    return Err(format!("second or empty help: {line}"));
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(line)?;
                check_name(name).ok_or(line)?;
                if metrics.families.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return Err(format!("second type: {line}"));
                }
            } else if line.starts_with("# UNIT ") {
                continue;
            } else {
                metrics.sample(line)?;
            }
        }
        if let Some(name) = metrics.families.keys().find(|name| !helped.contains(*name)) {
            return Err(format!("{name} has no help"));
        }
        Ok(metrics)
    }

    /// The sum of all samples of this name whose labels contain all of these `name="value"` texts.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name =
            |key: &str| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        let matches = |key: &str| of_name(key) && labels.iter().all(|label| key.contains(label));
        self.samples.iter().filter(|(key, _)| matches(key)).map(|(_, value)| value).sum()
    }

    /// The names of all samples with their labels.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let wrong = || format!("not a sample: {line}");
        let (series, value) = match line.find('}') {
            Some(end) => line.split_at(end + 1),
            None => line.split_at(line.find(' ').ok_or_else(wrong)?),
        };
        let name = series.split('{').next().unwrap_or_default();
        check_name(name).ok_or_else(wrong)?;
        check_labels(series.strip_prefix(name).unwrap_or_default()).ok_or_else(wrong)?;
        let value: f64 = value.trim().parse().map_err(|_| wrong())?;
        if !self.has_family(name) {
            return Err(format!("no type was declared before: {line}"));
        }
        match self.samples.insert(series.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(format!("stands twice: {line}")),
        }
    }

    fn has_family(&self, sample: &str) -> bool {
        let suffixes = ["", "_total", "_bucket", "_sum", "_count", "_info", "_created"];
        suffixes
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .any(|name| self.families.contains_key(name))
    }
}

fn check_name(name: &str) -> Option<()> {
    let first = name.bytes().next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    (!first.is_ascii_digit() && name.bytes().all(plain)).then_some(())
}

fn check_labels(labels: &str) -> Option<()> {
    if labels.is_empty() {
        return Some(());
    }
    let inner = labels.strip_prefix('{')?.strip_suffix('}')?;
    for label in inner.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=')?;
        check_name(name)?;
        value.strip_prefix('"')?.strip_suffix('"')?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_scrape_is_read() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\n";
        assert_eq!(Metrics::parse(text).unwrap().sum("a_total", &[]), 5.0);
    }

    #[test]
    fn what_is_not_a_scrape_is_refused() {
        for bad in [
            "a 1",
            "# TYPE a gauge\na 1",
            "# HELP a A.\n# TYPE a gauge\na x",
            "# HELP a A.\n# TYPE a gauge\na 1\na 2",
            "# HELP a A.\n# TYPE a gauge\na{x} 1",
        ] {
            assert!(Metrics::parse(bad).is_err(), "{bad}");
        }
    }
}
