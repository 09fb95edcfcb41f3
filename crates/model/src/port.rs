//! Protocol and port fields that Services and EndpointSlices share.

use std::num::NonZeroU16;

use rulegen_net::Protocol;

use crate::problem::Report;

/// A protocol that is one, else a warning.
pub(crate) fn known_protocol(
    text: Option<&str>,
    field: String,
    report: &mut Report<'_>,
) -> Option<Protocol> {
    let message = || format!("{:?} is none of TCP, UDP, SCTP", text.unwrap_or_default());
    report.need(Protocol::from_api(text), field, message())
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
