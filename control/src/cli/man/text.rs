//! Prose of the manual.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// A section of a page.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) blocks: &'static [Block],
}

/// A piece of a section. In texts, what stands between backticks is to be typed as it is.
pub(super) enum Block {
    Text(&'static str),
    /// Something and what it is.
    Term(&'static str, &'static str),
    /// Lines that stay as they are.
    Code(&'static str),
    /// A heading within the section.
    Heading(&'static str),
}

impl Section {
    pub(super) fn write(&self, roff: &mut Roff) {
        roff.control("SH", [self.title]);
        let mut fresh = true;
        for block in self.blocks {
            match block {
                Block::Text(text) => {
                    if !fresh {
                        roff.control("PP", []);
                    }
                    roff.text(inline(text));
                }
                Block::Term(term, text) => {
                    roff.control("TP", []);
                    roff.text(inline(term));
                    roff.text(inline(text));
                }
                Block::Code(lines) => {
                    roff.control("PP", []);
                    roff.control("RS", ["4"]);
                    roff.control("nf", []);
                    for line in lines.lines() {
                        roff.text([roman(line)]);
                    }
                    roff.control("fi", []);
                    roff.control("RE", []);
                }
                Block::Heading(heading) => {
                    roff.control("SS", [*heading]);
                }
            }
            fresh = matches!(block, Block::Heading(_));
        }
    }
}

fn inline(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate().filter(|(_, piece)| !piece.is_empty());
    pieces.map(|(index, piece)| if index % 2 == 0 { roman(piece) } else { bold(piece) }).collect()
}
