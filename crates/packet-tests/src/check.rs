//! Compares what happens to a packet with what must happen.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rulegen_compiler::ServicePlan;
use rulegen_inspect::explain::{End, Explanation, Outcome};
use rulegen_model::{LoadBalancing, Node, Objects, ServicePort};
use rulegen_net::IpFamily;
use serde::Serialize;

use crate::change::{EndpointMatcher, NO_ENDPOINT};
use crate::file::{
    EndpointSet, Expectation, ExpectedChance, ExpectedChances, ExpectedEndpoints, ExpectedOutcome,
    ProbabilityValue,
};
use crate::flexible::{ListOr, TextOr};
use crate::node_rules::NodeRules;
use crate::problem::FileProblem;

/// A part of an expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The field of `expect`; `rules` or `conditions` if the rules in the kernel do not decide it.
    pub field: &'static str,
    /// What must happen.
    pub expected: String,
    /// What happens.
    pub actual: String,
}

/// Rules of iptables choose with random numbers of 31 bits, one rule after the other. The error of a
/// chain of some thousand rules is below this.
const RESOLUTION: f64 = 1e-6;

/// An expectation whose names were found in the input.
pub(crate) struct ExpectationChecks {
    outcome: Option<ExpectedOutcome>,
    endpoints: Option<EndpointsCheck>,
    chances: Option<Chances>,
    masqueraded: Option<bool>,
    source: Option<ExpectedSource>,
    same_endpoint: Option<bool>,
}

/// Endpoints with the text of the test file.
struct NamedEndpoints {
    name: String,
    matcher: EndpointMatcher,
}

enum EndpointsCheck {
    Exactly(Vec<NamedEndpoints>),
    Conditions { all: bool, only: Option<Vec<NamedEndpoints>>, at_least: Option<usize> },
}

enum Chances {
    Of(Vec<(NamedEndpoints, String, f64, f64)>),
    Equal { equal: bool, within: f64 },
}

enum ExpectedSource {
    Client,
    Node,
    Address(IpAddr),
}

impl ExpectationChecks {
    /// Finds the names in the input as it was before changes: the endpoints of a lost zone have names.
    pub(crate) fn of(expect: &Expectation, objects: &Objects) -> Result<Self, FileProblem> {
        if *expect == Expectation::default() {
            return Err(FileProblem::of("expect", "nothing is expected: set at least one field"));
        }
        Ok(Self {
            outcome: expect.outcome,
            endpoints: expect.endpoints.as_ref().map(|of| endpoints(of, objects)).transpose()?,
            chances: expect.chances.as_ref().map(|of| chances(of, objects)).transpose()?,
            masqueraded: expect.masqueraded,
            source: expect.source_seen.as_deref().map(source).transpose()?,
            same_endpoint: expect.same_endpoint_again,
        })
    }

    /// Refuses an expected source address that depends on the route: the kernel chooses it.
    pub(crate) fn check_source(&self, node: &Node) -> Result<(), FileProblem> {
        let Some(ExpectedSource::Address(ip)) = &self.source else { return Ok(()) };
        let message = || {
            format!(
                "{ip} is an address of node {:?}, and the kernel chooses one by the route: use \
                 node, or client if the node itself is the sender",
                node.name
            )
        };
        match node.has_address(*ip) {
            true => Err(FileProblem::of("expect.sourceSeen", message())),
            false => Ok(()),
        }
    }

    /// What does not hold.
    pub(crate) fn mismatches(
        &self,
        explanation: &Explanation,
        node_rules: &NodeRules,
    ) -> Vec<Mismatch> {
        let seen = Observed::of(explanation, node_rules);
        let outcome = self.outcome.and_then(|wanted| seen.outcome(wanted));
        let endpoints = self.endpoints.iter().flat_map(|wanted| seen.endpoints(wanted));
        let chances = self.chances.iter().flat_map(|wanted| seen.chances(wanted));
        let masqueraded = self.masqueraded.and_then(|wanted| seen.masqueraded(wanted));
        let source = self.source.as_ref().and_then(|wanted| seen.source(wanted));
        let same = self.same_endpoint.and_then(|wanted| seen.same_endpoint(wanted));
        outcome
            .into_iter()
            .chain(endpoints)
            .chain(chances)
            .chain(masqueraded)
            .chain(source)
            .chain(same)
            .collect()
    }
}

