//! The reasons of an explanation.

mod choice;
mod no_service;
mod refusal;
mod source;

use std::collections::BTreeSet;
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

    /// The Service with this address, and the kind of the address. A cluster IP comes first.
    fn owner_there(&self) -> Option<(String, FrontendKind)> {
        let (found, kind) = self.frontends_there().min_by_key(|(_, kind)| *kind)?;
        Some((format!("{}/{}", found.name.namespace, found.name.service), kind))
    }

    /// The ports that Services have at this address.
    fn ports_there(&self) -> PortsThere {
        let ports = self.frontends_there().map(|(of, _)| (of.port, of.name.protocol));
        ports.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The service ports with this cluster IP, external IP or load-balancer IP.
    fn frontends_there(&self) -> impl Iterator<Item = (&ServicePlan, FrontendKind)> {
        let to = self.packet.destination.ip();
        let services = self.plan.into_iter().flat_map(|plan| &plan.services);
        services.filter_map(move |of| {
            let (_, kind) = of.frontends().find(|(frontend, _)| frontend.ip() == Some(to))?;
            Some((of, kind))
        })
    }
}
