//! Formats times and numbers, for people and as JSON.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A time, shown relative to now; RFC 3339 as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    at: SystemTime,
    now: SystemTime,
}

impl When {
    pub(super) fn new(at: SystemTime, now: SystemTime) -> Self {
        Self { at, now }
    }

    /// RFC 3339, to the millisecond.
    pub(super) fn iso(&self) -> String {
        let at = Timestamp::try_from(self.at).unwrap_or(Timestamp::UNIX_EPOCH);
        format!("{at:.3}")
    }

    /// The time of the day in UTC.
    pub(super) fn clock(&self) -> String {
        self.iso().get(11..19).unwrap_or_default().to_owned()
    }

    /// The time since then; zero if the clock was set back.
    pub(super) fn ago(&self) -> String {
        let ago = self.now.duration_since(self.at).unwrap_or_default();
        if ago < Duration::from_secs(1) {
            "just now".to_owned()
        } else {
            format!("{} ago", Long(ago))
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.iso())
    }
}

/// A measured duration; milliseconds as JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Took(pub(super) Duration);

impl Display for Took {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_secs_f64() * 1e3;
        match milliseconds {
            under if under < 10.0 => write!(f, "{under:.1} ms"),
            under if under < 1e3 => write!(f, "{under:.0} ms"),
            under if under < 6e4 => write!(f, "{:.1} s", under / 1e3),
            _ => Long(self.0).fmt(f),
        }
    }
}

impl Serialize for Took {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0.as_secs_f64() * 1e6).round() / 1e3)
    }
}

/// A duration in its largest units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Long(pub(super) Duration);

impl Display for Long {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, minutes) if minutes < 10 => write!(f, "{minutes} min {} s", seconds % 60),
            (0, 0, minutes) => write!(f, "{minutes} min"),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

/// A number with commas between groups of three digits.
pub(super) fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (left, digit) in (0..digits.len()).rev().zip(digits.chars()) {
        text.push(digit);
        if left > 0 && left % 3 == 0 {
            text.push(',');
        }
    }
    text
}

/// A number with its noun.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", grouped(wide(number)))
}

/// Converts a count to 64 bits.
pub(super) fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_formatted_with_suitable_units() {
        let took = |micros| Took(Duration::from_micros(micros)).to_string();
        assert_eq!(took(432), "0.4 ms");
        assert_eq!(took(12_345), "12 ms");
        assert_eq!(took(1_250_000), "1.2 s");
        let long = |seconds| Long(Duration::from_secs(seconds)).to_string();
        let cases = [(3, "3 s"), (75, "1 min 15 s"), (3599, "59 min"), (7260, "2 h 1 min")];
        cases.into_iter().for_each(|(seconds, text)| assert_eq!(long(seconds), text));
        assert_eq!(long(200_000), "2 d 7 h");
    }

    #[test]
    fn times_are_formatted_relative_to_now() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(3_723_004);
        let when = |later| When::new(at, at + Duration::from_secs(later));
        assert_eq!(when(0).iso(), "1970-01-01T01:02:03.004Z");
        assert_eq!((when(0).clock().as_str(), when(0).ago().as_str()), ("01:02:03", "just now"));
        assert_eq!(when(75).ago(), "1 min 15 s ago");
        assert_eq!(When::new(at, SystemTime::UNIX_EPOCH).ago(), "just now");
    }

    #[test]
    fn numbers_have_thousands_separators() {
        let numbers = [0_u64, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    }
}