fn called(
    of: &TextOr<EndpointSet>,
    field: &str,
    objects: &Objects,
) -> Result<NamedEndpoints, FileProblem> {
    let matcher =
        EndpointMatcher::find(of, objects).map_err(|message| FileProblem::of(field, message))?;
    let name = match of {
        TextOr::Text(text) => text.clone(),
        TextOr::Fields(EndpointSet { node: Some(node), .. }) => format!("those of node {node}"),
        TextOr::Fields(EndpointSet { zone, .. }) => {
            format!("those of zone {}", zone.as_deref().unwrap_or_default())
        }
    };
    Ok(NamedEndpoints { name, matcher })
}

fn all_called(
    of: &[TextOr<EndpointSet>],
    field: &str,
    objects: &Objects,
) -> Result<Vec<NamedEndpoints>, FileProblem> {
    let one =
        |(n, of): (usize, &TextOr<EndpointSet>)| called(of, &format!("{field}[{n}]"), objects);
    of.iter().enumerate().map(one).collect()
}

fn endpoints(
    of: &ListOr<TextOr<EndpointSet>, ExpectedEndpoints>,
    objects: &Objects,
) -> Result<EndpointsCheck, FileProblem> {
    match of {
        ListOr::List(list) => {
            all_called(list, "expect.endpoints", objects).map(EndpointsCheck::Exactly)
        }
        ListOr::Fields(ExpectedEndpoints {
            all: None | Some(false),
            only: None,
            at_least: None,
        }) => Err(FileProblem::of("expect.endpoints", "set all: true, only or atLeast")),
        ListOr::Fields(ExpectedEndpoints { at_least: Some(0), .. }) => {
            let message =
                "0 always holds: use 1 or more, or outcome if no endpoint must be reached";
            Err(FileProblem::of("expect.endpoints.atLeast", message))
        }
        ListOr::Fields(ExpectedEndpoints { all, only, at_least }) => {
            Ok(EndpointsCheck::Conditions {
                all: *all == Some(true),
                only: only
                    .as_ref()
                    .map(|only| all_called(only, "expect.endpoints.only", objects))
                    .transpose()?,
                at_least: *at_least,
            })
        }
    }
}

fn chances(
    of: &ListOr<ExpectedChance, ExpectedChances>,
    objects: &Objects,
) -> Result<Chances, FileProblem> {
    let list = match of {
        ListOr::Fields(ExpectedChances { equal, within }) => {
            let within = checked_within(*within, "expect.chances")?;
            return Ok(Chances::Equal { equal: *equal, within });
        }
        ListOr::List(list) if list.is_empty() => {
            let message = "empty: name at least one endpoint with its chance";
            return Err(FileProblem::of("expect.chances", message));
        }
        ListOr::List(list) => list,
    };
    let one = |(n, of): (usize, &ExpectedChance)| {
        let field = |name| format!("expect.chances[{n}].{name}");
        let text = match &of.chance {
            ProbabilityValue::Number(number) => number.to_string(),
            ProbabilityValue::Fraction(text) => text.clone(),
        };
        let value = fraction(&text).ok_or_else(|| {
            let message =
                format!("{text:?} is not a fraction such as 1/3, or a number from 0 to 1");
            FileProblem::of(field("chance"), message)
        })?;
        let called = called(&of.endpoint, &field("endpoint"), objects)?;
        // With the chance 0, a misspelt address would pass.
        if !called.matcher.is_in(objects) {
            return Err(FileProblem::of(field("endpoint"), NO_ENDPOINT));
        }
        let within = checked_within(of.within, &format!("expect.chances[{n}]"))?;
        Ok((called, text, value, within))
    };
    list.iter().enumerate().map(one).collect::<Result<_, _>>().map(Chances::Of)
}

fn checked_within(within: Option<f64>, field: &str) -> Result<f64, FileProblem> {
    match within {
        Some(within) if !(0.0..=1.0).contains(&within) => {
            let message = format!("{within} is not a number from 0 to 1");
            Err(FileProblem::of(format!("{field}.within"), message))
        }
        within => Ok(within.unwrap_or(RESOLUTION)),
    }
}

