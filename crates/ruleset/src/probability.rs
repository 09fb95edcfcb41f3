//! Probabilities of packet trace outcomes.

use std::fmt::{self, Display, Formatter};

/// A probability, as a fraction in lowest terms.
///
/// It is exact while its denominator fits 127 bits: any choice of nftables (one in n), and up to
/// four random iptables rules in a row, which draw 31 bits each. Beyond that each operation rounds
/// to a multiple of 2⁻⁹⁵, so after 2³¹ operations the value is at most 2⁻⁶⁴ off. A probability
/// above zero never rounds to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Probability {
    numerator: u128,
    denominator: u128,
    is_exact: bool,
}

/// The denominator of rounded values, as a power of two. A rounded value times 32 bits fits u128.
const ROUNDED_BITS: u32 = 95;
const ROUNDED: u128 = 1 << ROUNDED_BITS;

impl Probability {
    /// Probability 1.
    pub const CERTAIN: Self = Self { numerator: 1, denominator: 1, is_exact: true };

    /// Impossibility.
    pub const NEVER: Self = Self { numerator: 0, denominator: 1, is_exact: true };

    /// True if it is zero.
    pub fn is_never(self) -> bool {
        self.numerator == 0
    }

    /// This probability times `part / of`. An `of` of zero counts as one.
    #[must_use]
    pub fn times(self, part: u32, of: u32) -> Self {
        let (part, of) = (u128::from(part), u128::from(of.max(1)));
        let common = greatest_common_divisor(part, of);
        let (part, of) = (part / common, of / common);
        let outer = greatest_common_divisor(self.numerator, of).max(1);
        let inner = greatest_common_divisor(part, self.denominator).max(1);
        let numerator = (self.numerator / outer).checked_mul(part / inner);
        let denominator = (self.denominator / inner).checked_mul(of / outer);
        match numerator.zip(denominator) {
            Some((numerator, denominator)) if self.is_exact && fits(denominator) => {
                Self { numerator, denominator, is_exact: true }
            }
            _ => Self::rounded(self.scaled() * part / of, self.is_never() || part == 0),
        }
    }

    /// Splits it at a choice that takes `part` of `of` packets. Returns the part taken and the
    /// rest.
    pub fn split(self, part: u32, of: u32) -> (Self, Self) {
        (self.times(part.min(of), of), self.times(of.saturating_sub(part), of))
    }

    /// The probability of either of two outcomes that exclude each other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let exact = || {
            let common = greatest_common_divisor(self.denominator, other.denominator);
            let (ours, theirs) = (self.denominator / common, other.denominator / common);
            let denominator = self.denominator.checked_mul(theirs).filter(|all| fits(*all))?;
            let left = self.numerator.checked_mul(theirs)?;
            let numerator = left.checked_add(other.numerator.checked_mul(ours)?)?;
            let divisor = greatest_common_divisor(numerator, denominator).max(1);
            let (numerator, denominator) = (numerator / divisor, denominator / divisor);
            Some(Self { numerator, denominator, is_exact: true })
        };
        let sum = || {
            let is_never = self.is_never() && other.is_never();
            Self::rounded((self.scaled() + other.scaled()).min(ROUNDED), is_never)
        };
        (self.is_exact && other.is_exact).then(exact).flatten().unwrap_or_else(sum)
    }

    /// True if it is `1/n` within `steps` times 2⁻³¹, the resolution of the random numbers of
    /// iptables (xt_statistic.c).
    pub fn is_one_in(self, n: u64, steps: u32) -> bool {
        if steps == 0 && self.is_exact {
            return self.numerator == 1 && self.denominator == u128::from(n);
        }
        let one_in = ROUNDED / u128::from(n.max(1));
        let tolerance = u128::from(steps) << (ROUNDED_BITS - 31);
        // Both sides are rounded down.
        self.scaled().abs_diff(one_in) <= tolerance + 1
    }

    /// The `n` of exactly `1/n`.
    pub fn one_in(self) -> Option<u64> {
        u64::try_from(self.denominator).ok().filter(|_| self.is_exact && self.numerator == 1)
    }

    /// The fraction in lowest terms, unless the value was rounded; certainty is `1`.
    pub fn fraction(self) -> Option<String> {
        self.is_exact.then(|| match self.denominator {
            1 => self.numerator.to_string(),
            denominator => format!("{}/{denominator}", self.numerator),
        })
    }

    /// The nearest floating-point number.
    pub fn to_f64(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "rounding is what the function is for")]
        let ratio = self.numerator as f64 / self.denominator as f64;
        ratio
    }

    /// The numerator over 2⁹⁵, rounded down. Long division: the product of both would not fit.
    fn scaled(self) -> u128 {
        if self.denominator == ROUNDED {
            return self.numerator;
        }
        let mut quotient = self.numerator / self.denominator;
        let mut remainder = self.numerator % self.denominator;
        for _ in 0..ROUNDED_BITS {
            remainder <<= 1;
            quotient = quotient << 1 | u128::from(remainder >= self.denominator);
            remainder = remainder.checked_sub(self.denominator).unwrap_or(remainder);
        }
        quotient
    }

    fn rounded(scaled: u128, is_never: bool) -> Self {
        if is_never {
            return Self::NEVER;
        }
        Self { numerator: scaled.max(1), denominator: ROUNDED, is_exact: false }
    }
}

