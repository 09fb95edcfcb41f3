//! Explains why a packet is rejected or dropped.

use rulegen_compiler::Refusal;
use rulegen_net::{FrontendKind, ServicePortName};

use super::Remarks;
use crate::explain::path::PacketPath;
use crate::explain::remark::{Remark, RemarkSubject};
use crate::rule_role::RuleRole;
use crate::words::{CLIENT_IS_REJECTED, Code};

impl Remarks<'_> {
    /// Why this path ends as it does.
    pub(super) fn refusal(&self, way: &PacketPath) -> Remark {
        let told = way.roles().filter_map(|meaning| self.refused(way, meaning)).last();
        told.unwrap_or_else(|| refused_by_others(way))
    }

    fn refused(&self, way: &PacketPath, meaning: &RuleRole) -> Option<Remark> {
        let remark = |code, text: String| Remark::new(RemarkSubject::Refusal, code, text);
        Some(match meaning {
            RuleRole::Refused(known, Refusal::NoEndpoints) => Remark::new(
                RemarkSubject::NoEndpoints,
                Code::NoEndpoints,
                format!(
                    "{} has no ready endpoint on any node: {CLIENT_IS_REJECTED}",
                    known.service
                ),
            )
            .change(look_at_slices(&known.service)),
            RuleRole::Refused(known, Refusal::NoLocalEndpoints) => self.none_here(&known.service),
            // In iptables mode what a source range let through ends here too, if no endpoint took it.
            RuleRole::Firewalled(known) if way.roles().any(|m| *m == RuleRole::SourceRange) => {
                self.none_here(&known.service)
            }
            RuleRole::Firewalled(known) => remark(Code::SourceRange, format!(
                "{} allows only its source ranges at load-balancer IPs, and {} is not in any of them",
                known.service, self.packet.source
            ))
            .change("add the sender's network to spec.loadBalancerSourceRanges"),
            RuleRole::ClosedPort(_) if self.is_planned_here() => self.not_taken(),
            RuleRole::ClosedPort(known) => remark(Code::NoSuchPort, format!(
                "the cluster IP belongs to {}, which has no port {}/{}",
                known.service,
                self.packet.destination.port(),
                self.packet.protocol.name(),
            ))
            .change(self.ports_there().unwrap_or_else(|| {
                "use a port of spec.ports; targetPort is the port of the pods and does not work here".to_owned()
            })),
            RuleRole::NoSuchClusterIp => remark(Code::NoSuchClusterIp, format!(
                "{} is in the range of cluster IPs, but no Service has it",
                self.packet.destination.ip()
            ))
            .change("the Service may have been deleted or recreated: resolve its name again"),
            RuleRole::LoopbackGuard => remark(Code::LoopbackGuard,
                "packets from other hosts to loopback addresses are dropped while node ports are open at loopback (CVE-2020-8558)"
                    .to_owned(),
            ),
            _ => return None,
        })
    }

    fn none_here(&self, service: &ServicePortName) -> Remark {
        let field = self.policy_field();
        let hope = match self.frontend.map(|frontend| frontend.kind) {
            // The node that a pod is on always decides.
            Some(FrontendKind::ClusterIP) => "",
            _ => ", so that the client retries and may reach another node",
        };
        Remark::new(
            RemarkSubject::NoEndpoints,
            Code::NoLocalEndpoints,
            format!(
                "{service} has endpoints, but none usable on this node, and its {field} is Local: the packet is dropped{hope}"
            ),
        )
        .change(format!("spec.{field}: Cluster, or a pod of the Service on this node"))
    }
}

/// No rule of ours caused it.
fn refused_by_others(way: &PacketPath) -> Remark {
    let last = way.steps.last().map(|(rule, _)| {
        let table = rule.table.map(|table| format!("{table} ")).unwrap_or_default();
        format!("{table}{}: {}", rule.chain, rule.rule)
    });
    let last = last.unwrap_or_else(|| "unknown".to_owned());
    let text = format!("not caused by a Service rule; the last rule on the path is {last}");
    Remark::new(RemarkSubject::Refusal, Code::RefusedByOthers, text)
        .change("ask the owner of that rule or policy")
}

fn look_at_slices(ServicePortName { namespace, service, .. }: &ServicePortName) -> String {
    format!(
        "kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={service}; `rulegen doctor` shows the reason"
    )
}
