//! Why a destination is no address and port.

use std::sync::Arc;

use rulegen_model::Unproxied;
use rulegen_net::{IpFamily, Protocol, ServiceRef};
use strum::IntoStaticStr;

/// Why a destination has no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum NoPort {
    /// None was given.
    #[strum(serialize = "no-port")]
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

/// A name does not identify exactly one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnresolvedService {
    /// The Service, as it was named.
    pub(crate) service: ServiceRef,
    /// The family of the packet.
    pub(crate) family: IpFamily,
    /// Why.
    pub(crate) reason: UnresolvedReason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnresolvedReason {
    /// No cluster IP of the family.
    NoClusterIp(ServiceState),
    /// No port matches. The ports of the Service.
    NoSuchPort(Vec<NamedPort>),
    /// Several ports match. The ports of the Service.
    SeveralPorts(Vec<NamedPort>),
}

/// A port of a Service, by which it can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPort {
    /// The name; empty for an unnamed port.
    pub(crate) name: Arc<str>,
    /// The number.
    pub(crate) port: u16,
    /// Protocol of the packet.
    pub(crate) protocol: Protocol,
}

impl UnresolvedService {
    /// The code in JSON, which is stable.
    pub fn code(&self) -> &'static str {
        match &self.reason {
            UnresolvedReason::NoClusterIp(state) => match state {
                ServiceState::NoObjects | ServiceState::Unknown => "unknown-service",
                ServiceState::Unproxied(Unproxied::Headless) => "headless",
                ServiceState::Unproxied(Unproxied::ExternalName) => "external-name",
                ServiceState::Unproxied(Unproxied::OtherProxy) => "other-proxy",
                ServiceState::OtherFamily => "other-family",
                ServiceState::Unusable => "unusable-service",
            },
            UnresolvedReason::NoSuchPort(_) => "no-such-port",
            UnresolvedReason::SeveralPorts(_) => "several-ports",
        }
    }

    /// True if no Service has the name, as far as is known.
    pub fn is_unknown(&self) -> bool {
        use ServiceState::{NoObjects, Unknown};
        matches!(self.reason, UnresolvedReason::NoClusterIp(Unknown | NoObjects))
    }

    /// True if the Service exists, and is simply not one that rules are for.
    pub fn is_answer(&self) -> bool {
        use ServiceState::{OtherFamily, Unproxied};
        matches!(self.reason, UnresolvedReason::NoClusterIp(Unproxied(_) | OtherFamily))
    }

    /// The Service, as [`super::Destination::parse`] reads it.
    pub fn service(&self) -> String {
        self.service.to_string()
    }
}

impl std::error::Error for UnresolvedService {}
