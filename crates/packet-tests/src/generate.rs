//! Makes tests that a cluster passes.

use std::net::IpAddr;

use rulegen_config::ProxyMode;
use rulegen_inspect::explain::{Explanation, Outcome};
use rulegen_model::{ServicePort, SliceEndpoint};
use rulegen_net::{Frontend, FrontendKind, IpFamily, Protocol};

use crate::check::ExpectationChecks;
use crate::file::{
    Case, Expectation, ExpectedChances, ExpectedOutcome, FamilyName, InputFiles, Modes,
    ReceiverFields, SenderFields, TestFile, Transport,
};
use crate::flexible::{ListOr, TextOr};
use crate::inputs::CaseInputs;
use crate::node_rules::NodeRules;
use crate::packet::{OUTSIDE, packets};
use crate::problem::FileProblem;

/// Tests of a cluster.
#[derive(Debug, Clone)]
pub struct GeneratedTests {
    /// The tests, which pass.
    pub tests: TestFile,
    /// The cases that were left out, each with the reason.
    pub left_out: Vec<String>,
}

/// Makes tests of all frontends of a node: cluster IPs from the node, if the input has its Node, and
/// one of its pods, all others from outside and from one of its pods. What the modes do differently becomes one case for each.
///
/// # Errors
/// The node is not known.
pub fn generate(inputs: &CaseInputs, files: InputFiles) -> Result<GeneratedTests, FileProblem> {
    let node = inputs.node(None, &files)?;
    let compiled = [ProxyMode::Iptables, ProxyMode::Nftables]
        .map(|mode| NodeRules::new(&inputs.objects, &inputs.config, mode, &node));
    let mut generator = Generator { inputs, compiled: &compiled, left_out: Vec::new() };
    let mut cases = Vec::new();
    for family in IpFamily::BOTH {
        cases.extend(generator.of_family(family));
    }
    let tests = TestFile { inputs: files, mode: Modes::Both, cases };
    Ok(GeneratedTests { tests, left_out: generator.left_out })
}

struct Generator<'a> {
    inputs: &'a CaseInputs,
    compiled: &'a [NodeRules; 2],
    left_out: Vec<String>,
}

