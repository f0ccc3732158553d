//! Tables: columns aligned, four spaces apart, under a line of headers.

use std::fmt::Write;

use super::harmless;

/// What stands between two columns.
const COLUMN_GAP: &str = "    ";

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// A text in a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// How much a cell wants to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// The escape sequence that begins it (ECMA-48, SGR).
    const fn sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Warning => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
        }
    }
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref());
        Self { text: if text.is_empty() { NOTHING.to_owned() } else { text }, tone: Tone::Plain }
    }

    /// Nothing where there is none.
    pub(crate) fn maybe(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::new(""), Self::new)
    }

    pub(crate) fn number(number: u64) -> Self {
        Self::new(number.to_string())
    }

    #[must_use]
    pub(crate) fn good(self) -> Self {
        Self { tone: Tone::Good, ..self }
    }

    #[must_use]
    pub(crate) fn warning(self) -> Self {
        Self { tone: Tone::Warning, ..self }
    }

    #[must_use]
    pub(crate) fn bad(self) -> Self {
        Self { tone: Tone::Bad, ..self }
    }
}

/// Rows, and what their columns are called.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new<const N: usize>(headers: [&'static str; N]) -> Self {
        let widths = headers.iter().map(|header| header.len()).collect();
        Self { headers: headers.to_vec(), rows: Vec::new(), widths }
    }

    /// A table without a line of headers: one thing, a line for each of its properties.
    pub(crate) fn properties() -> Self {
        Self { headers: Vec::new(), rows: Vec::new(), widths: vec![0; 2] }
    }

    pub(crate) fn push<const N: usize>(&mut self, row: [Cell; N]) {
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.text.chars().count());
        }
        self.rows.push(row.into());
    }

    /// The whole table.
    pub(crate) fn render(&self, colours: bool) -> String {
        let mut text = String::new();
        if !self.headers.is_empty() {
            let headers: Vec<Cell> = self.headers.iter().map(Cell::new).collect();
            text.push_str(&self.line(&headers, false));
        }
        for row in &self.rows {
            text.push_str(&self.line(row, colours));
        }
        text
    }

    /// The rows so far without headers, and forgets them. Columns stay as wide as they have been.
    pub(crate) fn take_rows(&mut self, colours: bool) -> String {
        let rows = std::mem::take(&mut self.rows);
        rows.iter().map(|row| self.line(row, colours)).collect()
    }

    fn line(&self, row: &[Cell], colours: bool) -> String {
        let mut line = String::new();
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            let gap = if column == 0 { "" } else { COLUMN_GAP };
            let padding = if column == last { 0 } else { width.saturating_sub(cell.text.chars().count()) };
            let (on, off) = match cell.tone.sequence() {
                "" => ("", ""),
                _ if !colours => ("", ""),
                sequence => (sequence, "\u{1b}[0m"),
            };
            // Writing to a String cannot fail.
            write!(line, "{gap}{on}{}{off}{:padding$}", cell.text, "").ok();
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.push([Cell::new("a"), Cell::new("active").good(), Cell::new("")]);
        table.push([Cell::new("longer"), Cell::new("revoked").bad(), Cell::new("x\n\u{1b}[0m")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        assert_eq!(
            table().render(false),
            "NAME      STATE      WHY\na         active     -\nlonger    revoked    x \\u{1b}[0m\n"
        );
        assert_eq!(Table::new(["A", "B"]).render(false), "A    B\n");
    }

    #[test]
    fn colours_do_not_move_columns() {
        assert_eq!(table().render(true).lines().nth(1).unwrap(), "a         \u{1b}[32mactive\u{1b}[0m     -");
    }

    #[test]
    fn rows_that_come_later_stay_in_their_columns() {
        let mut table = table();
        let first = table.render(false);
        table.take_rows(false);
        table.push([Cell::new("b"), Cell::new("active"), Cell::new("")]);
        let later = table.take_rows(false);
        assert_eq!(later.find("active"), first.lines().next().unwrap().find("STATE"));
        assert_eq!(table.take_rows(false), "");
    }
}
