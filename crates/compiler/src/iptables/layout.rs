//! The chains that exist without any Service, and those shared with other programs.

use ipnet::IpNet;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{
    AddressType, ChainName, ConntrackState, Match, Negatable, Ownership, Rule, RuleSpec, Table,
    Target,
};

use super::chains::RenderedChains;
use super::rules::{commented, jump, marked, matching, or_mark, then, xor_mark};
use crate::plan::{NodePortsAt, Plan};

/// The chain that finds the Service of a packet.
pub const SERVICES: &str = "KUBE-SERVICES";
/// The chain that rejects or drops packets to external addresses without endpoints.
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
/// The chain that finds the Service of a node port.
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
/// The chain that drops packets from outside `loadBalancerSourceRanges`.
pub const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// The chain that marks packets for masquerading.
pub const MARK_MASQUERADE: &str = "KUBE-MARK-MASQ";
const FORWARD: &str = "KUBE-FORWARD";
/// The chain that masquerades marked packets.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
pub(super) const CANARY: &str = "KUBE-PROXY-CANARY";

/// The chain with the loopback guard. kubelet makes the same chain with the same rule, so it is
/// shared: our rule is added if it is missing, and other rules are left alone.
pub const SHARED_FIREWALL: &str = "KUBE-FIREWALL";

/// Chains that show that kubelet runs here. They are never ours.
pub const KUBELET_CHAINS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// The chains that rulegen owns: it rewrites and deletes them.
pub const OURS: Ownership<'static> = Ownership {
    chains: &[
        (Table::Filter, SERVICES),
        (Table::Filter, EXTERNAL_SERVICES),
        (Table::Filter, FORWARD),
        (Table::Filter, NODE_PORTS),
        (Table::Filter, PROXY_FIREWALL),
        (Table::Nat, SERVICES),
        (Table::Nat, NODE_PORTS),
        (Table::Nat, POSTROUTING),
        (Table::Nat, MARK_MASQUERADE),
    ],
    prefixes: SERVICE_PREFIXES,
};

const SERVICE_PREFIXES: &[(Table, &str)] = &[
    (Table::Nat, "KUBE-SVC-"),
    (Table::Nat, "KUBE-SVL-"),
    (Table::Nat, "KUBE-EXT-"),
    (Table::Nat, "KUBE-FW-"),
    (Table::Nat, "KUBE-SEP-"),
];

/// Whether a chain of this name can have rules of ours. Changes to all other chains by other
/// programs do not matter.
pub fn concerns(chain: &str) -> bool {
    let chain = ChainName::from(chain);
    let is_ours = |table: &Table| OURS.owns(*table, &chain);
    chain.is_built_in()
        || chain.as_str() == SHARED_FIREWALL
        || [Table::Filter, Table::Nat].iter().any(is_ours)
}

/// Whether a chain of this name is made by service proxies only and is passed by Service traffic.
/// kubelet makes some of our other chains too.
pub fn leads_to_services(chain: &str) -> bool {
    let name = ChainName::from(chain);
    let is_ours = |table: &Table| OURS.owns(*table, &name);
    ![POSTROUTING, MARK_MASQUERADE].contains(&chain)
        && [Table::Filter, Table::Nat].iter().any(is_ours)
}

/// The jumps from built-in chains, and the rules before those of Services.
pub(super) fn begin(plan: &Plan, chains: &mut RenderedChains) {
    for chain in [SERVICES, EXTERNAL_SERVICES, FORWARD, NODE_PORTS, PROXY_FIREWALL, SHARED_FIREWALL]
    {
        chains.filter(chain);
    }
    for chain in [SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQUERADE] {
        chains.nat(chain);
    }
    jumps(chains);
    masquerade(plan.masquerade_mark, chains);
    forward(plan, chains);
    if plan.guards_loopback {
        chains.filter(SHARED_FIREWALL).push(loopback_guard());
    }
}

/// The jump to the node ports, after the rules of all Services: an address of the node may also be
/// an external IP of a Service, which has precedence.
pub(super) fn finish(plan: &Plan, chains: &mut RenderedChains) {
    let last = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
    let services = chains.nat(SERVICES);
    match &plan.node_ports_at {
        NodePortsAt::AnyLocal { loopback } => {
            let mut rule = matching(commented(last), Match::DestinationType(AddressType::Local));
            if !loopback {
                rule.destination = Some(Negatable::is_not(plan.family.loopback_network()));
            }
            services.push(jump(rule, NODE_PORTS));
        }
        NodePortsAt::These(addresses) => services.extend(addresses.iter().map(|address| {
            let destination = Some(Negatable::is(IpNet::from(*address)));
            jump(RuleSpec { destination, ..commented(last) }, NODE_PORTS)
        })),
    }
}

