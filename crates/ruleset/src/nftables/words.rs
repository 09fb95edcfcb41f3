//! The words of a line in nft's syntax.

use std::str::FromStr;

use super::Name;

/// The words of a line. A text in quotes is one word.
pub(super) struct LineWords<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> LineWords<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let mut words = Vec::new();
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let end = match rest.strip_prefix('"') {
                Some(text) => text.find('"').map_or(rest.len(), |end| end + 2),
                None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
            };
            let (word, behind) = rest.split_at(end);
            words.push(word);
            rest = behind.trim_start();
        }
        Self { words, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    /// The next word, which a comma may follow.
    pub(super) fn next_of_list(&mut self) -> Option<&'a str> {
        self.next().map(|word| word.strip_suffix(',').unwrap_or(word))
    }

    /// Returns to the previous word.
    pub(super) fn back(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    /// Skips a word if it is the next one.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        self.at += usize::from(is_next);
        is_next
    }

    /// Skips these words if they are the next ones.
    pub(super) fn eat_all(&mut self, words: &[&str]) -> bool {
        let are_next = self.words.get(self.at..).is_some_and(|rest| rest.starts_with(words));
        self.at += if are_next { words.len() } else { 0 };
        are_next
    }

    pub(super) fn need(&mut self, word: &str) -> Option<()> {
        self.eat(word).then_some(())
    }

    pub(super) fn need_all(&mut self, words: &[&str]) -> Option<()> {
        self.eat_all(words).then_some(())
    }

    /// Reads words, and returns to the first of them if they do not fit.
    pub(super) fn attempt<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let read = read(self);
        if read.is_none() {
            self.at = start;
        }
        read
    }

    /// The next word as a value.
    pub(super) fn parsed<T: FromStr>(&mut self) -> Option<T> {
        self.next()?.parse().ok()
    }

    /// The next word as a number with `0x`.
    pub(super) fn hexadecimal(&mut self) -> Option<u32> {
        u32::from_str_radix(self.next()?.strip_prefix("0x")?, 16).ok()
    }

    /// The next word without its quotes. A comma may follow it.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        self.next()?.strip_prefix('"')?.strip_suffix('"')
    }

    /// The next word as a reference to a set.
    pub(super) fn set(&mut self) -> Option<Name> {
        self.next()?.strip_prefix('@').map(Name::from)
    }

    /// The other words.
    pub(super) fn rest(&mut self) -> String {
        let rest = self.words.get(self.at..).unwrap_or_default().join(" ");
        self.at = self.words.len();
        rest
    }

    /// `None` if there are more words.
    pub(super) fn end(&self) -> Option<()> {
        self.peek().is_none().then_some(())
    }
}
