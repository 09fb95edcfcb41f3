//! The Services of an nftables table.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::{
    CLUSTER_IPS, FIREWALL_IPS, FrontendMaps, REJECT, network_asked_for,
};
use rulegen_net::{Frontend, FrontendAddress, FrontendKind, IpFamily, ServicePortName, ServiceRef};
use rulegen_ruleset::nftables::{
    Condition, Data, Element, Key, Name, Number, Rule, Selector, Statement, Table, Value, Verdict,
};

use super::Listing;
use super::reachable::{ClientScope, ReachableEndpoints};

/// Lists the Services of a table, with the names in the comments of its elements.
pub fn of_table(table: &Table) -> Listing {
    let mut listing = Listing::default();
    let reader = Reader { table };
    for maps in FrontendMaps::BOTH {
        reader.services(maps, &mut listing);
        reader.refused(maps, &mut listing);
    }
    reader.firewalled(&mut listing);
    listing
}

struct Reader<'a> {
    table: &'a Table,
}

impl<'a> Reader<'a> {
    fn services(&self, maps: FrontendMaps, listing: &mut Listing) {
        for (key, element) in self.elements(maps.services()) {
            let Some(frontend) = frontend(self.table.family, key) else { continue };
            let name = name(&frontend, element);
            let kind = self.kind(&frontend, name.as_ref());
            let traffic = match &element.data {
                Some(Data::Verdict(verdict)) => self.follow(key, verdict),
                _ => ReachableEndpoints::default(),
            };
            let traffic = traffic.into_traffic(kind, None);
            listing.services.entry(name).or_default().insert(frontend, traffic);
        }
    }

    fn refused(&self, maps: FrontendMaps, listing: &mut Listing) {
        for (key, element) in self.elements(maps.refused()) {
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
            let name = name(&frontend, element);
            let kind = self.kind(&frontend, name.as_ref());
            listing.refuse(name, frontend, kind, refusal);
        }
    }

    fn firewalled(&self, listing: &mut Listing) {
        let mut lists: HashMap<&Name, Vec<IpNet>> = HashMap::new();
        for (key, element) in self.elements(FIREWALL_IPS) {
            let Some(frontend) = frontend(self.table.family, key) else { continue };
            let Some(Data::Verdict(Verdict::Goto(chain))) = &element.data else { continue };
            let ranges = lists.entry(chain).or_insert_with(|| self.source_ranges(chain));
            let name = name(&frontend, element);
            let traffic = listing.traffic(name, frontend, FrontendKind::LoadBalancerIP);
            traffic.kind = FrontendKind::LoadBalancerIP;
            traffic.source_ranges = Some(ranges.clone());
        }
    }

    /// The networks for whose packets a chain returns.
    fn source_ranges(&self, chain: &Name) -> Vec<IpNet> {
        let rules = self.table.chains.get(chain).into_iter().flat_map(|chain| &chain.rules);
        let mut ranges = Vec::new();
        for rule in rules {
            if let [
                Statement::Match(Condition::SetLookup { key, set }),
                Statement::Verdict(Verdict::Return),
            ] = rule.statements.as_slice()
                && !set.negated
            {
                ranges.extend(self.networks(&set.value, key));
            }
        }
        IpNet::aggregate(&ranges)
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
        walk.go(verdict, ClientScope::All);
        let mut seen: HashSet<(&Name, ClientScope)> = HashSet::new();
        while let Some((chain, whose)) = walk.waiting.pop() {
            if seen.insert((chain, whose)) {
                walk.chain(chain, whose);
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
    waiting: Vec<(&'a Name, ClientScope)>,
}

impl<'a> RuleWalk<'a, '_> {
    fn chain(&mut self, name: &Name, whose: ClientScope) {
        let Some(chain) = self.table.chains.get(name) else { return };
        for rule in &chain.rules {
            if self.rule(rule, whose) {
                return;
            }
        }
    }

    /// Returns true if no packet continues after the rule.
    fn rule(&mut self, rule: &'a Rule, mut whose: ClientScope) -> bool {
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
                Statement::MarkOr(_) if always && whose == ClientScope::All => {
                    self.reached.masquerades();
                }
                Statement::VerdictMap { map, .. } => self.go_by_map(map, whose),
                Statement::DnatMap { key, map } => self.choose(key, map, whose),
                Statement::Dnat(_, endpoint) => {
                    self.reached.endpoint(whose, *endpoint);
                    return always;
                }
                Statement::Verdict(verdict) => {
                    self.go(verdict, whose);
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

    fn go(&mut self, verdict: &'a Verdict, whose: ClientScope) {
        if let Verdict::Goto(chain) | Verdict::Jump(chain) = verdict {
            self.waiting.push((chain, whose));
        }
    }

    fn go_by_map(&mut self, map: &Name, whose: ClientScope) {
        let element = self.table.sets.get(map).and_then(|map| map.elements.get(self.frontend));
        if let Some(Data::Verdict(verdict)) = element.and_then(|element| element.data.as_ref()) {
            self.go(verdict, whose);
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

/// Maximum length of an element's comment. Longer names are truncated, and several service ports may
/// start with the same text.
const LONGEST_COMMENT: usize = 127;

fn name(frontend: &Frontend, element: &Element) -> Option<ServicePortName> {
    let comment = element.comment.as_ref()?.as_str();
    ServicePortName::from_comment(comment, frontend.protocol)
        .filter(|_| comment.len() < LONGEST_COMMENT)
}
