//! Finds chains of other programs that drop or reject what Services forward (Docker, firewalld, ufw).
//! A packet that one chain accepts still passes the others, and a drop is final.

use std::collections::BTreeSet;

use crate::error::Result;
use ipnet::IpNet;
use rulegen_compiler::iptables::OURS;
use rulegen_compiler::nftables::{DEFAULT_TABLE, KUBE_PROXY_TABLE};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::nftables::{FilterBaseChain, FilterHook};
use rulegen_ruleset::iptables::{
    ChainName, ConntrackState, Match, Policy, Rule, RuleSpec, Ruleset, Table, Target,
};

use crate::code::FindingCode;
use crate::finding::{Finding, Outcome};
use crate::node_facts::{ActualIptables, NodeFacts, nf_tables};

pub(crate) fn run(node: &NodeFacts) -> Result<Outcome> {
    let held = node.iptables()?;
    let services = [node.table().as_str(), DEFAULT_TABLE, KUBE_PROXY_TABLE];
    // The table of iptables-nft is judged by its rules as iptables lists them.
    let has_iptables = |family: &str| {
        held.iter().any(|held| held.variant == Variant::Nft && held.family.nft_name() == family)
    };
    let is_left_out = |family: &str, table: &str| {
        node.excludes_family(family)
            || services.contains(&table)
            || table == "filter" && has_iptables(family)
    };
    let of_nftables = match nf_tables()? {
        Some(mut kernel) => kernel.filter_base_chains(is_left_out)?,
        None => Vec::new(),
    };
    let pods = pod_networks(node);
    let of_iptables = held.iter().flat_map(|held| {
        ["INPUT", "FORWARD"].into_iter().filter_map(|chain| firewall(held, chain, &pods))
    });
    let firewalls: Vec<Firewall> =
        of_nftables.into_iter().map(Firewall::from).chain(of_iptables).collect();
    Ok(Outcome::Found(firewalls.iter().filter_map(check).collect()))
}

/// The networks of pods, as far as they are known.
fn pod_networks(node: &NodeFacts) -> Vec<IpNet> {
    let of_node = node.cluster().map(|cluster| &cluster.snapshot.node);
    let of_node = of_node.into_iter().flat_map(|node| [node.ipv4.pod_cidr, node.ipv6.pod_cidr]);
    node.config().cluster_cidrs.iter().copied().chain(of_node.flatten()).collect()
}

/// A base chain that packets of Services pass.
struct Firewall {
    /// `nftables chain inet firewalld filter_FORWARD`, `iptables-nft chain FORWARD`
    name: String,
    hook: FilterHook,
    /// Whether it drops each packet that no rule accepts.
    drops_rest: bool,
    /// Whether a rule before the current one drops all packets.
    drops_all: bool,
    may_drop: bool,
    may_accept: bool,
    /// Whether it accepts all packets to endpoints.
    accepts_services: bool,
    /// Whether it leads to rulegen's own chain, which accepts masqueraded traffic.
    has_own_chain: bool,
    /// The command that accepts packets with a translated destination.
    remedy: String,
}

impl From<FilterBaseChain> for Firewall {
    fn from(base: FilterBaseChain) -> Self {
        let FilterBaseChain { table_family, table, chain, hook, .. } = base;
        let place = format!("{table_family} {table} {chain}");
        Self {
            remedy: format!("nft insert rule {place} ct status dnat accept"),
            name: format!("the nftables chain {place}"),
            hook,
            drops_rest: base.drops_rest,
            drops_all: false,
            may_drop: base.may_drop,
            may_accept: base.may_accept,
            accepts_services: base.accepts_translated,
            has_own_chain: false,
        }
    }
}

/// The chain INPUT or FORWARD.
fn firewall(held: &ActualIptables, name: &str, pods: &[IpNet]) -> Option<Firewall> {
    let program = held.words();
    let chain = ChainName::from(name);
    let mut firewall = Firewall {
        name: format!("the chain {name} of {program}"),
        hook: if name == "INPUT" { FilterHook::Input } else { FilterHook::Forward },
        drops_rest: held.ruleset.chain(Table::Filter, &chain)?.policy == Some(Policy::Drop),
        drops_all: false,
        may_drop: false,
        may_accept: false,
        accepts_services: false,
        has_own_chain: false,
        remedy: format!("{program} -I {name} -m conntrack --ctstate DNAT -j ACCEPT"),
    };
    firewall.walk(&held.ruleset, &chain, pods);
    Some(firewall)
}

