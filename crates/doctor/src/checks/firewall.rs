//! Finds chains of other programs that drop or reject what Services forward (Docker, firewalld, ufw).
//! A packet that one chain accepts still passes the others, and a drop is final. The chains are evaluated
//! like those of `explain`, for a packet of which little is known: its destination was translated to
//! some pod.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::error::FactResult;
use ipnet::IpNet;
use rulegen_compiler::iptables::OURS;
use rulegen_compiler::nftables::{DEFAULT_TABLE, KUBE_PROXY_TABLE};
use rulegen_kernel::iptables::Variant;
use rulegen_net::IpFamily;
use rulegen_ruleset::firewall::{
    Action, Budget, CertainVerdict, Connection, FilterRule, FirewallBaseChain, FirewallChainKind,
    NetfilterHook, PartialPacket, evaluate, of_iptables, refuses_rest,
};
use rulegen_ruleset::iptables::{ChainName, Table};
use rulegen_ruleset::nftables::TableFamily;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{ActualIptables, NodeFacts, nf_tables};

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let actual = node.iptables()?;
    let mut firewalls = of_nftables(node, actual)?;
    firewalls.extend(actual.iter().flat_map(firewalls_of));
    let known = KnownAddresses { pods: pod_networks(node), services: service_addresses(node) };
    let budget = Budget::default();
    let findings = firewalls.iter().filter_map(|firewall| check(firewall, &known, &budget));
    Ok(CheckResult::Found(findings.collect()))
}

/// What is known of the destinations of packets to Services.
#[derive(Default)]
struct KnownAddresses {
    /// Networks of pods.
    pods: Vec<IpNet>,
    /// Addresses of Services.
    services: Vec<IpAddr>,
}

/// Cluster IPs, external IPs and load balancer IPs. A chain that accepts so many accepts all by a
/// network or set.
fn service_addresses(node: &NodeFacts) -> Vec<IpAddr> {
    const ENOUGH: usize = 256;
    let snapshot = node.cluster().map(|cluster| &cluster.snapshot);
    let ports = snapshot.into_iter().flat_map(|of| of.ipv4.iter().chain(&of.ipv6));
    let addresses = ports.flat_map(|port| {
        let others = port.external_ips.iter().chain(&port.load_balancer_ips);
        std::iter::once(&port.cluster_ip).chain(others).copied()
    });
    let distinct: BTreeSet<IpAddr> = addresses.collect();
    distinct.into_iter().take(ENOUGH).collect()
}

/// The networks of pods, as far as they are known.
fn pod_networks(node: &NodeFacts) -> Vec<IpNet> {
    let of_node = node.cluster().map(|cluster| &cluster.snapshot.node);
    let of_node = of_node.into_iter().flat_map(|node| [node.ipv4.pod_cidr, node.ipv6.pod_cidr]);
    node.config().cluster_cidrs.iter().copied().chain(of_node.flatten()).collect()
}

/// A base chain that packets of Services pass.
struct FirewallChain {
    /// `the nftables chain inet firewalld filter_FORWARD`, `the chain FORWARD of iptables-nft`
    name: String,
    /// Families of the packets that it sees.
    families: Vec<IpFamily>,
    base: FirewallBaseChain,
    /// The command that accepts packets with a translated destination.
    remedy: String,
}

impl FirewallChain {
    /// Whether what Services forward passes the chain. Chains at output see packets of this node.
    fn is_passed(base: &FirewallBaseChain) -> bool {
        let is_passed = matches!(
            base.hook,
            NetfilterHook::Ingress
                | NetfilterHook::Prerouting
                | NetfilterHook::Input
                | NetfilterHook::Forward
                | NetfilterHook::Postrouting
        );
        is_passed && base.kind == FirewallChainKind::Filter
    }
}

fn of_nftables(node: &NodeFacts, actual: &[ActualIptables]) -> FactResult<Vec<FirewallChain>> {
    let services = [node.table().as_str(), DEFAULT_TABLE, KUBE_PROXY_TABLE];
    // The tables of iptables-nft are evaluated by their rules as iptables lists them.
    let is_of_iptables = |family: TableFamily, table: &str| {
        let table = Table::ALL.into_iter().find(|of| of.name() == table);
        let mut actual = actual.iter().filter(|actual| family == actual.family.into());
        table.is_some_and(|table| actual.any(|actual| actual.is_of_iptables_nft(table)))
    };
    let is_wanted = |family: TableFamily, table: &str| {
        let is_left_out = node.excludes_family(family.word())
            || services.contains(&table)
            || is_of_iptables(family, table);
        !is_left_out
    };
    let Some(mut kernel) = nf_tables()? else { return Ok(Vec::new()) };
    let chains = kernel.firewall_chains(is_wanted)?.into_iter();
    let chains = chains.filter(|(_, base)| FirewallChain::is_passed(base));
    Ok(chains.map(|(family, base)| of_base_chain(family, base, node.families())).collect())
}

