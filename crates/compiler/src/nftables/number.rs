//! Numbers that stand for names in keys of elements.
//!
//! A key that names a service port itself would need a constant text among what a rule looks up,
//! which nft cannot write. It can write numbers, as `numgen inc mod 1 offset N`.

use std::fmt;

use rulegen_ruleset::nftables::{Number, Selector, Value};
use sha2::{Digest, Sha256};

/// 64 bits of a hash. Two names share a number by chance once in 2⁶⁴ pairs; a tenant who wants
/// the number of another Service has to try 2⁶⁴ names. 32 bits would take a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number64 {
    high: u32,
    low: u32,
}

impl Number64 {
    /// The number of what these parts name, each with its length so that no two lists of parts
    /// are alike.
    pub(super) fn of(kind: &str, parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut hash = Sha256::new_with_prefix(kind);
        for part in parts {
            let part = part.as_ref();
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut words = digest
            .chunks_exact(4)
            .map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)));
        let mut word = || words.next().unwrap_or_default();
        Self { high: word(), low: word() }
    }

    /// As part of what a rule looks up.
    pub(super) fn selectors(self) -> [Selector; 2] {
        [self.high, self.low].map(|number| Selector::Number(Number::Constant(number)))
    }

    /// As part of an element's key.
    pub(super) fn values(self) -> [Value; 2] {
        [Value::Number(self.high), Value::Number(self.low)]
    }
}

impl fmt::Display for Number64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}", self.high, self.low)
    }
}

/// 32 bits of a hash, where a shared number does no harm.
pub(super) fn number32(name: &str) -> u32 {
    let digest = Sha256::digest(name);
    digest.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}
