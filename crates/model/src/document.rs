//! Splits an input into documents. Keeps at most one document in memory.

use std::io::{self, BufRead, Read};

/// Maximum size of one document, in bytes. A `List` of 100,000 Services with their slices from
/// `kubectl get -o json` has about 120 MB.
pub const MAX_DOCUMENT_BYTES: usize = 160 << 20;

/// One document of an input.
#[derive(Debug, PartialEq)]
pub enum Document {
    /// A document.
    Text {
        /// The text, without the `---` lines around it.
        text: Vec<u8>,
        /// Number of its first line in the input, starting at 1.
        first_line: usize,
    },
    /// A skipped document that was larger than [`MAX_DOCUMENT_BYTES`]; its size in bytes.
    TooLarge(usize),
}

/// The documents of an input, one after the other.
pub fn documents(input: impl BufRead) -> impl Iterator<Item = io::Result<Document>> {
    Documents::new(input, MAX_DOCUMENT_BYTES)
}

/// Reads documents one after the other. YAML ends a document at a line that starts with `---` or
/// `...`, even inside of a quoted string, and JSON text cannot contain such a line. So the split
/// needs no parser, and an invalid document does not affect the others.
struct Documents<R> {
    input: R,
    limit: usize,
    /// Text after the `---` that ended the last document.
    carried: Vec<u8>,
    /// Lines read so far.
    lines: usize,
    at_line_start: bool,
    done: bool,
}

/// Lines can have any length, so they are read in pieces of at most this size.
const PIECE_BYTES: u64 = 1 << 16;

impl<R: BufRead> Documents<R> {
    fn new(input: R, limit: usize) -> Self {
        Self { input, limit, carried: Vec::new(), lines: 0, at_line_start: true, done: false }
    }

    fn read(&mut self) -> io::Result<Document> {
        let mut text = std::mem::take(&mut self.carried);
        let mut size = text.len();
        let mut first_line = self.lines + usize::from(text.is_empty());
        loop {
            let start = text.len();
            let length = self.input.by_ref().take(PIECE_BYTES).read_until(b'\n', &mut text)?;
            if length == 0 {
                self.done = true;
                break;
            }
            let piece = text.get(start..).unwrap_or_default();
            let rest = after_separator(piece).filter(|_| self.at_line_start);
            let rest = rest.map(|rest| rest.trim_ascii_start().to_vec());
            self.at_line_start = piece.ends_with(b"\n");
            self.lines += usize::from(self.at_line_start);
            if let Some(rest) = rest {
                text.truncate(start);
                if size > self.limit || !text.trim_ascii().is_empty() {
                    self.carried = rest;
                    break;
                }
                text = rest;
                size = text.len();
                first_line = self.lines + usize::from(text.is_empty());
                continue;
            }
            size += length;
            if size > self.limit {
                text = Vec::new();
            }
        }
        Ok(if size > self.limit {
            Document::TooLarge(size)
        } else {
            Document::Text { text, first_line }
        })
    }
}

/// The text after a `---` that is followed by white space or the end of the line: usually empty or
/// a comment. It belongs to the next document. `...` ends a document too.
fn after_separator(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"---").or_else(|| line.strip_prefix(b"..."))?;
    rest.first().is_none_or(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).then_some(rest)
}

impl<R: BufRead> Iterator for Documents<R> {
    type Item = io::Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read();
        self.done |= read.is_err();
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, limit: usize) -> Vec<Document> {
        Documents::new(text.as_bytes(), limit).map(Result::unwrap).collect()
    }

    #[test]
    fn document_splits_at_separator_lines_only() {
        let texts: Vec<_> = split("---\na: 1\nb: ---\n---\n--- {d: 3}\n--- \nc: 2\n----\n", 100)
            .into_iter()
            .map(|d| match d {
                Document::Text { text, .. } => String::from_utf8(text).unwrap().trim().to_owned(),
                Document::TooLarge(_) => unreachable!(),
            })
            .collect();
        assert_eq!(texts, ["a: 1\nb: ---", "{d: 3}", "c: 2\n----"]);
    }

    #[test]
    fn document_too_large_does_not_affect_other_documents() {
        let text = format!("a: 1\n---\n{}\n---\nc: 2\n", "x".repeat(50));
        let got = split(&text, 20);
        assert_eq!(got.len(), 3);
        assert_eq!(got[1], Document::TooLarge(51));
        assert_eq!(got[2], Document::Text { text: b"c: 2\n".to_vec(), first_line: 5 });
    }
}
