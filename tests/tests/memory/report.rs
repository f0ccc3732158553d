//! What was found, for people: printed, and in `docs/memory.md`.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use dvx_tests::{Place, programs_elsewhere, run};

/// With this variable set the tables of the document are written anew.
const WRITE: &str = "DVX_TEST_WRITE_MEMORY_REPORT";

/// What was found after one path.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) path: String,
    /// Places with a value that is in force, or a part of it.
    pub(crate) live: usize,
    /// Places with a value that was replaced or taken away, or a part of it.
    pub(crate) removed: usize,
    /// How many values were looked for: in force, and removed.
    pub(crate) values: (usize, usize),
    /// How much memory was searched.
    pub(crate) bytes: usize,
    /// How often it had to be looked at.
    pub(crate) looks: usize,
    /// What exactly.
    pub(crate) places: Vec<Place>,
}

/// Prints a table, and fails if anything was found.
#[track_caller]
pub(crate) fn settle(title: &str, rows: &[Row]) {
    settle_with(title, rows, |_| false);
}

/// The same, where some rows may have something.
#[track_caller]
pub(crate) fn settle_with(title: &str, rows: &[Row], may: impl Fn(&Row) -> bool) {
    let table = table(rows);
    println!("{title}\n{table}");
    let mut seen = HashSet::new();
    let mut found = String::new();
    for row in rows.iter().filter(|row| !may(row)) {
        for place in &row.places {
            if seen.insert((&place.hit.marker, &place.mapping)) {
                found.push_str(&format!("after {}: {place:?}\n", row.path));
            }
        }
    }
    assert!(found.is_empty(), "{found}");
    if std::env::var_os(WRITE).is_some() {
        write(title, &table);
    }
}

fn table(rows: &[Row]) -> String {
    let sizes = || rows.iter().map(|row| row.bytes / 1024);
    let build = match programs_elsewhere() {
        Some(directory) => format!("the programs in {}", directory.display()),
        None if cfg!(debug_assertions) => "a build without optimisation".to_owned(),
        None => "an optimised build".to_owned(),
    };
    let kernel = run(std::process::Command::new("uname").args(["-s", "-r", "-m"])).success();
    let mut text = format!(
        "{}, {build}. From {} to {} KiB were searched each time, {} times in all.\n\n",
        kernel.trim(),
        sizes().min().unwrap_or_default(),
        sizes().max().unwrap_or_default(),
        rows.iter().map(|row| row.looks).sum::<usize>(),
    );
    text.push_str(
        "| after | places with a value in force, of so many values | with a removed value |\n|---|---|---|\n",
    );
    for Row { path, live, removed, values, .. } in rows {
        text.push_str(&format!("| {path} | {live} of {} | {removed} of {} |\n", values.0, values.1));
    }
    text
}

/// The document.
pub(crate) fn document() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/memory.md"))
}

/// What stands under a heading of the document, up to the next.
pub(crate) fn section<'t>(text: &'t str, title: &str) -> &'t str {
    let heading = format!("\n### {title}\n\n");
    let (_, rest) = text.split_once(&heading).unwrap_or_else(|| panic!("there is no section {title:?}"));
    rest.split("\n#").next().unwrap_or(rest)
}

fn write(title: &str, table: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(document()).unwrap();
    let heading = format!("### {title}\n\n");
    let before = format!("{heading}{}", section(&text, title));
    fs::write(document(), text.replacen(&before, &format!("{heading}{table}"), 1)).unwrap();
}
