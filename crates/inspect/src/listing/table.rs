//! The Services of an nftables table.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::{
    CLUSTER_IPS, FIREWALL_IPS, FrontendMaps, REJECT, network_asked_for,
};
use rulegen_net::{Frontend, FrontendAddress, FrontendKind, IpFamily, ServicePortName, ServiceRef};
use rulegen_ruleset::nftables::{
    Condition, Data, Element, Key, Name, Number, Rule, Selector, Set, Statement, Table, Value,
    Verdict,
};

use super::Listing;
use super::reachable::{ClientScope, ReachableEndpoints};
use crate::kube_proxy::Layout;

/// True for a table of kube-proxy's own layout, whatever its name.
pub fn is_table_of_kube_proxy(table: &Table) -> bool {
    Layout::of(table) == Layout::KubeProxy
}

/// Lists the Services of a table, with the names in the comments of its elements.
pub fn of_table(table: &Table) -> Listing {
    let mut listing = Listing::default();
    let reader = Reader { table, layout: Layout::of(table) };
    for maps in FrontendMaps::BOTH {
        reader.services(maps, &mut listing);
        reader.refused(maps, &mut listing);
    }
    reader.firewalled(&mut listing);
    listing
}

struct Reader<'a> {
    table: &'a Table,
    layout: Layout,
}

impl<'a> Reader<'a> {
    fn services(&self, maps: FrontendMaps, listing: &mut Listing) {
        for (key, element) in self.elements(self.layout.services(maps)) {
            let Some(frontend) = frontend(self.table.family, key) else { continue };
            let name = self.layout.service(element, frontend.protocol);
            let kind = self.kind(&frontend, name.as_ref());
            let traffic = match &element.data {
                Some(Data::Verdict(verdict)) => self.follow(key, verdict),
                _ => ReachableEndpoints::default(),
            };
            let traffic = traffic.into_traffic(kind, self.layout.internal_policy(element));
            listing.services.entry(name).or_default().insert(frontend, traffic);
        }
    }