/// Long division doubles a remainder, which must not overflow.
fn fits(denominator: u128) -> bool {
    denominator <= 1 << 127
}

/// The exact fraction, or six decimal places of a rounded value.
impl Display for Probability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.fraction() {
            Some(fraction) => f.write_str(&fraction),
            None => write!(f, "{:.6}", self.to_f64()),
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
    use proptest::prelude::*;

    use super::*;

    const DRAWS: u32 = 1 << 31;

    #[test]
    fn probability_of_iptables_thresholds_of_a_third_and_a_half_yield_thirds() {
        let (first, left) = Probability::CERTAIN.split(715_827_883, DRAWS);
        let (second, third) = left.split(1 << 30, DRAWS);
        for probability in [first, second, third] {
            assert!(probability.is_one_in(3, 1), "{probability}");
            assert!(!probability.is_one_in(4, 1), "{probability}");
        }
        assert_eq!(first.or(second).or(third), Probability::CERTAIN);
        assert_eq!(first.fraction().as_deref(), Some("715827883/2147483648"));
        assert_eq!(Probability::CERTAIN.split(1 << 30, DRAWS).0.to_string(), "1/2");
        assert_eq!(Probability::CERTAIN.to_string(), "1");
    }

    #[test]
    fn probability_of_consecutive_nftables_choices_is_exact() {
        let mut left = Probability::CERTAIN;
        for n in (1..=1_000).rev() {
            assert!(left.times(1, n).is_one_in(1_000, 0), "{n}");
            left = left.times(n - 1, n);
        }
        assert!(left.is_never());
        let half = Probability::CERTAIN.times(1, 3).or(Probability::CERTAIN.times(1, 6));
        assert!(half.is_one_in(2, 0));
        assert_eq!((half.to_string(), half.to_f64()), ("1/2".to_owned(), 0.5));
        assert_eq!((half.one_in(), half.times(4, 3).one_in()), (Some(2), None));
        assert_eq!((Probability::CERTAIN.one_in(), Probability::NEVER.one_in()), (Some(1), None));
    }

    #[test]
    fn probability_after_five_thousand_random_rules_stays_within_the_bound() {
        let n = 5_000_u32;
        let (mut left, mut all) = (Probability::CERTAIN, Probability::NEVER);
        for remaining in (1..=n).rev() {
            let threshold = DRAWS.div_ceil(remaining);
            let (taken, rest) = left.split(threshold, DRAWS);
            assert!(taken.is_one_in(n.into(), 2), "{remaining}: {}", taken.to_f64());
            (all, left) = (all.or(taken), rest);
        }
        assert!((all.to_f64() - 1.0).abs() < 2_f64.powi(-50), "{}", all.to_f64());
        assert_eq!(all.fraction(), None);
        assert!(left.is_never());
    }

    #[test]
    fn probability_above_zero_never_rounds_to_zero() {
        let tiny = (0..200).fold(Probability::CERTAIN, |left, _| left.times(1, u32::MAX));
        assert!(!tiny.is_never());
        assert!(tiny.times(0, 5).is_never());
    }

    proptest! {
        #[test]
        fn probability_parts_of_a_split_add_up(draws in proptest::collection::vec(0..=DRAWS, 0..12)) {
            let whole = draws.iter().fold(Probability::CERTAIN, |left, draw| left.split(*draw, DRAWS).1);
            let (taken, left) = whole.split(123_456_789, DRAWS);
            let sum = taken.or(left);
            prop_assert!((sum.to_f64() - whole.to_f64()).abs() < 2_f64.powi(-60));
            prop_assert!(sum == whole || sum.fraction().is_none());
        }
    }
}
