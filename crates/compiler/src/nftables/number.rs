//! Numbers that represent names in the keys of elements.
//!
//! A key with the name itself would need a constant string in the key that a rule looks up. nft has
//! no syntax for that, but it has one for numbers: `numgen inc mod 1 offset N`.

use std::fmt;

use rulegen_ruleset::nftables::{Number, Selector, Value};
use sha2::{Digest, Sha256};

/// 64 bits of a hash. Two names have the same number with probability 2⁻⁶⁴. A tenant who wants the
/// number of another Service must try 2⁶⁴ names; with 32 bits, that would take a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number64 {
    high: u32,
    low: u32,
}

impl Number64 {
    /// The number of these parts. The length of each is hashed too, so different lists cannot have
    /// the same input.
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

    /// The number as a part of a lookup.
    pub(super) fn selectors(self) -> [Selector; 2] {
        [self.high, self.low].map(|number| Selector::Number(Number::Constant(number)))
    }

    /// The number as a part of an element's key.
    pub(super) fn values(self) -> [Value; 2] {
        [Value::Number(self.high), Value::Number(self.low)]
    }
}

impl fmt::Display for Number64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}", self.high, self.low)
    }
}

/// 32 bits of a hash, for purposes where equal numbers are harmless.
pub(super) fn number32(name: &str) -> u32 {
    let digest = Sha256::digest(name);
    digest.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}
