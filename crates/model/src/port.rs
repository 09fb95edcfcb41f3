//! Protocol and port fields of Services and EndpointSlices.

use std::num::NonZeroU16;

use rulegen_net::Protocol;

use crate::problem::ProblemCollector;
use crate::problem_code::ProblemCode;

/// Parses a protocol; warns if it is unsupported.
pub(crate) fn known_protocol(
    text: Option<&str>,
    field: String,
    report: &mut ProblemCollector<'_>,
) -> Option<Protocol> {
    let message = || {
        format!("unsupported protocol {:?} (expected TCP, UDP or SCTP)", text.unwrap_or_default())
    };
    report.need(Protocol::from_api(text), ProblemCode::UnsupportedValue, field, message())
}

/// Converts a port number; warns if it is out of range.
pub(crate) fn port_number(
    number: i64,
    field: String,
    report: &mut ProblemCollector<'_>,
) -> Option<NonZeroU16> {
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    report.need(
        port,
        ProblemCode::InvalidPort,
        field,
        format!("invalid port {number} (expected 1 to 65535)"),
    )
}

/// An optional port. 0 means none.
pub(crate) fn optional_port(
    number: Option<i64>,
    field: String,
    report: &mut ProblemCollector<'_>,
) -> Option<NonZeroU16> {
    number.filter(|number| *number != 0).and_then(|number| port_number(number, field, report))
}
