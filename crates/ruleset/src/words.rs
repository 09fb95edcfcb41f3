//! Words that both kinds of rules share.

use serde::Serialize;

/// A match that may be turned round with `!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Negatable<T> {
    /// Whether it is turned round.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
    /// What is matched.
    pub value: T,
}

impl<T> Negatable<T> {
    /// Matches what is equal.
    pub fn is(value: T) -> Self {
        Self { negated: false, value }
    }

    /// Matches what is not equal.
    pub fn is_not(value: T) -> Self {
        Self { negated: true, value }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "their names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The name of the protocol, and of the match for its ports.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Its number in the header of IP (IANA's protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol of that number.
    pub fn of_number(number: u8) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == number)
    }

    /// The protocol of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.name() == name)
    }
}
