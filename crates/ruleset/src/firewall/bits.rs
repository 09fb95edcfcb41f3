//! Values of which some bits are unknown.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether a condition matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ternary {
    /// It matches.
    Yes,
    /// It does not match.
    No,
    /// It depends on something unknown.
    Unknown,
}

impl Ternary {
    /// Both must match.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    /// One of them must match.
    pub fn or(self, other: Self) -> Self {
        self.negated(true).and(other.negated(true)).negated(true)
    }

    /// The opposite, if `negated`.
    pub fn negated(self, negated: bool) -> Self {
        match self {
            Self::Yes if negated => Self::No,
            Self::No if negated => Self::Yes,
            same => same,
        }
    }
}

impl From<bool> for Ternary {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

/// Up to 16 bytes in network order, left-aligned, of which some bits may be unknown: an address, or
/// only its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// The bits. Unknown bits are zero.
    pub(super) value: u128,
    /// Ones for known bits.
    pub(super) known: u128,
}

impl Bits {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { value: 0, known: 0 };

    /// Known bytes; only the first 16 count.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { value: left_aligned(bytes), known: u128::MAX }
    }

    /// Known bits where `known` has ones. Behind the last byte there is nothing unknown.
    pub fn partly(value: &[u8], known: &[u8]) -> Self {
        let length = u8::try_from(known.len().saturating_mul(8)).unwrap_or(u8::MAX);
        let known = left_aligned(known) | !prefix_mask(length);
        Self { value: left_aligned(value) & known, known }
    }

    /// A known address.
    pub fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_bytes(&address.octets()),
            IpAddr::V6(address) => Self::of_bytes(&address.octets()),
        }
    }

    /// Some address of a network.
    pub fn of_network(network: IpNet) -> Self {
        let Self { value, .. } = Self::of_address(network.network());
        let known = prefix_mask(network.prefix_len());
        Self { value: value & known, known }
    }

    /// Whether the value, with the mask applied, lies in one of these ranges, which are sorted and
    /// do not overlap.
    pub(super) fn is_in(self, mask: u128, ranges: &[(u128, u128)]) -> Ternary {
        let (known, value) = (self.known | !mask, self.value & mask);
        let (least, most) = (value, value | !known);
        let from = ranges.partition_point(|(_, high)| *high < least);
        let mut possible = false;
        for (low, high) in ranges.get(from..).unwrap_or_default() {
            if *low > most {
                break;
            }
            if *low <= least && most <= *high {
                return Ternary::Yes;
            }
            // A single value is excluded by each known bit that differs.
            possible |= low != high || (low ^ value) & known == 0;
        }
        if possible { Ternary::Unknown } else { Ternary::No }
    }
}

/// Ones for the first bits.
pub(super) fn prefix_mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0)
}

/// The first 16 bytes as a number, filled with zeros at the end.
pub(super) fn left_aligned(bytes: &[u8]) -> u128 {
    let mut all = [0; 16];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(all)
}
