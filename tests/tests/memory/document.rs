//! `docs/memory.md` has a row for each path, in the same order, and nothing was found.

use std::fs;

use crate::report::{document, section};
use crate::{broker, clients, control};

/// The rows under a heading.
fn rows(text: &str, title: &str) -> Vec<[String; 3]> {
    let lines = section(text, title).lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("a row of {title} has three cells: {cells:?}"))
    };
    lines.map(cells).collect()
}

#[test]
fn the_document_has_every_path_and_nothing_that_was_found() {
    let text = fs::read_to_string(document()).unwrap();
    let tables =
        [broker::tables(), vec![(control::TITLE, control::paths()), clients::agents(), clients::operators()]];
    for (title, paths) in tables.concat() {
        let rows = rows(&text, title);
        let written: Vec<_> = rows.iter().map(|[path, ..]| path.as_str()).collect();
        assert_eq!(written, paths, "{title}");
        for [path, live, removed] in &rows {
            let expected = if path.contains(clients::WHILE) { "1 of " } else { "0 of " };
            assert!(
                live.starts_with(expected) && removed.starts_with("0 of "),
                "{title}, {path}: {live}, {removed}"
            );
        }
    }
}