    fn refused(&self, maps: FrontendMaps, listing: &mut Listing) {
        for (key, element) in self.elements(self.layout.refused(maps)) {
            let Some(frontend) = frontend(self.table.family, key) else { continue };
            let refusal = match &element.data {
                Some(Data::Verdict(Verdict::Drop)) => Refusal::NoLocalEndpoints,
                Some(Data::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain)))
                    if chain.as_str() == REJECT =>
                {
                    Refusal::NoEndpoints
                }
                _ => continue,
            };
            let name = self.layout.service(element, frontend.protocol);
            let kind = self.kind(&frontend, name.as_ref());
            listing.refuse(name, frontend, kind, refusal);
        }
    }

    fn firewalled(&self, listing: &mut Listing) {
        let mut lists: HashMap<&Name, Option<Vec<IpNet>>> = HashMap::new();
        let addresses = self.firewalled_addresses();
        for (key, element) in self.elements(FIREWALL_IPS) {
            let Some(frontend) = frontend(self.table.family, key) else { continue };
            let Some(Data::Verdict(Verdict::Goto(chain))) = &element.data else { continue };
            let own = addresses.get(chain).map(Vec::as_slice).unwrap_or_default();
            let ranges = lists.entry(chain).or_insert_with(|| self.source_ranges(chain, own));
            let name = self.layout.service(element, frontend.protocol);
            let traffic = listing.traffic(name, frontend, FrontendKind::LoadBalancerIP);
            traffic.kind = FrontendKind::LoadBalancerIP;
            traffic.source_ranges = ranges.clone();
        }
    }

    /// The addresses whose packets go through each firewall chain.
    fn firewalled_addresses(&self) -> HashMap<&'a Name, Vec<IpNet>> {
        let mut addresses: HashMap<&Name, Vec<IpNet>> = HashMap::new();
        for (key, element) in self.elements(FIREWALL_IPS) {
            if let (Some(Value::Address(ip)), Some(Data::Verdict(Verdict::Goto(chain)))) =
                (key.values().next(), &element.data)
            {
                addresses.entry(chain).or_default().push(ip.into());
            }
        }
        addresses
    }

    /// The networks whose packets a chain does not drop: it returns for them, or drops all others.
    /// `None` if kube-proxy's rule is unknown. kube-proxy adds the chain's `own` addresses to the
    /// source ranges if those contain the node.
    fn source_ranges(&self, chain: &Name, own: &[IpNet]) -> Option<Vec<IpNet>> {
        let rules = self.table.chains.get(chain).into_iter().flat_map(|chain| &chain.rules);
        let mut ranges = Vec::new();
        for rule in rules {
            let [Statement::Match(condition), Statement::Verdict(verdict)] =
                rule.statements.as_slice()
            else {
                continue;
            };
            match (condition, verdict) {
                (Condition::SetLookup { key, set }, Verdict::Return) if !set.negated => {
                    ranges.extend(self.networks(&set.value, key));
                }
                (Condition::SetLookup { set, .. }, Verdict::Drop) if set.negated => {
                    let networks = self.table.sets.get(&set.value).into_iter().flat_map(addresses);
                    ranges.extend(networks.filter(|network| !own.contains(network)));
                }
                (Condition::Source(network), Verdict::Drop) if network.negated => {
                    ranges.push(network.value);
                }
                _ => {}
            }
        }
        let is_unknown = self.layout == Layout::KubeProxy && ranges.is_empty();
        (!is_unknown).then(|| IpNet::aggregate(&ranges))
    }

    /// The networks of elements whose keys start with the constants in a lookup.
    fn networks(&self, set: &Name, asked: &[Selector]) -> impl Iterator<Item = IpNet> {
        let first: Key = asked.iter().map_while(constant).collect();
        let elements = self.table.sets.get(set).into_iter();
        let elements = elements.flat_map(move |set| set.elements.range(first.clone()..));
        elements.map_while(move |(key, _)| network_asked_for(key, asked))
    }

    /// A set shows whether an address is a cluster IP, with the first port of its Service.
    fn kind(&self, frontend: &Frontend, name: Option<&ServicePortName>) -> FrontendKind {
        let FrontendAddress::Ip(ip) = frontend.address else { return FrontendKind::NodePort };
        let ips = self.table.sets.get(&Name::from(CLUSTER_IPS));
        let element = ips.and_then(|set| set.elements.get(&Key::from([Value::Address(ip)])));
        let of = element.and_then(|of| ServiceRef::from_comment(of.comment.as_ref()?.as_str()));
        let same = match (of, name) {
            (Some(service), Some(name)) => service.is_service_of(name),
            _ => element.is_some(),
        };
        if same { FrontendKind::ClusterIP } else { FrontendKind::External }
    }

    /// Follows all paths of packets to the frontend.
    fn follow(&self, frontend: &Key, verdict: &'a Verdict) -> ReachableEndpoints {
        let mut walk = RuleWalk {
            table: self.table,
            frontend,
            reached: ReachableEndpoints::default(),
            waiting: Vec::new(),
        };
        walk.go(verdict, ClientScope::All, true);
        let mut seen: HashSet<WaitingChain<'_>> = HashSet::new();
        while let Some(next) = walk.waiting.pop() {
            if seen.insert(next) {
                walk.chain(next);
            }
        }
        walk.reached
    }

    fn elements(&self, set: &str) -> impl Iterator<Item = (&'a Key, &'a Element)> + use<'a> {
        let set = self.table.sets.get(&Name::from(set));
        set.into_iter().flat_map(|set| &set.elements)
    }
}

struct RuleWalk<'a, 'k> {
    table: &'a Table,
    frontend: &'k Key,
    reached: ReachableEndpoints,
    waiting: Vec<WaitingChain<'a>>,
}

/// A chain to walk through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct WaitingChain<'a> {
    name: &'a Name,
    whose: ClientScope,
    /// True if no condition kept any of these packets from it.
    is_for_all: bool,
}

