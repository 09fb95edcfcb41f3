//! Exact probabilities.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::BigUint;

/// A probability whose denominator is a power of two: what rules that compare 31 random bits
/// with a threshold can yield, however many of them follow one another. Nothing is rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chance {
    numerator: BigUint,
    /// The denominator is two to the power of this.
    exponent: u64,
}

/// Random bits that the `statistic` match draws (xt_statistic.c).
const BITS: u64 = 31;

impl Chance {
    /// Certainty.
    pub fn certain() -> Self {
        Self { numerator: BigUint::from(1_u8), exponent: 0 }
    }

    /// Impossibility.
    pub fn never() -> Self {
        Self { numerator: BigUint::ZERO, exponent: 0 }
    }

    /// Whether it is zero.
    pub fn is_never(&self) -> bool {
        self.numerator == BigUint::ZERO
    }

    /// Splits it at a rule that takes `threshold` of 2³¹ packets: taken, left.
    pub fn split(&self, threshold: u32) -> (Self, Self) {
        let all = 1_u32 << BITS;
        let part =
            |of: u32| Self { numerator: &self.numerator * of, exponent: self.exponent + BITS };
        (part(threshold.min(all)), part(all - threshold.min(all)))
    }

    /// Either of two that exclude each other.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let exponent = self.exponent.max(other.exponent);
        Self { numerator: self.scaled(exponent) + other.scaled(exponent), exponent }
    }

    /// Whether it is `1/n`, but for at most `steps` times 2⁻³¹.
    pub fn is_one_in(&self, n: u64, steps: u64) -> bool {
        // |p/2^e - 1/n| <= steps/2^31, multiplied by n * 2^e * 2^31.
        let ours = (&self.numerator * n) << BITS;
        let one = BigUint::from(1_u8) << (self.exponent + BITS);
        let off = if ours > one { ours - one } else { one - ours };
        off <= (BigUint::from(steps) * n) << self.exponent
    }

    /// The fraction in lowest terms, unless its denominator has more than 128 bits; certainty is 1.
    /// Behind thousands of rules it has a hundred thousand bits, and spelling these takes seconds.
    pub fn fraction(&self) -> Option<String> {
        const MOST: u64 = 128;
        let common = self.numerator.trailing_zeros().unwrap_or(self.exponent).min(self.exponent);
        let numerator = || &self.numerator >> common;
        match self.exponent - common {
            0 => Some(numerator().to_string()),
            exponent if exponent > MOST => None,
            exponent => Some(format!("{}/{}", numerator(), BigUint::from(1_u8) << exponent)),
        }
    }

    /// The nearest floating-point number.
    pub fn to_f64(&self) -> f64 {
        // 64 bits behind the point are more than an f64 holds.
        let bits = self.numerator.bits();
        let surplus = bits.saturating_sub(64);
        let digits = u64::try_from(&self.numerator >> surplus).unwrap_or(u64::MAX);
        let exponent =
            i64::try_from(surplus).unwrap_or(0) - i64::try_from(self.exponent).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "rounding is what the function is for")]
        let digits = digits as f64;
        digits * 2_f64.powi(i32::try_from(exponent).unwrap_or(i32::MIN))
    }

    fn scaled(&self, exponent: u64) -> BigUint {
        &self.numerator << (exponent - self.exponent)
    }
}

impl PartialOrd for Chance {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let exponent = self.exponent.max(other.exponent);
        Some(self.scaled(exponent).cmp(&other.scaled(exponent)))
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_then_a_half_then_the_rest_are_thirds() {
        let (first, left) = Chance::certain().split(715_827_883);
        let (second, third) = left.split(1 << 30);
        for chance in [&first, &second, &third] {
            assert!(chance.is_one_in(3, 1), "{chance}");
            assert!(!chance.is_one_in(4, 1), "{chance}");
        }
        assert_eq!(
            first.or(&second).or(&third).partial_cmp(&Chance::certain()),
            Some(Ordering::Equal)
        );
        assert_eq!(first.to_string(), "0.333333");
        assert_eq!(first.fraction().as_deref(), Some("715827883/2147483648"));
        assert_eq!(Chance::certain().split(1 << 30).0.fraction().as_deref(), Some("1/2"));
        assert_eq!(Chance::certain().fraction().as_deref(), Some("1"));
        let last = (0..5).fold(Chance::certain(), |left, _| left.split(715_827_883).1);
        assert_eq!(last.fraction(), None);
    }
}
