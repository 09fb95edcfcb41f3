//! Explains which source address the endpoint sees.

use rulegen_compiler::{Plan, PodTraffic};
use rulegen_model::TrafficPolicy;
use rulegen_net::FrontendKind;
use rulegen_ruleset::Origin;

use super::Remarks;
use crate::explain::path::PacketPath;
use crate::explain::reason::{Client, Reason, RemarkSubject, SourceKept};
use crate::explain::remark::Remark;
use crate::explain::{Outcome, ReachedFrontend};
use crate::masquerade_reason::MasqueradeReason;
use crate::rule_role::RuleRole;

impl Remarks<'_> {
    /// For all endpoints, then for one that reaches itself (hairpin).
    pub(super) fn source(&self) -> Vec<Remark> {
        let mut remarks: Vec<Remark> = Vec::new();
        for way in self.ways {
            let Outcome::Endpoint { endpoint, masqueraded } = way.verdict else { continue };
            let marked = way.roles().filter_map(reason).last();
            let reason = match (masqueraded, marked) {
                (true, Some(reason)) => self.masqueraded(reason),
                (true, None) => Reason::MasqueradedByOthers,
                (false, Some(_)) => Reason::NotMasqueraded { source: self.packet.source },
                (false, None) => {
                    Reason::SourceKept { source: self.packet.source, why: self.kept(way) }
                }
            };
            match remarks.iter_mut().find(|remark| remark.reason == reason) {
                Some(remark) => remark.endpoints.push(endpoint),
                None => {
                    let endpoints = vec![endpoint];
                    remarks.push(Remark { about: RemarkSubject::Source, reason, endpoints });
                }
            }
        }
        // What holds of most endpoints comes first.
        let is_hairpin = |remark: &Remark| {
            matches!(remark.reason, Reason::Masquerade { reason: MasqueradeReason::Hairpin, .. })
        };
        remarks.sort_by_key(is_hairpin);
        if let [remark] = remarks.as_mut_slice() {
            remark.endpoints.clear();
        }
        remarks
    }

    fn masqueraded(&self, reason: MasqueradeReason) -> Reason {
        let pods = self.plan.and_then(|plan| plan.pod_traffic.clone());
        let client = match self.packet.origin {
            Origin::Host => Client::Node,
            _ if self.is_pod() => Client::Pod,
            _ => Client::Other,
        };
        Reason::Masquerade { reason, pods, client }
    }

    fn kept(&self, way: &PacketPath) -> SourceKept {
        let is_short = way.roles().any(|m| matches!(m, RuleRole::ShortCircuit { .. }));
        match self.frontend {
            Some(ReachedFrontend { kind: FrontendKind::ClusterIP, .. }) => match self.plan {
                Some(Plan { pod_traffic: None, .. }) => SourceKept::PodsUnknown,
                Some(_) if self.is_pod() => SourceKept::FromPod,
                _ => SourceKept::NoRule,
            },
            Some(_) if is_short => SourceKept::FromPod,
            Some(ReachedFrontend { policy: Some(TrafficPolicy::Local), .. }) => {
                SourceKept::PolicyLocal
            }
            _ => SourceKept::NoRule,
        }
    }

    /// True if the packet comes from a pod, according to the plan's detection.
    fn is_pod(&self) -> bool {
        let pods = self.plan.and_then(|plan| plan.pod_traffic.as_ref());
        match (pods, &self.packet.origin) {
            (Some(PodTraffic::From(network)), _) => network.contains(&self.packet.source),
            (Some(PodTraffic::Through(bridge)), Origin::Interface(name)) => name == bridge,
            (Some(PodTraffic::ThroughPrefix(start)), Origin::Interface(name)) => {
                name.starts_with(start.as_str())
            }
            _ => false,
        }
    }
}

fn reason(meaning: &RuleRole) -> Option<MasqueradeReason> {
    match meaning {
        RuleRole::Mark(reason) => Some(*reason),
        RuleRole::MasqueradeHairpin => Some(MasqueradeReason::Hairpin),
        _ => None,
    }
}
