//! Explains why a packet is rejected or dropped.

use rulegen_compiler::Refusal;
use rulegen_net::{FrontendKind, ServicePortName};

use super::Remarks;
use crate::explain::path::PacketPath;
use crate::explain::reason::{Reason, RemarkSubject};
use crate::explain::remark::Remark;
use crate::rule_role::{RuleRole, RuleServicePort};

impl Remarks<'_> {
    /// Why this path ends as it does.
    pub(super) fn refusal(&self, way: &PacketPath) -> Remark {
        let told = way.roles().filter_map(|meaning| self.refused(way, meaning)).last();
        told.unwrap_or_else(|| refused_by_others(way))
    }

    fn refused(&self, way: &PacketPath, meaning: &RuleRole) -> Option<Remark> {
        let service = |known: &RuleServicePort| known.service.clone();
        let to = self.packet.destination;
        let reason = match meaning {
            RuleRole::Refused(known, Refusal::NoEndpoints) => {
                let reason = Reason::NoEndpoints { service: service(known), why: None };
                return Some(Remark::new(RemarkSubject::NoEndpoints, reason));
            }
            RuleRole::Refused(known, Refusal::NoLocalEndpoints) => {
                return Some(self.none_here(service(known)));
            }
            // In iptables mode what a source range let through ends here too, if no endpoint took it.
            RuleRole::Firewalled(known) if way.roles().any(|m| *m == RuleRole::SourceRange) => {
                return Some(self.none_here(service(known)));
            }
            RuleRole::Firewalled(known) => {
                Reason::SourceRange { service: service(known), source: self.packet.source }
            }
            RuleRole::ClosedPort(_) if self.is_planned_here() => return Some(self.not_taken()),
            RuleRole::ClosedPort(known) => Reason::ClosedPort {
                service: service(known),
                to: (to.port(), self.packet.protocol),
                ports: self.ports_there(),
            },
            RuleRole::NoSuchClusterIp => Reason::NoSuchClusterIp(to.ip()),
            RuleRole::LoopbackGuard => Reason::LoopbackGuard,
            _ => return None,
        };
        Some(Remark::new(RemarkSubject::Refusal, reason))
    }

    fn none_here(&self, service: ServicePortName) -> Remark {
        let kind = self.frontend.map(|frontend| frontend.kind);
        let (field, is_cluster_ip) = (self.policy_field(), kind == Some(FrontendKind::ClusterIP));
        let reason =
            Reason::NoLocalEndpoints { service, field, is_cluster_ip, why: None, like: None };
        Remark::new(RemarkSubject::NoEndpoints, reason)
    }
}

/// No rule of ours caused it.
fn refused_by_others(way: &PacketPath) -> Remark {
    let last = way.steps.last().map(|rule| {
        let table = rule.table.map(|table| format!("{table} ")).unwrap_or_default();
        format!("{table}{}: {}", rule.chain, rule.rule)
    });
    Remark::new(RemarkSubject::Refusal, Reason::RefusedByOthers { last })
}
