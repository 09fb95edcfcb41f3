//! Go's durations (`time.ParseDuration` and `time.Duration.String`), exact to the nanosecond.

use std::time::Duration;

use crate::value_error::ValueError;

/// Go's `time.Duration` is an `int64` of nanoseconds.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

/// Units and their nanoseconds. A unit comes after the units of which it is a prefix.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

/// Reads a non-negative duration in Go's format, such as `1h15m30.5s`.
///
/// # Errors
/// It is not a duration, or it is negative.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let (is_negative, length) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match nanoseconds(length) {
        None => Err(ValueError::Duration(text.to_owned())),
        Some(length) if is_negative && length > 0 => {
            Err(ValueError::NegativeDuration(text.to_owned()))
        }
        Some(length) => Ok(Duration::from_nanos(length)),
    }
}

fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut sum: u128 = 0;
    while !rest.is_empty() {
        let remaining = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.get(..rest.len() - remaining.len())?;
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| remaining.starts_with(unit))?;
        sum = sum.checked_add(multiple(number, length)?)?;
        rest = remaining.strip_prefix(unit)?;
    }
    u64::try_from(sum).ok().filter(|_| sum <= MAX_NANOSECONDS)
}

/// A decimal number of units; fractions of a nanosecond are cut off.
fn multiple(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole = whole.checked_mul(unit)?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An hour has less than 10^13 nanoseconds: more digits have no effect.
    let digits = fraction.get(..fraction.len().min(15))?;
    let scale = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let part: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    whole.checked_add(part.checked_mul(unit)?.checked_div(scale)?)
}

/// Writes a duration as Go does: `24h0m0s`, `1.5s`, `100ms`.
pub fn format_duration(duration: Duration) -> String {
    let total = duration.as_nanos();
    match total {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{total}ns"),
        1_000..1_000_000 => return format!("{}µs", decimal(total, 1_000, 3)),
        1_000_000..1_000_000_000 => return format!("{}ms", decimal(total, 1_000_000, 6)),
        _ => {}
    }
    let (minutes, rest) = (total / UNITS[6].1, total % UNITS[6].1);
    let seconds = format!("{}s", decimal(rest, 1_000_000_000, 9));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// A quotient with as many decimal places as necessary.
fn decimal(number: u128, unit: u128, digits: usize) -> String {
    let fraction = format!("{:0digits$}", number % unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}", number / unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_parsed_like_go() {
        for (text, nanoseconds) in [
            ("30s", 30_000_000_000),
            ("1h15m", 4_500_000_000_000),
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            ("0", 0),
            ("-0s", 0),
            ("+1s", 1_000_000_000),
            (".5m", 30_000_000_000),
            ("1.s", 1_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            ".s",
            "1h-2m",
            "1 s",
            "-3s",
            "1.2.3s",
            "1e400s",
            "9999999999999999999h",
            "2562047h47m16.854775808s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("-3s"), Err(ValueError::NegativeDuration("-3s".to_owned())));
    }

    #[test]
    fn durations_are_formatted_like_go() {
        for text in ["0s", "1ns", "1.5µs", "100ms", "1.5s", "30s", "15m0s", "24h0m0s", "1h0m0.5s"]
        {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanoseconds in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
