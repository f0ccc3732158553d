//! What a benchmark says: for people, for programs, and for the document.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::settings;

/// Rows of text under columns.
#[derive(Debug, Clone)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// With the columns under each other: the first is text, the others are numbers.
    fn text(&self) -> String {
        let all = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |index: usize| all().map(|row| row[index].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        for row in all() {
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell = if index == 0 { format!("  {cell:width$}") } else { format!("  {cell:>width$}") };
                text.push_str(&cell);
            }
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("\n### {}\n\n{}|---|", self.title, line(&self.columns));
        text.push_str(&"--:|".repeat(self.columns.len() - 1));
        text.push('\n');
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

/// What a target demands of a number.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// A target beside what was measured.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What was measured, and against what.
    pub what: String,
    /// The number.
    pub measured: f64,
    /// Behind the number, such as ` ms`.
    pub unit: &'static str,
    /// The target.
    pub bound: Bound,
}

impl Verdict {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(limit) => self.measured <= limit,
            Bound::AtLeast(limit) => self.measured >= limit,
        }
    }

    fn cells(&self) -> [String; 4] {
        let (word, limit) = match self.bound {
            Bound::AtMost(limit) => ("≤", limit),
            Bound::AtLeast(limit) => ("≥", limit),
        };
        let result = if self.is_met() { "met" } else { "not met" };
        let number = |value: f64| format!("{value:.2}{}", self.unit);
        [self.what.clone(), format!("{word} {}", number(limit)), number(self.measured), result.into()]
    }
}

/// Everything that one benchmark says.
pub struct Report {
    bench: &'static str,
    notes: Vec<String>,
    tables: Vec<Table>,
    verdicts: Vec<Verdict>,
    data: Map<String, Value>,
}

impl Report {
    /// An empty one of this benchmark; begins with the machine.
    pub fn new(bench: &'static str) -> Self {
        let mut report =
            Self { bench, notes: Vec::new(), tables: Vec::new(), verdicts: Vec::new(), data: Map::new() };
        report.note(&machine());
        report
    }

    /// Adds a sentence.
    pub fn note(&mut self, text: &str) {
        println!("{text}");
        self.notes.push(text.to_owned());
    }

    /// Adds a table, and prints it.
    pub fn table(&mut self, table: Table) {
        print!("{}", table.text());
        self.tables.push(table);
    }

    /// Adds a target.
    pub fn verdict(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
    }

    /// Adds numbers for programs.
    pub fn data(&mut self, key: &str, value: Value) {
        self.data.insert(key.to_owned(), value);
    }

    /// Prints the targets; writes `DVX_BENCH_JSON`, and this benchmark's part of `DVX_BENCH_DOCUMENT`.
    pub fn finish(mut self) {
        if !self.verdicts.is_empty() {
            let mut table = Table::new("Targets", &["what", "target", "measured", "result"]);
            self.verdicts.iter().for_each(|verdict| table.row(verdict.cells()));
            self.table(table);
        }
        if let Some(path) = settings::setting("DVX_BENCH_JSON") {
            fs::write(in_workspace(&path), format!("{:#}\n", self.json())).unwrap();
        }
        if let Some(path) = settings::setting("DVX_BENCH_DOCUMENT") {
            let path = in_workspace(&path);
            let document =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            fs::write(&path, self.put_into(&document)).unwrap();
        }
    }

    fn json(&self) -> Value {
        let verdict = |verdict: &Verdict| {
            let [_, target, _, result] = verdict.cells();
            json!({"what": verdict.what, "target": target, "measured": verdict.measured, "result": result})
        };
        json!({
            "bench": self.bench,
            "notes": self.notes,
            "targets": self.verdicts.iter().map(verdict).collect::<Vec<_>>(),
            "data": self.data,
        })
    }

    /// Replaces what stands between the document's two marks of this benchmark.
    fn put_into(&self, document: &str) -> String {
        let (begin, end) =
            (format!("<!-- begin {} -->\n", self.bench), format!("<!-- end {} -->", self.bench));
        let (before, rest) = document.split_once(&begin).expect("the document has a mark where this begins");
        let (_, after) = rest.split_once(&end).expect("the document has a mark where this ends");
        let mut text = format!("{before}{begin}\n{}\n", self.notes.join("\n"));
        self.tables.iter().for_each(|table| text.push_str(&table.markdown()));
        write!(text, "\n{end}{after}").unwrap();
        text
    }
}

/// Cargo runs benchmarks in their package's directory; paths are meant from the workspace's.
fn in_workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The machine, and how busy it was.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} × {model}, Linux {}; load average at the start {load}.", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_replaces_its_own_part_of_a_document_and_nothing_else() {
        let mut report = Report::new("mine");
        let mut table = Table::new("Gets", &["who", "µs"]);
        table.row(["broker".to_owned(), "12".to_owned()]);
        report.table(table);
        let document = "a\n<!-- begin mine -->\nold\n<!-- end mine -->\nb\n";
        let text = report.put_into(document);
        assert!(text.starts_with("a\n<!-- begin mine -->\n"), "{text}");
        assert!(
            text.contains("### Gets\n\n| who | µs |\n|---|--:|\n| broker | 12 |\n\n<!-- end mine -->\nb\n"),
            "{text}"
        );
        assert!(!text.contains("old"), "{text}");
    }

    #[test]
    fn a_target_is_met_on_its_own_side_only() {
        let verdict = |bound| Verdict { what: String::new(), measured: 1.5, unit: "", bound };
        assert!(verdict(Bound::AtMost(1.5)).is_met() && verdict(Bound::AtLeast(1.5)).is_met());
        assert!(!verdict(Bound::AtMost(1.4)).is_met() && !verdict(Bound::AtLeast(1.6)).is_met());
    }
}