/// Reads `1/3`, `1 in 3` or `0.25`.
fn fraction(text: &str) -> Option<f64> {
    let parts = text.split_once('/').or_else(|| text.split_once(" in "));
    let value = match parts {
        Some((above, below)) => {
            above.trim().parse::<f64>().ok()? / below.trim().parse::<f64>().ok()?
        }
        None => text.trim().parse().ok()?,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}

fn source(text: &str) -> Result<ExpectedSource, FileProblem> {
    match text {
        "client" => Ok(ExpectedSource::Client),
        "node" => Ok(ExpectedSource::Node),
        text => text.parse().map(ExpectedSource::Address).map_err(|_| {
            let message = format!("{text:?} is not client, node or an IP address");
            FileProblem::of("expect.sourceSeen", message)
        }),
    }
}

/// What happens to a packet.
struct Observed<'a> {
    explanation: &'a Explanation,
    ends: &'a [End],
    /// The Service port that it reaches, with its plan.
    port: Option<&'a ServicePort>,
    plan: Option<&'a ServicePlan>,
    node_rules: &'a NodeRules,
}

impl<'a> Observed<'a> {
    fn of(explanation: &'a Explanation, node_rules: &'a NodeRules) -> Self {
        let family = IpFamily::of(explanation.packet.from);
        let name = explanation.frontend.as_ref().map(|frontend| &frontend.service);
        let port = name.and_then(|name| node_rules.port(name, family));
        let plan = name.and_then(|name| node_rules.plan(family).service(name));
        Self { explanation, ends: &explanation.ends, port, plan, node_rules }
    }

    fn reached(&self) -> BTreeSet<SocketAddr> {
        self.ends.iter().filter_map(|end| endpoint(end.outcome)).collect()
    }

    fn outcome(&self, wanted: ExpectedOutcome) -> Option<Mismatch> {
        let holds = self.ends.iter().all(|end| is(end.outcome, wanted));
        (!holds || self.ends.is_empty()).then(|| Mismatch {
            field: "outcome",
            expected: word(wanted).to_owned(),
            actual: self.outcomes(),
        })
    }

    /// The outcomes in words, each once.
    fn outcomes(&self) -> String {
        let words: BTreeSet<&str> = self.ends.iter().map(|end| outcome_word(end.outcome)).collect();
        words.into_iter().collect::<Vec<_>>().join(" or ")
    }

    fn endpoints(&self, wanted: &EndpointsCheck) -> Vec<Mismatch> {
        let reached = self.reached();
        let mismatch = |expected: String| Mismatch {
            field: "endpoints",
            expected,
            actual: self.endpoints_in_words(&reached),
        };
        match wanted {
            EndpointsCheck::Exactly(wanted) => {
                let has = |called: &NamedEndpoints| reached.iter().any(|at| called.has(at));
                // A place stands for all endpoints of the Service port there.
                let all: BTreeSet<SocketAddr> =
                    wanted.iter().flat_map(|of| self.meant(of)).collect();
                let holds = reached.iter().all(|at| wanted.iter().any(|of| of.has(at)))
                    && wanted.iter().all(has)
                    && all.is_subset(&reached);
                let not_reached: Vec<SocketAddr> = all.difference(&reached).copied().collect();
                let expected = || match not_reached.is_empty() {
                    true => format!("exactly {}", names(wanted)),
                    false => {
                        format!("exactly {}, also {}", names(wanted), self.states(&not_reached))
                    }
                };
                (!holds).then(|| mismatch(expected())).into_iter().collect()
            }
            EndpointsCheck::Conditions { all, only, at_least } => {
                let ready = self.ready();
                let all = (*all && (ready.is_empty() || !ready.is_subset(&reached)))
                    .then(|| mismatch(format!("all ready endpoints: {}", listed(&ready))));
                let only = only.as_ref().filter(|only| {
                    reached.is_empty() || !reached.iter().all(|at| only.iter().any(|of| of.has(at)))
                });
                let only = only.map(|only| mismatch(format!("only {}", names(only))));
                let at_least = at_least.filter(|wanted| reached.len() < *wanted);
                let at_least = at_least.map(|wanted| mismatch(format!("at least {wanted}")));
                all.into_iter().chain(only).chain(at_least).collect()
            }
        }
    }

