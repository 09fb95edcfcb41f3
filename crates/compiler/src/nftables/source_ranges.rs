//! Source ranges of load-balancer IPs.
//!
//! Each list of ranges has one number and one chain, shared by all ports, addresses and Services
//! that use it, so s ranges, p ports and f addresses need s + p + f elements. The chain has one
//! rule per prefix length in the list. It looks up the number of the list, the prefix length and
//! the network part of the source in a hash set that all lists share:
//!
//! ```text
//! numgen inc mod 1 offset A . numgen inc mod 1 offset B .
//!     numgen inc mod 1 offset 24 . ip saddr & 255.255.255.0 @source-ranges return
//! drop
//! ```
//!
//! An interval set would need only one rule. But the kernel rebuilds an interval set of
//! concatenations while it grows: 50,000 ranges held its lock for 57 s, compared with 0.1 s for the
//! hash set.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_ruleset::Negatable;
use rulegen_ruleset::nftables::{
    Chain, Condition, Element, Key, Name, Number, Rule, Selector, Statement, Value, Verdict,
};

use super::layout::{SOURCE_RANGES, of_rules};
use super::number::Number64;
use super::set_element::SetElement;

/// A list of networks without overlaps, and its number.
#[derive(Debug, Clone)]
pub(super) struct SourceRanges {
    networks: Arc<[IpNet]>,
    number: Number64,
}

/// Caches the last list: consecutive ports of a Service share theirs.
#[derive(Debug, Default)]
pub(super) struct LastSourceRanges(Option<(Arc<[IpNet]>, Vec<IpAddr>, SourceRanges)>);

impl LastSourceRanges {
    /// The list of these ranges and addresses.
    pub(super) fn of(&mut self, ranges: &Arc<[IpNet]>, addresses: Vec<IpAddr>) -> SourceRanges {
        match &self.0 {
            Some((last, also, list)) if Arc::ptr_eq(last, ranges) && *also == addresses => {
                list.clone()
            }
            _ => {
                let list = SourceRanges::of(ranges, &addresses);
                self.0 = Some((ranges.clone(), addresses, list.clone()));
                list
            }
        }
    }
}

impl SourceRanges {
    fn of(ranges: &[IpNet], addresses: &[IpAddr]) -> Self {
        let addresses = addresses.iter().copied().map(IpNet::from);
        let all: Vec<IpNet> = ranges.iter().copied().chain(addresses).collect();
        let networks: Arc<[IpNet]> = IpNet::aggregate(&all).into();
        let parts = networks.iter().flat_map(|network| match network.trunc() {
            IpNet::V4(net) => [net.addr().octets().to_vec(), vec![net.prefix_len()]],
            IpNet::V6(net) => [net.addr().octets().to_vec(), vec![net.prefix_len()]],
        });
        Self { number: Number64::of("source-ranges", parts), networks }
    }

    /// The chain that drops packets from outside the list.
    pub(super) fn chain_name(&self) -> Name {
        Name::from(format!("{SOURCE_RANGES}-{}", self.number))
    }

    /// Returns for each matching prefix length, then drops.
    pub(super) fn chain(&self) -> Chain {
        let lengths: BTreeSet<u8> = self.networks.iter().map(IpNet::prefix_len).collect();
        let pass = lengths.iter().map(|length| {
            let set = Negatable::is(Name::from(SOURCE_RANGES));
            Rule::new([
                Statement::Match(Condition::SetLookup { key: self.selectors(*length), set }),
                Statement::Verdict(Verdict::Return),
            ])
        });
        let drop = Rule::new([Statement::Verdict(Verdict::Drop)])
            .comment("not from a source range of the Service");
        of_rules(pass.chain([drop]).collect())
    }

    fn selectors(&self, prefix_length: u8) -> Vec<Selector> {
        let [high, low] = self.number.selectors();
        let length = Selector::Number(Number::Constant(prefix_length.into()));
        let is_whole =
            self.networks.first().is_some_and(|net| net.max_prefix_len() == prefix_length);
        let source = match is_whole {
            true => Selector::SourceAddress,
            false => Selector::SourceNetwork { prefix_length },
        };
        vec![high, low, length, source]
    }

    /// The networks as prefix length and first address.
    pub(super) fn elements(&self) -> Vec<SetElement> {
        let [high, low] = self.number.values();
        let element = |network: &IpNet| {
            let length = Value::Number(network.prefix_len().into());
            let key = Key::from([high, low, length, Value::Address(network.network())]);
            SetElement { set: SOURCE_RANGES, key, element: Element::default() }
        };
        self.networks.iter().map(element).collect()
    }
}

/// The network of an element of the set of source ranges, if the element's key starts with the
/// values that a rule looks up.
pub fn network_asked_for(key: &Key, asked: &[Selector]) -> Option<IpNet> {
    let mut values = key.values();
    let numbers: Vec<u32> = values.by_ref().map_while(number_of).collect();
    let constants = asked.iter().map_while(|selector| match selector {
        Selector::Number(Number::Constant(number)) => Some(*number),
        _ => None,
    });
    if !constants.eq(numbers.iter().copied()) {
        return None;
    }
    let prefix_length = u8::try_from(*numbers.last()?).ok()?;
    match key.values().last()? {
        Value::Address(ip) => IpNet::new(ip, prefix_length).ok(),
        _ => None,
    }
}

fn number_of(value: Value) -> Option<u32> {
    match value {
        Value::Number(number) => Some(number),
        _ => None,
    }
}
