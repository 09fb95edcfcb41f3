//! The reasons of an explanation.

mod choice;
mod no_service;
mod refusal;
mod source;

use std::net::IpAddr;

use rulegen_compiler::{Plan, ServicePlan};
use rulegen_net::FrontendKind;
use rulegen_ruleset::Packet;

use super::explanation::ReachedFrontend;
use super::outcome::Outcome;
use super::path::PacketPath;
use super::reason::{PolicyField, PortsThere};
use super::remark::Remark;
use crate::rule_role::RuleRole;

/// The facts to explain.
pub(super) struct Remarks<'a> {
    pub(super) packet: &'a Packet,
    /// The host's own addresses.
    pub(super) local: &'a [IpAddr],
    pub(super) ways: &'a [PacketPath],
    pub(super) frontend: Option<&'a ReachedFrontend>,
    pub(super) service: Option<&'a ServicePlan>,
    pub(super) plan: Option<&'a Plan>,
}

impl Remarks<'_> {
    pub(super) fn all(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let refused =
            |way: &&PacketPath| matches!(way.verdict, Outcome::Rejected | Outcome::Dropped);
        for refusal in self.ways.iter().filter(refused).map(|way| self.refusal(way)) {
            if !remarks.contains(&refusal) {
                remarks.push(refusal);
            }
        }
        let reaches = self.ways.iter().any(|way| matches!(way.verdict, Outcome::Endpoint { .. }));
        if reaches {
            remarks.extend(self.policy());
            remarks.extend(self.choice());
            remarks.extend(self.source());
        }
        if self.ways.iter().any(|way| matches!(way.verdict, Outcome::Passes { .. })) {
            remarks.push(if reaches { self.partly() } else { self.no_service() });
        }
        remarks
    }

    fn roles(&self) -> impl Iterator<Item = &RuleRole> {
        self.ways.iter().flat_map(PacketPath::roles)
    }

    /// The field of the Service with the policy for this frontend.
    fn policy_field(&self) -> PolicyField {
        match self.frontend.map(|frontend| frontend.kind) {
            Some(FrontendKind::ClusterIP) => PolicyField::Internal,
            _ => PolicyField::External,
        }
    }

    /// The Service with this cluster IP.
    fn owner_there(&self) -> Option<String> {
        let mut services = self.plan?.services.iter();
        let found = services.find(|of| of.internal.address == self.packet.destination.ip())?;
        Some(format!("{}/{}", found.name.namespace, found.name.service))
    }

    /// The ports that Services have at this address.
    fn ports_there(&self) -> PortsThere {
        let services = self.plan.into_iter().flat_map(|plan| &plan.services);
        services
            .filter(|service| service.internal.address == self.packet.destination.ip())
            .map(|service| (service.port, service.name.protocol))
            .collect()
    }
}
