//! Splits an input into documents, at most one of them in memory.

use std::io::{self, BufRead};

/// What one document may measure, in bytes: a `List` of 100,000 Services with their slices
/// from `kubectl get -o json` is about 120 MB.
pub const MAX_DOCUMENT_BYTES: usize = 160 << 20;

/// One document of an input.
#[derive(Debug, PartialEq)]
pub(crate) enum Document {
    /// Its text, without the `---` lines around it.
    Text(Vec<u8>),
    /// It was larger than [`MAX_DOCUMENT_BYTES`] and was skipped; this is its size.
    TooLarge(usize),
}

/// Reads documents one after the other. YAML ends a document at a line that starts with `---`,
/// whatever is open there, and JSON text cannot contain such a line, so the split needs no
/// parser and one broken document costs no other.
pub(crate) struct Documents<R> {
    input: R,
    limit: usize,
    /// What stood behind the `---` that ended the last document.
    carried: Vec<u8>,
    done: bool,
}

impl<R: BufRead> Documents<R> {
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self { input, limit, carried: Vec::new(), done: false }
    }

    fn read(&mut self) -> io::Result<Document> {
        let mut text = std::mem::take(&mut self.carried);
        let mut size = text.len();
        let mut line = Line::default();
        loop {
            line.read(&mut self.input, self.limit)?;
            if line.size == 0 {
                self.done = true;
                break;
            }
            if line.is_separator() {
                if size > self.limit || !text.trim_ascii().is_empty() {
                    self.carried = line.after_separator().to_vec();
                    break;
                }
                text = line.after_separator().to_vec();
                size = text.len();
                continue;
            }
            size += line.size;
            if size <= self.limit {
                text.extend_from_slice(&line.text);
            } else {
                text = Vec::new();
            }
        }
        Ok(if size > self.limit { Document::TooLarge(size) } else { Document::Text(text) })
    }
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

/// A line of which at most a limit is kept.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    size: usize,
}

impl Line {
    fn read(&mut self, input: &mut impl BufRead, limit: usize) -> io::Result<()> {
        self.text.clear();
        self.size = 0;
        loop {
            let buffer = match input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = buffer.iter().position(|b| *b == b'\n');
            let taken = buffer.get(..end.map_or(buffer.len(), |at| at + 1)).unwrap_or(buffer);
            let length = taken.len();
            if self.size + length <= limit {
                self.text.extend_from_slice(taken);
            }
            self.size += length;
            input.consume(length);
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }

    /// `---`, alone or followed by white space: what follows belongs to the next document.
    fn is_separator(&self) -> bool {
        self.text.strip_prefix(b"---").is_some_and(|rest| {
            rest.first().is_none_or(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
        })
    }

    /// What stands on the line of the separator, mostly nothing or a comment.
    fn after_separator(&self) -> &[u8] {
        self.text.get(3..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, limit: usize) -> Vec<Document> {
        Documents::new(text.as_bytes(), limit).map(Result::unwrap).collect()
    }

    #[test]
    fn splits_at_separator_lines_only() {
        let texts: Vec<_> = split("---\na: 1\nb: ---\n---\n--- {d: 3}\n--- \nc: 2\n----\n", 100)
            .into_iter()
            .map(|d| match d {
                Document::Text(text) => String::from_utf8(text).unwrap().trim().to_owned(),
                Document::TooLarge(_) => unreachable!(),
            })
            .collect();
        assert_eq!(texts, ["a: 1\nb: ---", "{d: 3}", "c: 2\n----"]);
    }

    #[test]
    fn a_large_document_costs_only_itself() {
        let text = format!("a: 1\n---\n{}\n---\nc: 2\n", "x".repeat(50));
        let got = split(&text, 20);
        assert_eq!(got.len(), 3);
        assert_eq!(got[1], Document::TooLarge(51));
        assert_eq!(got[2], Document::Text(b"c: 2\n".to_vec()));
    }
}