fn of_base_chain(
    family: TableFamily,
    base: FirewallBaseChain,
    families: &[IpFamily],
) -> FirewallChain {
    let place = format!("{} {}", base.table, base.chain);
    FirewallChain {
        name: format!("the nftables chain {place}"),
        families: match family.of_packets() {
            Some(family) => vec![family],
            None => families.to_vec(),
        },
        remedy: format!("nft insert rule {place} ct status dnat accept"),
        base,
    }
}

fn firewalls_of(actual: &ActualIptables) -> Vec<FirewallChain> {
    let is_evaluated = |table: Table| {
        table != Table::Nat
            && (actual.variant == Variant::Legacy || actual.is_of_iptables_nft(table))
    };
    let bases = of_iptables(&actual.ruleset, "", is_evaluated).into_iter();
    let bases = bases.filter(FirewallChain::is_passed);
    bases.map(|base| of_iptables_chain(actual, base)).collect()
}

fn of_iptables_chain(actual: &ActualIptables, mut base: FirewallBaseChain) -> FirewallChain {
    let (program, chain) = (actual.words(), base.chain.clone());
    let table = base.table.split(' ').nth(1).unwrap_or_default();
    let (name, flag) = match table {
        "filter" => (format!("the chain {chain} of {program}"), String::new()),
        _ => (format!("the chain {chain} of table {table} of {program}"), format!("-t {table} ")),
    };
    let remedy = format!("{program} {flag}-I {chain} -m conntrack --ctstate DNAT -j ACCEPT");
    if table == "filter" {
        leave_out_services(&mut base);
    }
    FirewallChain { name, families: vec![actual.family], base, remedy }
}

/// Replaces the rules of Services' own chains, and of kubelet's: they refuse what they are meant to
/// refuse. rulegen's chain accepts masqueraded packets.
fn leave_out_services(base: &mut FirewallBaseChain) {
    let Some(chains) = &mut base.chains else { return };
    let is_service_chain = |name: &str| name.starts_with("KUBE-");
    if !chains.keys().any(|name| is_service_chain(name)) {
        return;
    }
    for (name, rules) in Arc::make_mut(chains) {
        if is_service_chain(name) {
            let may_accept = || FilterRule { action: Action::MayAccept, ..FilterRule::default() };
            let is_ours = OURS.owns(Table::Filter, &ChainName::from(&**name));
            *rules = is_ours.then(may_accept).into_iter().collect();
        }
    }
}

/// Whether the destination of what Services forward is not translated yet.
fn is_before_dnat(base: &FirewallBaseChain) -> bool {
    match base.hook {
        NetfilterHook::Ingress => true,
        NetfilterHook::Prerouting => base.priority <= DSTNAT,
        _ => false,
    }
}

/// NF_IP_PRI_NAT_DST of linux/netfilter_ipv4.h.
const DSTNAT: i32 = -100;

/// What Services forward, at a hook: one packet for each address of a Service, or behind DNAT one
/// for each network of pods.
fn packets(
    base: &FirewallBaseChain,
    family: IpFamily,
    known: &KnownAddresses,
) -> Vec<PartialPacket> {
    const CONNTRACK: i32 = -200;
    let new = |translated| Connection::New { translated, masqueraded: None };
    let connection = match (base.hook, base.priority) {
        (NetfilterHook::Ingress, _) | (NetfilterHook::Prerouting, CONNTRACK) => Connection::Unknown,
        (NetfilterHook::Prerouting, priority) if priority < CONNTRACK => Connection::Before,
        (NetfilterHook::Prerouting, priority) if priority < DSTNAT => new(Some(false)),
        (NetfilterHook::Prerouting, DSTNAT) => new(None),
        _ => new(Some(true)),
    };
    let packet = PartialPacket { connection, ..PartialPacket::unknown(family) };
    if is_before_dnat(base) && base.hook == NetfilterHook::Prerouting {
        let of_family = known.services.iter().filter(|ip| IpFamily::of(**ip) == family);
        let to_services = of_family.map(|ip| packet.clone().to_network(IpNet::from(*ip)));
        let to_services: Vec<PartialPacket> = to_services.collect();
        return if to_services.is_empty() { vec![packet] } else { to_services };
    }
    let of_family = known.pods.iter().filter(|network| IpFamily::of_network(**network) == family);
    let to_pods = of_family.map(|network| packet.clone().to_network(*network));
    let to_pods: Vec<PartialPacket> = to_pods.collect();
    match base.hook {
        NetfilterHook::Forward | NetfilterHook::Postrouting if !to_pods.is_empty() => to_pods,
        NetfilterHook::Input => vec![PartialPacket { destination_is_local: Some(true), ..packet }],
        _ => vec![packet],
    }
}

