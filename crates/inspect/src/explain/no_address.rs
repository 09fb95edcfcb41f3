//! Why a destination is no address and port.

use rulegen_model::Unproxied;

/// Why a destination has no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPort {
    /// None was given.
    Absent,
    /// ICMP has no ports.
    Icmp,
}

/// What is known of a Service without a cluster IP of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// There are only rules, which show no reason.
    NoObjects,
    /// It is not in the input.
    Unknown,
    /// It gets no rules, although it is valid.
    Unproxied(Unproxied),
    /// It has a cluster IP of the other family.
    OtherFamily,
    /// It is invalid, or too large.
    Unusable,
}
