//! Exact probabilities.

use std::fmt;

/// A part of all packets, as a fraction in lowest terms: the choices of nftables are one in n
/// (the kernel's own are off by at most 2⁻³², for want of more random bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    numerator: u128,
    denominator: u128,
}

impl Share {
    /// All packets.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// One in so many of these. Beyond what 128 bits hold it is a little off.
    #[must_use]
    pub fn times(self, part: u32, of: u32) -> Self {
        let denominator = self.denominator.saturating_mul(of.max(1).into());
        Self::reduced(self.numerator.saturating_mul(part.into()), denominator)
    }

    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let ours = self.numerator.saturating_mul(other.denominator);
        let theirs = other.numerator.saturating_mul(self.denominator);
        let denominator = self.denominator.saturating_mul(other.denominator);
        Self::reduced(ours.saturating_add(theirs), denominator)
    }

    /// Whether it is one in so many.
    pub fn is_one_in(self, n: u64) -> bool {
        self.numerator == 1 && self.denominator == n.into()
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self.numerator == 0
    }

    /// The nearest floating-point number.
    pub fn to_f64(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "rounding is what the function is for")]
        let ratio = self.numerator as f64 / self.denominator as f64;
        ratio
    }

    fn reduced(numerator: u128, denominator: u128) -> Self {
        let divisor = greatest_common_divisor(numerator, denominator).max(1);
        Self { numerator: numerator / divisor, denominator: denominator / divisor }
    }
}

/// As a fraction; all packets are 1.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_each_gets_the_same() {
        let mut left = Share::ALL;
        for n in (1..=1_000).rev() {
            assert!(left.times(1, n).is_one_in(1_000), "{n}");
            left = left.times(n - 1, n);
        }
        assert!(left.is_none());
        let half = Share::ALL.times(1, 3).and(Share::ALL.times(1, 6));
        assert!(half.is_one_in(2));
        assert_eq!((half.to_string(), half.to_f64()), ("1/2".to_owned(), 0.5));
        assert_eq!(Share::ALL.to_string(), "1");
    }
}
