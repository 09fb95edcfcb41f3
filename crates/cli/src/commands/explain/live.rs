//! Follows packets through the rules in the kernel, also for `rulegen test --live`.

use std::cell::OnceCell;
use std::net::IpAddr;

use rulegen_compiler::Plan;
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::{End, Explanation, Outcome, Reason, Remark, RemarkSubject};
use rulegen_model::Node;
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_packet_tests::{LivePacket, LiveRules};
use rulegen_ruleset::iptables::{Origin, Packet};
use rulegen_ruleset::nftables::Name;

use super::rules::ExplainedRules;
use crate::args::KernelArgs;
use crate::input;

/// The rules in the kernel of this network namespace, read once per family.
pub(crate) struct KernelRules<'a> {
    args: &'a KernelArgs,
    table: &'a Name,
    mode: ProxyMode,
    local: Vec<IpAddr>,
    families: [OnceCell<Result<ExplainedRules, String>>; 2],
}

impl<'a> KernelRules<'a> {
    /// Nothing is read yet except the addresses of the host.
    pub(crate) fn new(args: &'a KernelArgs, table: &'a Name, mode: ProxyMode) -> Self {
        let local = input::host().addresses;
        Self { args, table, mode, local, families: Default::default() }
    }

    fn of_family(&self, family: IpFamily) -> Result<&ExplainedRules, String> {
        let [ipv4, ipv6] = &self.families;
        let cell = match family {
            IpFamily::Ipv4 => ipv4,
            IpFamily::Ipv6 => ipv6,
        };
        let read = cell.get_or_init(|| {
            ExplainedRules::held(self.args, self.table, self.mode, family)
                .map_err(|error| format!("{error:#}"))
        });
        read.as_ref().map_err(Clone::clone)
    }
}

impl LiveRules for KernelRules<'_> {
    fn mode(&self) -> ProxyMode {
        self.mode
    }

    fn check_node(&self, node: &Node) -> Result<(), String> {
        let host = input::host();
        let of_object = IpFamily::BOTH.map(|family| node.addresses(family).primary);
        let known: Vec<IpAddr> = of_object.into_iter().filter(|ip| !ip.is_loopback()).collect();
        let is_this = match known.is_empty() {
            true => node.name.eq_ignore_ascii_case(&host.name),
            false => known.iter().any(|ip| host.addresses.contains(ip)),
        };
        let what = match known.as_slice() {
            [] => format!("its name is not {:?}, the name of this host", host.name),
            known => {
                let known: Vec<String> = known.iter().map(IpAddr::to_string).collect();
                format!(
                    "this host ({:?}) does not have its address {}",
                    host.name,
                    known.join(" or ")
                )
            }
        };
        let message = || {
            format!(
                "the rules in this kernel are not those of node {:?}: {what}. Run --live on that \
                 node, or name this node",
                node.name
            )
        };
        if is_this { Ok(()) } else { Err(message()) }
    }

    fn explain(
        &self,
        packet: &LivePacket,
        plan: &Plan,
        complete: &dyn Fn(&mut Explanation),
    ) -> Result<Explanation, String> {
        let LivePacket { from, interface, to, protocol } = packet.clone();
        let rules = self.of_family(IpFamily::of(from))?;
        let origin = match interface {
            _ if from.is_loopback() || self.local.contains(&from) => Origin::Host,
            Some(interface) => {
                let input = rules.input(&interface).map_err(|error| format!("{error:#}"))?;
                Origin::Interface(input.interface)
            }
            None => rules.origin(from, to.ip()),
        };
        let packet = Packet { origin, source: from, destination: to, protocol };
        let mut explanation = rules.explain(&self.local, &packet, Some(plan));
        complete(&mut explanation);
        explanation.remarks.extend(closed_loopback(self.mode, &packet, &explanation));
        rules.on_host(&mut explanation, &self.local);
        Ok(explanation)
    }
}

/// The kernel drops translated packets of this host to loopback addresses, independent of the rules.
/// Those of others are translated before they are routed. Only iptables mode opens node ports there.
pub(super) fn closed_loopback(
    mode: ProxyMode,
    packet: &Packet,
    explanation: &Explanation,
) -> Option<Remark> {
    let is_own = packet.origin == Origin::Host;
    if mode != ProxyMode::Iptables || !is_own || !packet.destination.ip().is_loopback() {
        return None;
    }
    let is_translated = |end: &End| matches!(end.outcome, Outcome::Endpoint { .. });
    let is_closed = explanation.ends.iter().any(is_translated) && !host::routes_localnet();
    is_closed.then(|| Remark::new(RemarkSubject::Refusal, Reason::RouteLocalnet))
}