impl<'a> RuleWalk<'a, '_> {
    fn chain(&mut self, WaitingChain { name, whose, is_for_all }: WaitingChain<'a>) {
        let Some(chain) = self.table.chains.get(name) else { return };
        for rule in &chain.rules {
            if self.rule(rule, whose, is_for_all) {
                return;
            }
        }
    }

    /// Returns true if no packet continues after the rule.
    fn rule(&mut self, rule: &'a Rule, mut whose: ClientScope, is_for_all: bool) -> bool {
        let mut always = true;
        for statement in &rule.statements {
            match statement {
                // An endpoint that only known clients reach.
                Statement::Match(condition) if self.asks_for_client(condition) => return false,
                Statement::Match(condition) => {
                    always = false;
                    if is_of_node(condition) {
                        whose = ClientScope::Node;
                    }
                }
                Statement::MarkOr(_) if always && is_for_all && whose == ClientScope::All => {
                    self.reached.masquerades();
                }
                Statement::VerdictMap { key, map } => {
                    self.go_by_map(key, map, whose, always && is_for_all);
                }
                Statement::DnatMap { key, map } => self.choose(key, map, whose),
                Statement::Dnat(_, endpoint) => {
                    self.reached.endpoint(whose, *endpoint);
                    return always;
                }
                Statement::Verdict(verdict) => {
                    self.go(verdict, whose, always && is_for_all);
                    return always && !matches!(verdict, Verdict::Jump(_));
                }
                Statement::Update { set, timeout, .. } => {
                    let of_set = || self.table.sets.get(set)?.timeout;
                    if let Some(timeout) = timeout.or_else(of_set) {
                        self.reached.keeps(u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
                    }
                }
                Statement::Reject => return always,
                _ => {}
            }
        }
        false
    }

    fn go(&mut self, verdict: &'a Verdict, whose: ClientScope, is_for_all: bool) {
        if let Verdict::Goto(name) | Verdict::Jump(name) = verdict {
            self.waiting.push(WaitingChain { name, whose, is_for_all });
        }
    }

    fn go_by_map(&mut self, key: &[Selector], map: &Name, whose: ClientScope, is_for_all: bool) {
        let Some(map) = self.table.sets.get(map) else { return };
        let found: Vec<&Element> = match key {
            // Any number can be generated.
            [Selector::Number(Number::Modulo(_, below))] => {
                let (first, behind) = (Value::Number(0), Value::Number(*below));
                let all = map.elements.range(Key::from([first])..Key::from([behind]));
                all.map(|(_, element)| element).collect()
            }
            _ => map.elements.get(self.frontend).into_iter().collect(),
        };
        for element in found {
            if let Some(Data::Verdict(verdict)) = &element.data {
                self.go(verdict, whose, is_for_all);
            }
        }
    }

    /// The endpoints that a map has for the frontend and any number that can be generated.
    fn choose(&mut self, key: &[Selector], map: &Name, whose: ClientScope) {
        let Some(Selector::Number(number)) = key.last() else { return };
        let (first, behind) = match number {
            Number::Modulo(_, below) => (0, *below),
            Number::Constant(number) => (*number, number.saturating_add(1)),
        };
        let Some(map) = self.table.sets.get(map) else { return };
        let Some(start) = self.looked_up(key) else { return };
        let at = |number| start.with(Value::Number(number));
        for (_, element) in map.elements.range(at(first)..at(behind)) {
            if let Some(Data::AddrPort(endpoint)) = element.data {
                self.reached.endpoint(whose, endpoint);
            }
        }
    }

    /// The parts of a lookup before the number: parts of the frontend, and constants.
    fn looked_up(&self, key: &[Selector]) -> Option<Key> {
        let of_frontend = |is_it: fn(&Value) -> bool| self.frontend.values().find(is_it);
        let (_, start) = key.split_last()?;
        let value = |selector: &Selector| match selector {
            Selector::DestinationAddress => of_frontend(|of| matches!(of, Value::Address(_))),
            Selector::Protocol => of_frontend(|of| matches!(of, Value::Protocol(_))),
            Selector::DestinationPort => of_frontend(|of| matches!(of, Value::Port(_))),
            _ => constant(selector),
        };
        start.iter().map(value).collect()
    }

    /// Whether a rule matches only clients that packets added to a set (session affinity).
    fn asks_for_client(&self, condition: &Condition) -> bool {
        let Condition::SetLookup { set, .. } = condition else { return false };
        self.table.sets.get(&set.value).is_some_and(|set| set.dynamic)
    }
}

/// The addresses and networks of a set of them.
fn addresses(set: &Set) -> impl Iterator<Item = IpNet> {
    set.elements.keys().filter_map(|key| match key.values().next()? {
        Value::Address(ip) => Some(ip.into()),
        Value::Network(network) => Some(network),
        _ => None,
    })
}

fn constant(selector: &Selector) -> Option<Value> {
    match selector {
        Selector::Number(Number::Constant(number)) => Some(Value::Number(*number)),
        _ => None,
    }
}

fn is_of_node(condition: &Condition) -> bool {
    match condition {
        Condition::SourceIsLocal => true,
        Condition::Source(network) => !network.negated,
        Condition::InInterface(interface) => !interface.negated,
        _ => false,
    }
}

/// The frontend at the start of a key.
pub(crate) fn frontend(family: IpFamily, key: &Key) -> Option<Frontend> {
    let mut values = key.values().peekable();
    let address = match values.next_if(|value| matches!(value, Value::Address(_))) {
        Some(Value::Address(ip)) => FrontendAddress::Ip(ip),
        _ => FrontendAddress::Node(family),
    };
    match (values.next(), values.next()) {
        (Some(Value::Protocol(over)), Some(Value::Port(port))) => {
            Some(Frontend { address, protocol: over, port })
        }
        _ => None,
    }
}