impl Generator<'_> {
    fn of_family(&mut self, family: IpFamily) -> Vec<Case> {
        // The modes may leave out different Services, which are too large.
        let [iptables, _] = self.compiled;
        let pod = self.local_pod(family);
        let node = &iptables.snapshot.node;
        // The address of a node is only known from its Node object.
        let is_known = !node.addresses(family).primary.is_loopback();
        let mut cases = Vec::new();
        for port in iptables.snapshot.service_ports(family) {
            for (frontend, kind) in port.frontends() {
                let far = match kind {
                    FrontendKind::ClusterIP if is_known => node_sender(&node.name),
                    _ => TextOr::Text(OUTSIDE.to_owned()),
                };
                for from in pod.iter().cloned().chain([far]) {
                    cases.extend(self.cases(port, &frontend, kind, from));
                }
            }
        }
        cases
    }

    /// A pod of the node, by its name if that is known.
    fn local_pod(&self, family: IpFamily) -> Option<TextOr<SenderFields>> {
        let [node_rules, _] = self.compiled;
        let objects = &self.inputs.objects;
        let is_own = |ip: &IpAddr| {
            IpFamily::of(*ip) == family
                && node_rules.is_on_node(*ip)
                && !node_rules.snapshot.node.has_address(*ip)
        };
        let details = objects.details.iter();
        let mut pods = details.flat_map(|details| &details.pods);
        if let Some((key, _)) = pods.find(|(_, pod)| pod.addresses.iter().any(is_own)) {
            return Some(TextOr::Text(format!("{}/{}", key.namespace, key.name)));
        }
        let address = |of: &SliceEndpoint| of.address()?.parse().ok();
        let endpoints = objects.slices.iter().flat_map(|slice| &slice.object.endpoints);
        let ip = endpoints.filter_map(address).find(is_own)?;
        Some(TextOr::Text(ip.to_string()))
    }

    fn cases(
        &mut self,
        port: &ServicePort,
        frontend: &Frontend,
        kind: FrontendKind,
        from: TextOr<SenderFields>,
    ) -> Vec<Case> {
        let sender = match &from {
            TextOr::Text(text) if text == OUTSIDE => "outside".to_owned(),
            TextOr::Text(text) => format!("pod {text}"),
            TextOr::Fields(_) => "the node".to_owned(),
        };
        let place = match frontend.ip() {
            Some(ip) => ip.to_string(),
            None => format!("{}", frontend.port),
        };
        let family = port.family();
        let case = Case {
            name: format!(
                "{}/{} {} {place} ({}), from {sender}",
                port.name,
                port.name.protocol.name(),
                kind.words(),
                family.api_name()
            ),
            mode: None,
            node: None,
            ip_family: (family == IpFamily::Ipv6).then_some(FamilyName::Ipv6),
            when: None,
            from,
            to: self.to(port, frontend, kind),
            expect: Expectation::default(),
        };
        let [iptables, nftables] =
            self.compiled.each_ref().map(|node_rules| self.expectation(&case, node_rules));
        if iptables.is_none() || nftables.is_none() {
            let [node_rules, _] = self.compiled;
            let why = match packets(&case, &self.inputs.objects, node_rules) {
                Err(problem) => problem.message,
                Ok(_) => "packets have several kinds of outcomes".to_owned(),
            };
            self.left_out.push(format!("{}: {why}", case.name));
        }
        let with = |mode, suffix: &str, expect: Option<Expectation>| {
            let name = format!("{}{suffix}", case.name);
            expect.map(|expect| Case { name, mode, expect, ..case.clone() })
        };
        match iptables == nftables {
            true => with(None, "", iptables).into_iter().collect(),
            false => {
                let iptables = with(Some(Modes::Iptables), ", iptables", iptables);
                let nftables = with(Some(Modes::Nftables), ", nftables", nftables);
                iptables.into_iter().chain(nftables).collect()
            }
        }
    }

    fn to(
        &self,
        port: &ServicePort,
        frontend: &Frontend,
        kind: FrontendKind,
    ) -> TextOr<ReceiverFields> {
        let protocol = port.name.protocol;
        let suffix = if protocol == Protocol::Tcp { "" } else { protocol.name() };
        let slash = if suffix.is_empty() { "" } else { "/" };
        match (frontend.socket(), kind) {
            (None, _) => {
                let protocol = match protocol {
                    Protocol::Tcp => None,
                    Protocol::Udp => Some(Transport::Udp),
                    Protocol::Sctp => Some(Transport::Sctp),
                };
                TextOr::Fields(ReceiverFields { node_port: frontend.port, protocol })
            }
            (Some(_), FrontendKind::ClusterIP) => {
                let name = &port.name;
                // The same number may be used with another protocol.
                TextOr::Text(format!(
                    "{}/{}:{}/{}",
                    name.namespace,
                    name.service,
                    port.port,
                    protocol.name()
                ))
            }
            (Some(socket), _) => TextOr::Text(format!("{socket}{slash}{suffix}")),
        }
    }

    /// What happens to the packet. `None` if it cannot be sent, or has several kinds of outcomes.
    fn expectation(&self, case: &Case, node_rules: &NodeRules) -> Option<Expectation> {
        let objects = &self.inputs.objects;
        let sent = packets(case, objects, node_rules).ok()?;
        let explanations: Vec<Explanation> =
            sent.iter().map(|sent| node_rules.explain(sent)).collect();
        let expect = observed(explanations.first()?)?;
        // The optional parts hold if they hold for the packet.
        let holds = |expect: &Expectation| {
            ExpectationChecks::of(expect, objects).is_ok_and(|checks| {
                explanations.iter().all(|of| checks.mismatches(of, node_rules).is_empty())
            })
        };
        if expect.outcome.is_some() {
            return holds(&expect).then_some(expect);
        }
        let equal = ListOr::Fields(ExpectedChances { equal: true, within: None });
        let parts = [
            Expectation { chances: Some(equal), ..expect.clone() },
            Expectation { masqueraded: Some(true), ..Expectation::default() },
            Expectation { masqueraded: Some(false), ..Expectation::default() },
            Expectation { same_endpoint_again: Some(true), ..Expectation::default() },
            Expectation { same_endpoint_again: Some(false), ..Expectation::default() },
        ];
        let merged = parts.into_iter().filter(holds).fold(expect, |all, part| Expectation {
            chances: all.chances.or(part.chances),
            masqueraded: all.masqueraded.or(part.masqueraded),
            same_endpoint_again: all.same_endpoint_again.or(part.same_endpoint_again),
            ..all
        });
        holds(&merged).then_some(merged)
    }
}

fn node_sender(name: &str) -> TextOr<SenderFields> {
    TextOr::Fields(SenderFields { node: Some(name.to_owned()), ..SenderFields::default() })
}

/// The outcome, or the endpoints.
fn observed(explanation: &Explanation) -> Option<Expectation> {
    let outcome = |end: Outcome| match end {
        Outcome::Endpoint { .. } => Some(ExpectedOutcome::Endpoint),
        Outcome::Passes { .. } => Some(ExpectedOutcome::Passes),
        Outcome::Rejected => Some(ExpectedOutcome::Rejected),
        Outcome::Dropped => Some(ExpectedOutcome::Dropped),
        // Only a host with known routes has this.
        Outcome::Unreachable => None,
    };
    let first = outcome(explanation.ends.first()?.outcome)?;
    if !explanation.ends.iter().all(|end| outcome(end.outcome) == Some(first)) {
        return None;
    }
    if first != ExpectedOutcome::Endpoint {
        return Some(Expectation { outcome: Some(first), ..Expectation::default() });
    }
    let mut endpoints = Vec::new();
    for end in &explanation.ends {
        if let Outcome::Endpoint { endpoint, .. } = end.outcome {
            endpoints.push(TextOr::Text(endpoint.to_string()));
        }
    }
    Some(Expectation { endpoints: Some(ListOr::List(endpoints)), ..Expectation::default() })
}
