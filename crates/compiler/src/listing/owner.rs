//! Which service port a part of a ruleset is there for.

use std::collections::HashMap;

use rulegen_model::{Protocol, ServicePortName};
use rulegen_ruleset::iptables::{ChainName, Match, Rule, RuleSpec, Ruleset};
use rulegen_ruleset::nftables::{Element, Key, Name, Value};
use rulegen_ruleset::{self as ruleset};

use super::name::{is_name, named, parts, protocol};
use super::ruleset::{entries, walk};
use super::{Listing, reached::Whose};
use crate::nftables::affinity_path;

/// Tells service ports by the comments of what is there for them.
#[derive(Debug, Default)]
pub struct Owners {
    /// By namespace, name and port: a comment does not tell the protocol.
    known: HashMap<String, ServicePortName>,
}

impl Owners {
    /// Tells the service ports of these listings also where only a comment tells them.
    pub fn of<'a>(listings: impl IntoIterator<Item = &'a Listing>) -> Self {
        let names = listings.into_iter().flat_map(|listing| listing.services.keys().flatten());
        Self { known: names.map(|name| (name.to_string(), name.clone())).collect() }
    }

    /// The service port of an element of a set of nftables.
    pub fn of_element(&self, key: &Key, element: &Element) -> Option<ServicePortName> {
        let over = key.values().find_map(|value| match value {
            Value::Protocol(over) => Some(protocol(over)),
            _ => None,
        });
        self.named(element.comment.as_ref()?.as_str(), over)
    }

    /// The service port of a rule in a chain of iptables that all share.
    pub fn of_rule(&self, rule: &Rule) -> Option<ServicePortName> {
        let Rule::Known(RuleSpec { matches, protocol: over, .. }) = rule else { return None };
        let comment = matches.iter().find_map(|of| match of {
            Match::Comment(comment) => Some(&**comment),
            _ => None,
        })?;
        // The load balancer asks over TCP, whatever the port's protocol is.
        let over = over.filter(|_| !comment.ends_with("health check node port"));
        self.named(comment, over.map(protocol))
    }

    fn named(&self, comment: &str, over: Option<Protocol>) -> Option<ServicePortName> {
        if let Some(over) = over {
            return named(comment, over);
        }
        let [namespace, service, port] = parts(comment)?;
        let text = if port.is_empty() {
            format!("{namespace}/{service}")
        } else {
            format!("{namespace}/{service}:{port}")
        };
        self.known.get(&text).cloned()
    }
}

/// The service port with affinity that a set or a chain of nftables is of, if it is of one.
pub fn owner_of_object(name: &Name) -> Option<ServicePortName> {
    let [namespace, service, over, port] = affinity_path(name.as_str())?;
    let fine = is_name(namespace) && is_name(service) && (port.is_empty() || is_name(port));
    let over = ruleset::Protocol::parse(over).filter(|_| fine)?;
    Some(ServicePortName {
        namespace: namespace.into(),
        service: service.into(),
        port: port.into(),
        protocol: protocol(over),
    })
}

/// The chains of iptables that are there for one service port, by where its frontends lead.
pub fn owners_of_chains(ruleset: &Ruleset) -> HashMap<&ChainName, ServicePortName> {
    let mut owners: HashMap<&ChainName, ServicePortName> = HashMap::new();
    for entry in entries(ruleset) {
        let Some(name) = entry.name else { continue };
        owners.entry(entry.chain).or_insert_with(|| name.clone());
        walk(ruleset, entry.chain, |_, rule, _| {
            let target = rule.target_chain().filter(|chain| is_of_one(chain))?;
            owners.entry(target).or_insert_with(|| name.clone());
            Some(Whose::All)
        });
    }
    owners
}

fn is_of_one(chain: &ChainName) -> bool {
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"]
        .iter()
        .any(|start| chain.as_str().starts_with(start))
}