    /// Endpoints, with those that are not ready marked.
    fn states(&self, endpoints: &[SocketAddr]) -> String {
        let ready = self.ready();
        joined(endpoints.iter().map(|at| match ready.contains(at) {
            true => at.to_string(),
            false => format!("{at} (not ready)"),
        }))
    }

    fn endpoints_in_words(&self, reached: &BTreeSet<SocketAddr>) -> String {
        match reached.is_empty() {
            true => format!("none: {}", self.outcomes()),
            false => listed(reached),
        }
    }

    fn ready(&self) -> BTreeSet<SocketAddr> {
        let all = self.port.iter().flat_map(|port| &port.endpoints);
        all.filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.address).collect()
    }

    /// The endpoints of the Service port at a place.
    fn meant(&self, called: &NamedEndpoints) -> Vec<SocketAddr> {
        let all = self.port.iter().flat_map(|port| &port.endpoints).map(|of| of.address);
        all.filter(|at| matches!(called.matcher, EndpointMatcher::Any(_)) && called.has(at))
            .collect()
    }

    fn chances(&self, wanted: &Chances) -> Vec<Mismatch> {
        match wanted {
            Chances::Of(_) | Chances::Equal { equal: false, .. } if self.reached().is_empty() => {
                vec![Mismatch {
                    field: "chances",
                    expected: "an endpoint is reached".to_owned(),
                    actual: self.outcomes(),
                }]
            }
            Chances::Of(wanted) => wanted
                .iter()
                .filter_map(|(called, text, value, within)| {
                    let actual = self.chance(called);
                    ((actual - value).abs() > *within).then(|| Mismatch {
                        field: "chances",
                        expected: format!("{text} for {}{}", called.name, within_text(*within)),
                        actual: format!("{actual:.6}"),
                    })
                })
                .collect(),
            Chances::Equal { equal, within } => {
                let values: Vec<f64> = self.ends.iter().map(|end| end.probability.value).collect();
                let largest = values.iter().copied().fold(f64::MIN, f64::max);
                let smallest = values.iter().copied().fold(f64::MAX, f64::min);
                let reaches = self.ends.iter().all(|end| endpoint(end.outcome).is_some());
                let holds = reaches && !values.is_empty() && largest - smallest <= *within;
                (holds != *equal)
                    .then(|| Mismatch {
                        field: "chances",
                        expected: match equal {
                            true => format!("equal{}", within_text(*within)),
                            false => format!("not equal{}", within_text(*within)),
                        },
                        actual: match reaches {
                            true => format!("from {smallest:.6} to {largest:.6}"),
                            false => self.outcomes(),
                        },
                    })
                    .into_iter()
                    .collect()
            }
        }
    }

    fn chance(&self, called: &NamedEndpoints) -> f64 {
        let ends = self
            .ends
            .iter()
            .filter(|end| endpoint(end.outcome).is_some_and(|endpoint| called.has(&endpoint)));
        ends.map(|end| end.probability.value).sum()
    }

    /// Whether it is masqueraded in all cases, or in none. `None` if it does not arrive, or both.
    fn masquerade(&self) -> Option<bool> {
        let one = |end: &End| match end.outcome {
            Outcome::Endpoint { masqueraded, .. } | Outcome::Passes { masqueraded } => {
                Some(masqueraded)
            }
            Outcome::Rejected | Outcome::Dropped | Outcome::Unreachable => None,
        };
        let first = one(self.ends.first()?)?;
        self.ends.iter().all(|end| one(end) == Some(first)).then_some(first)
    }

    fn masqueraded(&self, wanted: bool) -> Option<Mismatch> {
        let actual = self.masquerade();
        (actual != Some(wanted)).then(|| Mismatch {
            field: "masqueraded",
            expected: wanted.to_string(),
            actual: match actual {
                Some(actual) => actual.to_string(),
                None => self.not_the_same(),
            },
        })
    }

    fn not_the_same(&self) -> String {
        let arrives =
            |end: &End| matches!(end.outcome, Outcome::Endpoint { .. } | Outcome::Passes { .. });
        match self.ends.iter().all(arrives) {
            true => "only on the way to some endpoints".to_owned(),
            false => self.outcomes(),
        }
    }

    fn source(&self, wanted: &ExpectedSource) -> Option<Mismatch> {
        let masqueraded = self.masquerade();
        let (from, node) = (self.explanation.packet.from, &self.node_rules.snapshot.node);
        let holds = match (wanted, masqueraded) {
            (_, None) => false,
            (ExpectedSource::Client, Some(masqueraded)) => !masqueraded,
            (ExpectedSource::Node, Some(masqueraded)) => masqueraded,
            // Not one of the node's.
            (ExpectedSource::Address(_), Some(true)) => false,
            (ExpectedSource::Address(ip), Some(false)) => *ip == from,
        };
        let address = node.addresses(IpFamily::of(from)).primary;
        (!holds).then(|| Mismatch {
            field: "sourceSeen",
            expected: match wanted {
                ExpectedSource::Client => format!("client ({from})"),
                ExpectedSource::Node => format!("node ({address})"),
                ExpectedSource::Address(ip) => ip.to_string(),
            },
            actual: match masqueraded {
                Some(true) => format!("node ({address})"),
                Some(false) => format!("client ({from})"),
                None => self.not_the_same(),
            },
        })
    }

    fn same_endpoint(&self, wanted: bool) -> Option<Mismatch> {
        let is_hashed =
            |plan: &ServicePlan| plan.first_choice(self.node_rules.mode) == LoadBalancing::Maglev;
        let keeps =
            self.plan.is_some_and(|plan| plan.affinity_seconds.is_some() || is_hashed(plan));
        let reached = self.reached();
        let actual = !reached.is_empty() && (keeps || reached.len() == 1);
        (actual != wanted || reached.is_empty()).then(|| Mismatch {
            field: "sameEndpointAgain",
            expected: wanted.to_string(),
            actual: match (reached.is_empty(), keeps) {
                (true, _) => self.outcomes(),
                (false, true) => "true: the Service keeps the endpoint of a client".to_owned(),
                (false, false) if reached.len() == 1 => {
                    "true: there is only one endpoint".to_owned()
                }
                (false, false) => {
                    "false: each connection chooses again (sessionAffinity: None)".to_owned()
                }
            },
        })
    }
}

