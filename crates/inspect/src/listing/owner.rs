//! Finds the service port that a part of a ruleset belongs to.

use std::collections::HashMap;
use std::net::IpAddr;

use rulegen_compiler::nftables::owner_path;
use rulegen_net::{Protocol, ServicePortName, ServiceRef};
use rulegen_ruleset::iptables::{ChainName, Rule, Ruleset};
use rulegen_ruleset::nftables::{Element, Key, Name, Value};

use crate::rule_comment::{CommentSubject, RuleComment};

use super::ruleset::{entries, walk};
use super::{Listing, reachable::ClientScope};

/// Finds service ports by the comments of their rules and elements.
#[derive(Debug, Default)]
pub struct Owners {
    /// By namespace, name and port: comments do not show the protocol.
    known: HashMap<ServiceRef, ServicePortName>,
    /// The first service port of each Service.
    services: HashMap<ServiceRef, ServicePortName>,
    /// The first service port that has an endpoint at an address.
    endpoints: HashMap<IpAddr, ServicePortName>,
}

impl Owners {
    /// Indexes the service ports of these listings: comments show only part of a name.
    pub fn of<'a>(listings: impl IntoIterator<Item = &'a Listing>) -> Self {
        let mut owners = Self::default();
        let services = listings.into_iter().flat_map(|listing| &listing.services);
        for (name, frontends) in services.filter_map(|(name, of)| Some((name.as_ref()?, of))) {
            let service = ServiceRef::of_service(name);
            let port = Some(name.port.to_string()).filter(|port| !port.is_empty());
            owners.known.insert(ServiceRef { port, ..service.clone() }, name.clone());
            owners.services.entry(service).or_insert_with(|| name.clone());
            for endpoint in
                frontends.values().flat_map(|of| of.endpoints.iter().chain(&of.from_node))
            {
                owners.endpoints.entry(endpoint.ip()).or_insert_with(|| name.clone());
            }
        }
        owners
    }

    /// The service port of an element of a set of nftables.
    pub fn of_element(&self, key: &Key, element: &Element) -> Option<ServicePortName> {
        let over = key.values().find_map(|value| match value {
            Value::Protocol(over) => Some(over),
            _ => None,
        });
        match &element.comment {
            Some(comment) => self.named(comment.as_str(), over),
            None => self.of_hairpin(key),
        }
    }

    /// The service port of an endpoint that reaches itself (hairpin).
    fn of_hairpin(&self, key: &Key) -> Option<ServicePortName> {
        let mut values = key.values();
        match (values.next(), values.next(), values.next()) {
            (Some(Value::Address(from)), Some(Value::Address(to)), None) if from == to => {
                self.endpoints.get(&to).cloned()
            }
            _ => None,
        }
    }

    /// The service port of a rule in a shared chain of iptables.
    pub fn of_rule(&self, rule: &Rule) -> Option<ServicePortName> {
        let Rule::Known(rule) = rule else { return None };
        let comment = RuleComment::of(rule)?;
        // Health checks of load balancers use TCP, regardless of the port's protocol.
        let is_health_check = comment.subject() == Some(CommentSubject::HealthCheck);
        match rule.protocol.filter(|_| !is_health_check) {
            Some(over) => comment.service_port(over),
            None => self.first_of(&comment.service()?),
        }
    }

    fn named(&self, comment: &str, over: Option<Protocol>) -> Option<ServicePortName> {
        if let Some(over) = over {
            return ServicePortName::from_comment(comment, over);
        }
        self.first_of(&ServiceRef::from_comment(comment)?)
    }

    /// A cluster IP belongs to the Service, not to one of its ports.
    fn first_of(&self, of: &ServiceRef) -> Option<ServicePortName> {
        self.known.get(of).or_else(|| self.services.get(of)).cloned()
    }
}

/// The service port that a set or a chain of nftables belongs to; `None` if it is shared.
pub fn owner_of_object(name: &Name) -> Option<ServicePortName> {
    ServicePortName::from_path(owner_path(name.as_str())?)
}

/// The iptables chains that belong to one service port, found by the jumps from its frontends.
pub fn owners_of_chains(ruleset: &Ruleset) -> HashMap<&ChainName, ServicePortName> {
    let mut owners: HashMap<&ChainName, ServicePortName> = HashMap::new();
    for entry in entries(ruleset) {
        let Some(name) = entry.name else { continue };
        owners.entry(entry.chain).or_insert_with(|| name.clone());
        walk(ruleset, entry.chain, |_, rule, _| {
            let target = rule.target_chain().filter(|chain| is_of_one(chain))?;
            owners.entry(target).or_insert_with(|| name.clone());
            Some(ClientScope::All)
        });
    }
    owners
}

fn is_of_one(chain: &ChainName) -> bool {
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"]
        .iter()
        .any(|start| chain.as_str().starts_with(start))
}
