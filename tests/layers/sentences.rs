//! Finds sentences in source code.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The string literals of a file with at least four words, without those of tests, comments and
/// attributes.
pub(crate) fn sentences(file: &Path) -> Vec<String> {
    let mut found = Vec::new();
    literals(fs::read_to_string(file).unwrap().parse().unwrap(), &mut found);
    found.retain(|text| words(text) >= 4);
    found
}

fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(of) if of.as_char() == '#' => {
                // Inner attributes start with `#!`.
                let is_group = |of: &TokenTree| matches!(of, TokenTree::Group(_));
                let attribute = tokens.find(is_group).map(|of| of.to_string()).unwrap_or_default();
                if attribute.replace(' ', "") == "[cfg(test)]" {
                    let is_end = |of: &TokenTree| match of {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        TokenTree::Punct(of) => of.as_char() == ';',
                        _ => false,
                    };
                    tokens.find(is_end);
                }
            }
            TokenTree::Group(group) => literals(group.stream(), found),
            TokenTree::Literal(literal) => found.push(literal.to_string()),
            _ => {}
        }
    }
}

/// The number of words, without what is filled in.
fn words(text: &str) -> usize {
    let parts = text.split('{').enumerate();
    let parts = parts.map(|(n, part)| match n {
        0 => part,
        _ => part.split_once('}').map_or("", |(_, rest)| rest),
    });
    let all: String = parts.collect();
    all.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 1).count()
}
