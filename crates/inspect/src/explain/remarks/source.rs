//! Explains which source address the endpoint sees.

use rulegen_compiler::{Plan, PodTraffic};
use rulegen_model::TrafficPolicy;
use rulegen_net::FrontendKind;
use rulegen_ruleset::Origin;

use super::Remarks;
use crate::explain::path::PacketPath;
use crate::explain::remark::{Remark, RemarkSubject};
use crate::explain::{Outcome, ReachedFrontend};
use crate::rule_role::RuleRole;
use crate::words::{self, Code, MasqueradeReason};

impl Remarks<'_> {
    /// For all endpoints, then for one that reaches itself (hairpin).
    pub(super) fn source(&self) -> Vec<Remark> {
        let mut remarks: Vec<(Remark, Vec<String>)> = Vec::new();
        for way in self.ways {
            let reasons: Vec<MasqueradeReason> = way.roles().filter_map(reason).collect();
            let Outcome::Endpoint { endpoint, masqueraded } = way.verdict else { continue };
            let remark = match (masqueraded, reasons.last()) {
                (true, Some(reason)) => self.masqueraded(*reason),
                (true, None) => Remark::new(
                    RemarkSubject::Source,
                    Code::MasqueradedByOthers,
                    "the endpoint sees the node's address as its client: a rule that is not a Service rule masquerades it",
                ),
                (false, Some(_)) => self.unmasked(),
                (false, None) => self.unchanged(way),
            };
            match remarks.iter_mut().find(|(other, _)| *other == remark) {
                Some((_, endpoints)) => endpoints.push(endpoint.to_string()),
                None => remarks.push((remark, vec![endpoint.to_string()])),
            }
        }
        // What holds of most endpoints comes first.
        let hairpin = Code::Masquerade(MasqueradeReason::Hairpin);
        remarks.sort_by_key(|(remark, _)| remark.code == hairpin);
        let has_several = remarks.len() > 1;
        let named = |(remark, endpoints): (Remark, Vec<String>)| match has_several {
            true => Remark { text: words::of_endpoints(&endpoints, &remark.text), ..remark },
            false => remark,
        };
        remarks.into_iter().map(named).collect()
    }

    fn masqueraded(&self, reason: MasqueradeReason) -> Remark {
        let seen = "the endpoint sees the node's address as its client";
        let text = reason.text();
        let text = match reason {
            MasqueradeReason::NotFromPods => format!("{seen}: {text} ({})", self.detection()),
            _ => format!("{seen}: {text}"),
        };
        let remark = Remark::new(RemarkSubject::Source, Code::Masquerade(reason), text);
        match reason {
            MasqueradeReason::External if self.packet.origin == Origin::Host => remark,
            MasqueradeReason::External if self.is_pod() => {
                remark.change("use the cluster IP: it keeps the address of a pod")
            }
            MasqueradeReason::External => remark.change(
                "spec.externalTrafficPolicy: Local keeps the client's address; nodes without an endpoint then drop the traffic",
            ),
            MasqueradeReason::All => remark.change("masqueradeAll: false"),
            MasqueradeReason::NotFromPods => remark.change(
                "if the client is a pod, correct --cluster-cidr or --detect-local-mode",
            ),
            MasqueradeReason::FromNode | MasqueradeReason::Hairpin => remark,
        }
    }

    /// A rule marked the packet, but no rule masqueraded it.
    fn unmasked(&self) -> Remark {
        Remark::new(
            RemarkSubject::Source,
            Code::NotMasqueraded,
            format!(
                "the endpoint sees {} as its client: it is marked for masquerading, but no rule masquerades it, and the reply may get lost",
                self.packet.source
            ),
        )
        .change("`rulegen diff` shows which rules are missing")
    }

    fn unchanged(&self, way: &PacketPath) -> Remark {
        let seen = format!("the endpoint sees {} as its client", self.packet.source);
        let remark = |why: &str| {
            Remark::new(RemarkSubject::Source, Code::SourceKept, format!("{seen}: {why}"))
        };
        let is_short = way.roles().any(|m| matches!(m, RuleRole::ShortCircuit { .. }));
        let from_pod = || remark("the client is a pod, so the reply comes back through this node");
        match self.frontend {
            Some(ReachedFrontend { kind: FrontendKind::ClusterIP, .. }) => match self.plan {
                Some(Plan { pod_traffic: None, .. }) => remark(
                    "local pod traffic cannot be detected (see --detect-local-mode), so traffic to cluster IPs is not masqueraded",
                )
                .change("set --cluster-cidr if clients other than pods get no reply"),
                Some(_) if self.is_pod() => from_pod(),
                _ => remark("no rule on this node masquerades it"),
            },
            Some(_) if is_short => from_pod(),
            Some(ReachedFrontend { policy: Some(TrafficPolicy::Local), .. }) => {
                remark("externalTrafficPolicy is Local")
            }
            _ => remark("no rule on this node masquerades it"),
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

    fn detection(&self) -> String {
        match self.plan.and_then(|plan| plan.pod_traffic.as_ref()) {
            Some(PodTraffic::From(network)) => format!("pods are in {network}"),
            Some(PodTraffic::Through(bridge)) => format!("pods use the interface {bridge}"),
            Some(PodTraffic::ThroughPrefix(start)) => format!("pods use interfaces {start}*"),
            None => "as the rule detects pods".to_owned(),
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