impl Firewall {
    /// Takes all rules that a packet in the chain may pass, in that order, except those of Services.
    fn walk(&mut self, ruleset: &Ruleset, chain: &ChainName, pods: &[IpNet]) {
        let rules = |chain| {
            let chain = ruleset.chain(Table::Filter, chain);
            chain.map(|chain| chain.rules.as_slice()).unwrap_or_default().iter()
        };
        let mut seen = BTreeSet::from([chain]);
        // The rules left in each chain, with whether every packet passes them.
        let mut stack = vec![(rules(chain), true)];
        while let Some((rest, is_always)) = stack.last_mut() {
            let is_always = *is_always;
            let Some(rule) = rest.next() else {
                stack.pop();
                continue;
            };
            self.take(rule, is_always, pods);
            let Some(target) = rule.target_chain() else { continue };
            self.has_own_chain |= OURS.owns(Table::Filter, target);
            if !target.as_str().starts_with("KUBE-") && seen.insert(target) {
                stack.push((rules(target), is_always && !has_condition(rule)));
            }
        }
    }

    fn take(&mut self, rule: &Rule, is_always: bool, pods: &[IpNet]) {
        let is_unconditional = is_always && !has_condition(rule);
        match verdict(rule) {
            Some(Verdict::Accept) => {
                self.may_accept = true;
                self.accepts_services |= is_always
                    && !self.drops_all
                    && (is_unconditional || is_for_services(rule, pods));
            }
            Some(Verdict::Drop) => {
                self.may_drop = true;
                self.drops_all |= is_unconditional;
                self.drops_rest |= is_unconditional;
            }
            None => {}
        }
    }
}

enum Verdict {
    Accept,
    Drop,
}

fn verdict(rule: &Rule) -> Option<Verdict> {
    match rule {
        Rule::Known(RuleSpec { target: Some(Target::Accept), .. }) => Some(Verdict::Accept),
        Rule::Known(RuleSpec { target: Some(Target::Drop | Target::Reject(_)), .. }) => {
            Some(Verdict::Drop)
        }
        Rule::Known(_) => None,
        Rule::Foreign { target, .. } => match target.as_ref()?.as_str() {
            "ACCEPT" => Some(Verdict::Accept),
            "DROP" | "REJECT" => Some(Verdict::Drop),
            _ => None,
        },
    }
}

fn has_condition(rule: &Rule) -> bool {
    match rule {
        Rule::Known(RuleSpec { source, destination, in_interface, protocol, matches, .. }) => {
            source.is_some()
                || destination.is_some()
                || in_interface.is_some()
                || protocol.is_some()
                || !matches.iter().all(|one| matches!(one, Match::Comment(_)))
        }
        Rule::Foreign { text, .. } => !text.trim_start().starts_with("-j"),
    }
}

/// Whether an accepting rule is for packets to endpoints: for those with a translated destination, or
/// for pods, as network plugins make it.
fn is_for_services(rule: &Rule, pods: &[IpNet]) -> bool {
    let Rule::Known(RuleSpec { source, destination, in_interface, protocol, matches, .. }) = rule
    else {
        return false;
    };
    let networks = [source, destination].into_iter().flatten();
    let mut networks = networks.filter(|network| !network.negated).map(|network| network.value);
    let is_of_pods = networks.any(|network| pods.iter().any(|pods| network.contains(pods)));
    let is_translated = source.is_none() && destination.is_none() && {
        matches.iter().any(|one| match one {
            Match::Conntrack(states) => {
                !states.negated && states.value.contains(&ConntrackState::Dnat)
            }
            _ => false,
        })
    };
    in_interface.is_none() && protocol.is_none() && (is_of_pods || is_translated)
}

