//! Protocols and port numbers, as Services and EndpointSlices both give them.

use std::num::NonZeroU16;

use crate::problem::Report;

/// A transport protocol that Services know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As objects spell it; absent means TCP.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// As rules spell it.
    pub fn lower_case(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A protocol that is one, else a warning.
pub(crate) fn known_protocol(
    text: Option<&str>,
    field: String,
    report: &mut Report<'_>,
) -> Option<Protocol> {
    let message = || format!("{:?} is none of TCP, UDP, SCTP", text.unwrap_or_default());
    report.need(Protocol::parse(text), field, message())
}

/// A number that is a port, else a warning.
pub(crate) fn port_number(
    number: i64,
    field: String,
    report: &mut Report<'_>,
) -> Option<NonZeroU16> {
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    report.need(port, field, format!("{number} is no port (1 to 65535)"))
}

/// A port that may be absent, which 0 means too.
pub(crate) fn optional_port(
    number: Option<i64>,
    field: String,
    report: &mut Report<'_>,
) -> Option<NonZeroU16> {
    number.filter(|number| *number != 0).and_then(|number| port_number(number, field, report))
}