const FIREWALL_JUMP: &str = "kubernetes load balancer firewall";
const HEALTH_JUMP: &str = "kubernetes health check service ports";
const EXTERNAL_JUMP: &str = "kubernetes externally-visible service portals";
const FORWARD_JUMP: &str = "kubernetes forwarding rules";
const SERVICES_JUMP: &str = "kubernetes service portals";
const POSTROUTING_JUMP: &str = "kubernetes postrouting rules";

/// The comments that identify jumps from built-in chains.
pub(super) const JUMP_COMMENTS: [&str; 6] =
    [FIREWALL_JUMP, HEALTH_JUMP, EXTERNAL_JUMP, FORWARD_JUMP, SERVICES_JUMP, POSTROUTING_JUMP];

/// Jumps in their order in the kernel. Those without a state match every packet, including those of
/// established connections.
fn jumps(chains: &mut RenderedChains) {
    chains.filter("INPUT").extend([
        jump(RuleSpec::default(), SHARED_FIREWALL),
        jump(new_connections(FIREWALL_JUMP), PROXY_FIREWALL),
        jump(commented(HEALTH_JUMP), NODE_PORTS),
        jump(new_connections(EXTERNAL_JUMP), EXTERNAL_SERVICES),
    ]);
    chains.filter("FORWARD").extend([
        jump(new_connections(FIREWALL_JUMP), PROXY_FIREWALL),
        jump(commented(FORWARD_JUMP), FORWARD),
        jump(new_connections(SERVICES_JUMP), SERVICES),
        jump(new_connections(EXTERNAL_JUMP), EXTERNAL_SERVICES),
    ]);
    chains.filter("OUTPUT").extend([
        jump(RuleSpec::default(), SHARED_FIREWALL),
        jump(new_connections(FIREWALL_JUMP), PROXY_FIREWALL),
        jump(new_connections(SERVICES_JUMP), SERVICES),
    ]);
    chains.nat("PREROUTING").push(jump(commented(SERVICES_JUMP), SERVICES));
    chains.nat("OUTPUT").push(jump(commented(SERVICES_JUMP), SERVICES));
    chains.nat("POSTROUTING").push(jump(commented(POSTROUTING_JUMP), POSTROUTING));
}

fn new_connections(comment: &str) -> RuleSpec {
    let mut rule = in_states(&[ConntrackState::New], false);
    rule.matches.push(Match::Comment(comment.into()));
    rule
}

fn in_states(states: &[ConntrackState], negated: bool) -> RuleSpec {
    let states = Negatable { negated, value: states.to_vec() };
    RuleSpec { matches: vec![Match::Conntrack(states)], ..RuleSpec::default() }
}

/// Masquerades marked packets. The mark is removed, so that a packet that passes twice is
/// masqueraded once.
fn masquerade(mark: u32, chains: &mut RenderedChains) {
    let unmarked = Match::Mark(Negatable::is_not(marked(mark)));
    chains.nat(POSTROUTING).extend([
        then(matching(RuleSpec::default(), unmarked), Target::Return),
        then(RuleSpec::default(), xor_mark(mark)),
        then(
            commented("kubernetes service traffic requiring SNAT"),
            Target::Masquerade { random_fully: true },
        ),
    ]);
    chains.nat(MARK_MASQUERADE).push(then(RuleSpec::default(), or_mark(mark)));
}

/// Accepts translated packets in a FORWARD chain that drops by default.
fn forward(plan: &Plan, chains: &mut RenderedChains) {
    let forward = chains.filter(FORWARD);
    if plan.drops_invalid {
        forward.push(then(in_states(&[ConntrackState::Invalid], false), Target::Drop));
    }
    let mark = Match::Mark(Negatable::is(marked(plan.masquerade_mark)));
    forward.push(then(matching(commented("kubernetes forwarding rules"), mark), Target::Accept));
    let known = Negatable::is(vec![ConntrackState::Related, ConntrackState::Established]);
    let rule = matching(commented("kubernetes forwarding conntrack rule"), Match::Conntrack(known));
    forward.push(then(rule, Target::Accept));
}

/// With route_localnet set, a neighbour could send to loopback addresses. Only packets that a node
/// port translated may.
pub fn loopback_guard() -> Rule {
    use ConntrackState::{Dnat, Established, Related};
    let loopback = IpFamily::Ipv4.loopback_network();
    let known = Negatable::is_not(vec![Related, Established, Dnat]);
    let rule = RuleSpec {
        source: Some(Negatable::is_not(loopback)),
        destination: Some(Negatable::is(loopback)),
        ..matching(commented("block incoming localnet connections"), Match::Conntrack(known))
    };
    then(rule, Target::Drop)
}