impl NamedEndpoints {
    fn has(&self, at: &SocketAddr) -> bool {
        self.matcher.has(at.ip(), Some(at.port()))
    }
}

fn endpoint(outcome: Outcome) -> Option<SocketAddr> {
    match outcome {
        Outcome::Endpoint { endpoint, .. } => Some(endpoint),
        Outcome::Passes { .. } | Outcome::Rejected | Outcome::Dropped | Outcome::Unreachable => {
            None
        }
    }
}

fn is(outcome: Outcome, wanted: ExpectedOutcome) -> bool {
    match wanted {
        ExpectedOutcome::Endpoint => matches!(outcome, Outcome::Endpoint { .. }),
        ExpectedOutcome::Passes => matches!(outcome, Outcome::Passes { .. }),
        ExpectedOutcome::Rejected => outcome == Outcome::Rejected,
        ExpectedOutcome::Dropped => outcome == Outcome::Dropped,
        ExpectedOutcome::Refused => matches!(outcome, Outcome::Rejected | Outcome::Dropped),
    }
}

fn word(outcome: ExpectedOutcome) -> &'static str {
    match outcome {
        ExpectedOutcome::Endpoint => "endpoint",
        ExpectedOutcome::Passes => "passes",
        ExpectedOutcome::Rejected => "rejected",
        ExpectedOutcome::Dropped => "dropped",
        ExpectedOutcome::Refused => "refused (rejected or dropped)",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Endpoint { .. } => "endpoint",
        Outcome::Passes { .. } => "passes",
        Outcome::Rejected => "rejected",
        Outcome::Dropped => "dropped",
        Outcome::Unreachable => "unreachable",
    }
}

fn within_text(within: f64) -> String {
    if within == RESOLUTION { String::new() } else { format!(" within {within}") }
}

fn names(all: &[NamedEndpoints]) -> String {
    joined(all.iter().map(|called| called.name.clone()))
}

fn listed(all: &BTreeSet<SocketAddr>) -> String {
    joined(all.iter().map(SocketAddr::to_string))
}

/// At most ten items: a Service may have thousands.
fn joined(all: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 10;
    let all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(SHOWN);
    let shown: Vec<String> = all.into_iter().take(SHOWN).collect();
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