fn check(firewall: &Firewall) -> Option<Finding> {
    let Firewall { name, hook, remedy, .. } = firewall;
    let what = match hook {
        FilterHook::Forward => "forwards to pods",
        FilterHook::Input => "forwards to processes of this node (pods of the host network)",
    };
    let remedy = format!("{remedy}, and persist it in the configuration of that firewall");
    match firewall {
        Firewall { accepts_services: true, .. } => None,
        Firewall {
            drops_rest: true,
            hook: FilterHook::Forward,
            may_accept: false,
            has_own_chain: false,
            ..
        } => Some(Finding::error(
            FindingCode::ForwardDropped,
            format!("{name} drops everything: nothing that a Service {what} arrives"),
            remedy,
        )),
        Firewall { drops_rest: true, hook: FilterHook::Forward, .. } => Some(Finding::warning(
            FindingCode::ForwardDroppedByDefault,
            format!(
                "{name} drops what no rule accepts, and no rule accepts all that a Service {what}"
            ),
            remedy,
        )),
        Firewall { drops_rest, may_drop, .. } if *drops_rest || *may_drop => Some(Finding::note(
            FindingCode::MayBeDropped,
            format!(
                "{name} has rules that drop or reject packets: they may match what a Service {what}"
            ),
            format!("if traffic to a Service is dropped: {remedy}"),
        )),
        Firewall { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;
    use rulegen_ruleset::iptables::parse;

    use super::*;
    use crate::finding::Severity;

    fn found(forward_policy: &str, rules: &[&str]) -> Option<Severity> {
        let chains = [":INPUT ACCEPT [0:0]", ":OTHER - [0:0]", ":KUBE-FORWARD - [0:0]"];
        let chains = [&chains[..], rules].concat().join("\n");
        let text = format!("*filter\n:FORWARD {forward_policy} [0:0]\n{chains}\nCOMMIT\n");
        let (ruleset, errors) = parse(IpFamily::Ipv4, &text);
        assert_eq!(errors, []);
        let held = ActualIptables { variant: Variant::Nft, family: IpFamily::Ipv4, ruleset };
        let pods = ["10.244.0.0/16".parse().unwrap()];
        let finding = check(&firewall(&held, "FORWARD", &pods).unwrap())?;
        assert!(finding.what.starts_with("the chain FORWARD of iptables-nft "), "{finding:?}");
        assert!(finding.remedy.contains("iptables-nft -I FORWARD -m conntrack"), "{finding:?}");
        Some(finding.severity)
    }

    #[test]
    fn iptables_forward_policy_drop_is_an_error_unless_rules_accept() {
        let own = ["-A FORWARD -j KUBE-FORWARD", "-A KUBE-FORWARD -j ACCEPT"];
        assert_eq!(found("ACCEPT", &[]), None);
        assert_eq!(found("ACCEPT", &own), None);
        assert_eq!(found("DROP", &[]), Some(Severity::Error));
        assert_eq!(found("DROP", &own), Some(Severity::Warning));
        let docker = "-A FORWARD -o docker0 -j ACCEPT";
        assert_eq!(found("DROP", &[docker]), Some(Severity::Warning));
        let in_chain = ["-A FORWARD -j OTHER", "-A OTHER -j DROP"];
        assert_eq!(found("ACCEPT", &in_chain), Some(Severity::Error));
        let some = ["-A FORWARD -s 192.0.2.7/32 -j DROP"];
        assert_eq!(found("ACCEPT", &some), Some(Severity::Note));
    }

    #[test]
    fn iptables_forward_policy_drop_is_fine_if_rules_accept_services_or_pods() {
        let dnat = "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT";
        assert_eq!(found("DROP", &[dnat]), None);
        assert_eq!(found("ACCEPT", &["-A FORWARD -j DROP", dnat]), Some(Severity::Warning));
        let flannel = ["-A FORWARD -j OTHER", "-A OTHER -s 10.244.0.0/16 -j ACCEPT"];
        assert_eq!(found("DROP", &flannel), None);
        let flannel = [&flannel[..], &["-A FORWARD -j DROP"]].concat();
        assert_eq!(found("ACCEPT", &flannel), None);
        let other = ["-A FORWARD -j OTHER", "-A OTHER -s 10.99.0.0/16 -j ACCEPT"];
        assert_eq!(found("DROP", &other), Some(Severity::Warning));
        assert_eq!(found("DROP", &["-A FORWARD -j ACCEPT"]), None);
    }
}