/// How much of what Services forward a chain refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    Nothing,
    /// Rules that may match it.
    Some,
    /// Packets to some addresses of Services, of which this is one.
    Services(IpAddr),
    /// What no rule accepts, and rules may accept it.
    Rest,
    All,
}

fn refused(base: &FirewallBaseChain, packet: &PartialPacket, budget: &Budget) -> Refused {
    let evaluation = evaluate(base, &mut packet.clone(), budget);
    match evaluation.verdict() {
        CertainVerdict::Accepts => Refused::Nothing,
        CertainVerdict::Drops(_) | CertainVerdict::Rejects(_) => Refused::All,
        CertainVerdict::Unknown if refuses_rest(base, packet, budget) => Refused::Rest,
        CertainVerdict::Unknown => Refused::Some,
    }
}

fn check(firewall: &FirewallChain, known: &KnownAddresses, budget: &Budget) -> Option<Finding> {
    let FirewallChain { name, families, base, remedy } = firewall;
    let of_family = |family: &IpFamily| {
        let packets = packets(base, *family, known).into_iter();
        let results: Vec<Refused> = packets.map(|packet| refused(base, &packet, budget)).collect();
        let (least, most) = (*results.iter().min()?, *results.iter().max()?);
        if !is_before_dnat(base) {
            // Network plugins accept one network of pods: that of the cluster, or that of the node.
            return Some(least);
        }
        if least == most || most < Refused::Rest {
            return Some(most);
        }
        let services = known.services.iter().filter(|ip| IpFamily::of(**ip) == *family);
        let (_, ip) = results.iter().zip(services).find(|(refused, _)| **refused == most)?;
        Some(Refused::Services(*ip))
    };
    let results: Vec<(Refused, IpFamily)> =
        families.iter().filter_map(|family| Some((of_family(family)?, *family))).collect();
    let (worst, family) = *results.iter().max_by_key(|(refused, _)| *refused)?;
    let everything = match results.iter().all(|(refused, _)| *refused == worst) {
        true => "everything".to_owned(),
        false => format!("all {} packets", family.api_name()),
    };
    let what = match base.hook {
        NetfilterHook::Input => "forwards to processes of this node (pods of the host network)",
        _ => "forwards to pods",
    };
    let remedy = match is_before_dnat(base) {
        true => format!("let {name} accept packets to the addresses of Services"),
        false => remedy.clone(),
    };
    let remedy = format!("{remedy}, and persist it in the configuration of that firewall");
    let is_noted_only = base.hook == NetfilterHook::Input || !base.sees_all;
    match worst {
        Refused::Nothing => None,
        Refused::All if !is_noted_only => Some(Finding::error(
            FindingCode::ForwardDropped,
            format!("{name} drops {everything}: nothing that a Service {what} arrives"),
            remedy,
        )),
        Refused::Services(ip) if !is_noted_only => Some(Finding::warning(
            FindingCode::ForwardDropped,
            format!("{name} drops packets to some addresses of Services, such as {ip}"),
            remedy,
        )),
        Refused::Rest if !is_noted_only => Some(Finding::warning(
            FindingCode::ForwardDroppedByDefault,
            format!(
                "{name} drops what no rule accepts, and no rule accepts all that a Service {what}"
            ),
            remedy,
        )),
        _ => Some(Finding::note(
            FindingCode::MayBeDropped,
            format!(
                "{name} has rules that drop or reject packets: they may match what a Service {what}"
            ),
            format!("if traffic to a Service is dropped: {remedy}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use rulegen_ruleset::firewall::{FilterCondition, PacketField, conntrack};
    use rulegen_ruleset::iptables::parse;

    use super::*;
    use crate::finding::FindingSeverity;

    fn known() -> KnownAddresses {
        KnownAddresses { pods: vec!["10.244.0.0/16".parse().unwrap()], services: Vec::new() }
    }

    fn found(forward_policy: &str, rules: &[&str]) -> Option<FindingSeverity> {
        let chains = [":INPUT ACCEPT [0:0]", ":OTHER - [0:0]", ":KUBE-FORWARD - [0:0]"];
        let chains = [&chains[..], rules].concat().join("\n");
        let text = format!("*filter\n:FORWARD {forward_policy} [0:0]\n{chains}\nCOMMIT\n");
        let finding = of_text(&text)?;
        assert!(finding.what.starts_with("the chain FORWARD of iptables-nft "), "{finding:?}");
        assert!(finding.remedy.contains("iptables-nft -I FORWARD -m conntrack"), "{finding:?}");
        Some(finding.severity)
    }

    fn of_text(text: &str) -> Option<Finding> {
        let (ruleset, errors) = parse(IpFamily::Ipv4, text);
        assert_eq!(errors, []);
        let actual = ActualIptables { variant: Variant::Nft, family: IpFamily::Ipv4, ruleset };
        let firewalls = firewalls_of(&actual);
        let mut findings =
            firewalls.iter().filter_map(|one| check(one, &known(), &Budget::default()));
        let first = findings.next();
        assert_eq!(findings.next(), None);
        first
    }

    #[test]
    fn iptables_forward_policy_drop_is_an_error_unless_rules_accept() {
        let own = ["-A FORWARD -j KUBE-FORWARD", "-A KUBE-FORWARD -j ACCEPT"];
        assert_eq!(found("ACCEPT", &[]), None);
        assert_eq!(found("ACCEPT", &own), None);
        assert_eq!(found("DROP", &[]), Some(FindingSeverity::Error));
        assert_eq!(found("DROP", &own), Some(FindingSeverity::Warning));
        let docker = "-A FORWARD -o docker0 -j ACCEPT";
        assert_eq!(found("DROP", &[docker]), Some(FindingSeverity::Warning));
        let replies = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        assert_eq!(found("DROP", &[replies]), Some(FindingSeverity::Error), "not the first packet");
        let in_chain = ["-A FORWARD -j OTHER", "-A OTHER -j DROP"];
        assert_eq!(found("ACCEPT", &in_chain), Some(FindingSeverity::Error));
        let some = ["-A FORWARD -s 192.0.2.7/32 -j DROP"];
        assert_eq!(found("ACCEPT", &some), Some(FindingSeverity::Note));
        let elsewhere = ["-A FORWARD -d 192.0.2.0/24 -j DROP"];
        assert_eq!(found("ACCEPT", &elsewhere), None, "not to pods");
    }

    #[test]
    fn iptables_forward_policy_drop_is_fine_if_rules_accept_services_or_pods() {
        let dnat = "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT";
        assert_eq!(found("DROP", &[dnat]), None);
        assert_eq!(found("ACCEPT", &["-A FORWARD -j DROP", dnat]), Some(FindingSeverity::Error));
        let limited = "-A FORWARD -m limit --limit 5/sec -j RETURN";
        assert_eq!(found("DROP", &[limited, dnat]), Some(FindingSeverity::Note));
        let from = "-A OTHER -s 10.244.0.0/16 -j ACCEPT";
        let flannel = ["-A FORWARD -j OTHER", from, "-A OTHER -d 10.244.0.0/16 -j ACCEPT"];
        assert_eq!(found("DROP", &flannel), None);
        assert_eq!(
            found("DROP", &flannel[..2]),
            Some(FindingSeverity::Warning),
            "clients elsewhere"
        );
        let flannel = [&flannel[..], &["-A FORWARD -j DROP"]].concat();
        assert_eq!(found("ACCEPT", &flannel), None);
        let other = ["-A FORWARD -j OTHER", "-A OTHER -d 10.99.0.0/16 -j ACCEPT"];
        assert_eq!(found("DROP", &other), Some(FindingSeverity::Error));
        assert_eq!(found("DROP", &["-A FORWARD -j ACCEPT"]), None);
    }

    #[test]
    fn iptables_chains_before_dnat_are_evaluated_too() {
        let raw =
            |rules: &str| of_text(&format!("*raw\n:PREROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n"));
        assert_eq!(raw("-A PREROUTING -d 10.96.0.10/32 -j NOTRACK"), None);
        let finding = raw("-A PREROUTING -m rpfilter --invert -j DROP").unwrap();
        assert_eq!(finding.severity, FindingSeverity::Note);
        assert!(finding.what.starts_with("the chain PREROUTING of table raw of iptables-nft has"));
        let finding = raw("-A PREROUTING -j DROP").unwrap();
        assert_eq!(finding.severity, FindingSeverity::Error);
        assert!(finding.remedy.contains("accept packets to the addresses of Services"));
    }

    #[test]
    fn chain_before_dnat_that_drops_packets_to_one_service_is_a_warning() {
        let rules =
            "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.10/32 -j DROP\nCOMMIT\n";
        let (ruleset, _) = parse(IpFamily::Ipv4, rules);
        let actual = ActualIptables { variant: Variant::Nft, family: IpFamily::Ipv4, ruleset };
        let [firewall] = &firewalls_of(&actual)[..] else { panic!("one chain") };
        let found = |services: &[[u8; 4]]| {
            let services = services.iter().map(|ip| IpAddr::from(*ip)).collect();
            let finding =
                check(firewall, &KnownAddresses { services, ..known() }, &Budget::default());
            finding.map(|finding| (finding.severity, finding.what))
        };
        let (one, other) = ([10, 96, 0, 10], [10, 96, 0, 11]);
        let (severity, what) = found(&[other, one]).unwrap();
        assert_eq!(severity, FindingSeverity::Warning);
        assert!(what.ends_with("drops packets to some addresses of Services, such as 10.96.0.10"));
        assert_eq!(found(&[one]).unwrap().0, FindingSeverity::Error);
        assert_eq!(found(&[other]), None);
    }

    fn rule(conditions: Vec<FilterCondition>, action: Action) -> FilterRule {
        FilterRule { conditions, action, ..FilterRule::default() }
    }

    fn found_in(
        hook: NetfilterHook,
        drops_rest: bool,
        rules: Vec<FilterRule>,
    ) -> Option<FindingSeverity> {
        let base = FirewallBaseChain {
            table: "inet fw".to_owned(),
            chain: "guard".into(),
            hook,
            kind: FirewallChainKind::Filter,
            priority: 0,
            drops_rest,
            sees_all: hook != NetfilterHook::Ingress,
            chains: Some(Arc::new([("guard".into(), rules)].into())),
        };
        let firewall = of_base_chain(TableFamily::Inet, base, &[IpFamily::Ipv4, IpFamily::Ipv6]);
        let finding = check(&firewall, &known(), &Budget::default())?;
        assert!(finding.what.starts_with("the nftables chain inet fw guard "), "{finding:?}");
        Some(finding.severity)
    }

    #[test]
    fn nftables_chains_that_drop_what_services_forward_are_found() {
        let translated =
            || FilterCondition::has_bits(PacketField::ConnectionStatus, conntrack::DNAT, false);
        let replies = || {
            let states = conntrack::ESTABLISHED | conntrack::RELATED;
            rule(
                vec![FilterCondition::has_bits(PacketField::ConnectionState, states, false)],
                Action::Accept,
            )
        };
        let telnet = || {
            let port =
                FilterCondition::is(PacketField::DESTINATION_PORT, &23_u16.to_be_bytes(), false);
            rule(vec![port], Action::Reject)
        };
        let limited = || rule(vec![FilterCondition::Unknown("limit".into())], Action::Accept);
        let (accept, drop) = (Action::Accept, Action::Drop);
        let some = Some;
        for (hook, drops_rest, rules, desired) in [
            (NetfilterHook::Forward, false, vec![], None),
            (NetfilterHook::Forward, true, vec![], some(FindingSeverity::Error)),
            (NetfilterHook::Forward, true, vec![replies()], some(FindingSeverity::Error)),
            (NetfilterHook::Forward, true, vec![rule(vec![translated()], accept.clone())], None),
            (NetfilterHook::Forward, true, vec![limited()], some(FindingSeverity::Warning)),
            (NetfilterHook::Forward, false, vec![telnet()], some(FindingSeverity::Note)),
            (
                NetfilterHook::Forward,
                false,
                vec![rule(vec![translated()], accept.clone()), telnet()],
                None,
            ),
            (
                NetfilterHook::Forward,
                false,
                vec![rule(vec![], drop.clone())],
                some(FindingSeverity::Error),
            ),
            (NetfilterHook::Input, true, vec![telnet()], some(FindingSeverity::Note)),
            (NetfilterHook::Input, false, vec![telnet()], some(FindingSeverity::Note)),
            (NetfilterHook::Input, true, vec![rule(vec![translated()], accept.clone())], None),
            (NetfilterHook::Prerouting, false, vec![telnet()], some(FindingSeverity::Note)),
            (NetfilterHook::Postrouting, true, vec![], some(FindingSeverity::Error)),
            (NetfilterHook::Ingress, true, vec![], some(FindingSeverity::Note)),
        ] {
            let text: Vec<String> = rules.iter().map(ToString::to_string).collect();
            assert_eq!(
                found_in(hook, drops_rest, rules),
                desired,
                "{hook:?} {drops_rest} {text:?}"
            );
        }
    }
}
