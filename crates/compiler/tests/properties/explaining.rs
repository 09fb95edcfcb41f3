//! The output of explain follows from the rules.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;

use proptest::prelude::*;
use rulegen_compiler::{ExternalAddress, Plan, iptables, nftables};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::MasqueradeReason;
use rulegen_inspect::explain::{
    Explanation, Outcome, Reason, RemarkSubject, SourceKept, by_ruleset, by_table,
};
use rulegen_model::TrafficPolicy;
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::iptables::parse;
use rulegen_ruleset::{Origin, Packet};
use serde_json::json;

use crate::cluster::{config, objects, plans};
use crate::meaning::{ClientKind, clients, frontends, is_pod, local_addresses};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    fn remarks_follow_from_the_rules(objects in objects(), config in config()) {
        for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
            let config = ProxyConfig {
                mode,
                nftables_masquerade_all: config.masquerade_all,
                nftables_masquerade_bit: config.masquerade_bit,
                ..config.clone()
            };
            for (family, plan) in plans(&objects, &config) {
                let local = local_addresses(family);
                let rules = iptables::ruleset(&plan);
                let table = nftables::table(&plan, &"rulegen".into());
                for service in &plan.services {
                    for (destination, _) in frontends(&plan, service, &local) {
                        for client in clients(family, service) {
                            let packet = Packet {
                                origin: client.origin.clone(),
                                source: client.source,
                                destination,
                                protocol: service.name.protocol,
                            };
                            // With objects, and without any as in `--live`.
                            for known_plan in [Some(&plan), None] {
                                let explanation = match mode {
                                    ProxyMode::Iptables => by_ruleset(&rules, &local, &packet, known_plan),
                                    ProxyMode::Nftables => by_table(&table, &local, &packet, known_plan),
                                };
                                check(&explanation, &plan, &client, known_plan.is_some())?;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Kinds of reasons. Each must occur in a run of the test. Otherwise a check for its absence would
/// always pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReasonKind {
    Masqueraded,
    SourceKept,
    KeptByPolicy,
    KeptForPod,
    KeptWithoutRule,
    Hairpin,
    OutOfRange,
    RulesMissing,
    RefusedByOthers,
}

impl ReasonKind {
    const ALL: [Self; 9] = [
        Self::Masqueraded,
        Self::SourceKept,
        Self::KeptByPolicy,
        Self::KeptForPod,
        Self::KeptWithoutRule,
        Self::Hairpin,
        Self::OutOfRange,
        Self::RulesMissing,
        Self::RefusedByOthers,
    ];

    fn is(self, reason: &Reason) -> bool {
        use MasqueradeReason::Hairpin;
        use SourceKept::{FromPod, NoRule, PolicyLocal};
        match self {
            Self::Masqueraded => {
                matches!(reason, Reason::Masquerade { .. } | Reason::MasqueradedByOthers)
            }
            Self::SourceKept => {
                matches!(reason, Reason::SourceKept { .. } | Reason::NotMasqueraded { .. })
            }
            Self::KeptByPolicy => matches!(reason, Reason::SourceKept { why: PolicyLocal, .. }),
            Self::KeptForPod => matches!(reason, Reason::SourceKept { why: FromPod, .. }),
            Self::KeptWithoutRule => matches!(reason, Reason::SourceKept { why: NoRule, .. }),
            Self::Hairpin => matches!(reason, Reason::Masquerade { reason: Hairpin, .. }),
            Self::OutOfRange => matches!(reason, Reason::SourceRange { .. }),
            Self::RulesMissing => matches!(reason, Reason::MissingRules { .. }),
            Self::RefusedByOthers => matches!(reason, Reason::RefusedByOthers { .. }),
        }
    }
}

/// The kinds of reasons that occurred.
static SEEN: Mutex<BTreeSet<ReasonKind>> = Mutex::new(BTreeSet::new());

fn record(explanation: &Explanation) {
    let has = |kind: &ReasonKind| explanation.remarks.iter().any(|of| kind.is(&of.reason));
    SEEN.lock().unwrap().extend(ReasonKind::ALL.into_iter().filter(has));
}

#[test]
fn explain_remarks_follow_from_rules_hairpin_masquerade_source_ranges() {
    remarks_follow_from_the_rules();
    record_remarks_on_other_rules();
    let seen = SEEN.lock().unwrap();
    let never = ReasonKind::ALL.into_iter().filter(|kind| !seen.contains(kind));
    assert_eq!(never.collect::<Vec<_>>(), [], "these reasons never occurred");
}

/// Remarks on packets that other rules refuse, or that reach a chain without rules.
fn record_remarks_on_other_rules() {
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "a", "labels": {"kubernetes.io/service-name": "a"}},
            "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.244.1.5"]}],
        }),
    ];
    let [(_, plan), _] = plans(&objects, &ProxyConfig::default());
    let rules = iptables::ruleset(&plan).to_text();
    let of_chains = |line: &&str| !line.starts_with("-A KUBE-SVC-");
    let without_choice = rules.lines().filter(of_chains).map(|line| format!("{line}\n")).collect();
    let firewall =
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
            .to_owned();
    for text in [without_choice, firewall] {
        let (rules, errors) = parse(IpFamily::Ipv4, &text);
        assert!(errors.is_empty(), "{errors:?}");
        let packet = Packet {
            origin: Origin::Interface("eth0".to_owned()),
            source: "198.18.0.1".parse().unwrap(),
            destination: "10.96.0.10:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        record(&by_ruleset(&rules, &[], &packet, Some(&plan)));
    }
}

fn check(
    explanation: &Explanation,
    plan: &Plan,
    client: &ClientKind,
    is_planned: bool,
) -> Result<(), TestCaseError> {
    record(explanation);
    let has_remark =
        |kind: ReasonKind| explanation.remarks.iter().any(|remark| kind.is(&remark.reason));
    let is_about =
        |about: &[RemarkSubject]| explanation.remarks.iter().any(|r| about.contains(&r.about));
    let ends =
        |matching: fn(&Outcome) -> bool| explanation.ends.iter().any(|end| matching(&end.outcome));
    let masqueraded = ends(|end| matches!(end, Outcome::Endpoint { masqueraded: true, .. }));
    let kept = ends(|end| matches!(end, Outcome::Endpoint { masqueraded: false, .. }));
    let refused = ends(|end| matches!(end, Outcome::Rejected | Outcome::Dropped));
    let passes = ends(|end| matches!(end, Outcome::Passes { .. }));

    let all: f64 = explanation.ends.iter().map(|end| end.probability.value).sum();
    prop_assert!((all - 1.0).abs() < 1e-9, "{all}: {explanation:#?}");
    prop_assert_eq!(
        refused,
        is_about(&[RemarkSubject::NoEndpoints, RemarkSubject::Refusal]),
        "{:#?}",
        explanation
    );
    prop_assert_eq!(passes, is_about(&[RemarkSubject::NoService]), "{:#?}", explanation);
    prop_assert_eq!(masqueraded, has_remark(ReasonKind::Masqueraded), "{:#?}", explanation);
    prop_assert_eq!(kept, has_remark(ReasonKind::SourceKept), "{:#?}", explanation);

    let policy = explanation.frontend.as_ref().and_then(|frontend| frontend.policy);
    if has_remark(ReasonKind::KeptByPolicy) {
        prop_assert_eq!(policy, Some(TrafficPolicy::Local), "{:#?}", explanation);
    }
    if has_remark(ReasonKind::KeptForPod) {
        prop_assert!(is_pod(plan, client), "{explanation:#?}");
    }
    if has_remark(ReasonKind::Hairpin) {
        let itself = explanation.ends.iter().any(|end| match end.outcome {
            Outcome::Endpoint { endpoint, masqueraded } => {
                masqueraded && endpoint.ip() == client.source
            }
            _ => false,
        });
        prop_assert!(itself, "{explanation:#?}");
    }
    if has_remark(ReasonKind::OutOfRange) {
        prop_assert!(!is_in_range(plan, explanation, client.source), "{explanation:#?}");
    }
    prop_assert!(!has_remark(ReasonKind::RefusedByOthers), "{explanation:#?}");
    if is_planned {
        prop_assert!(!has_remark(ReasonKind::RulesMissing), "{explanation:#?}");
        prop_assert!(!has_remark(ReasonKind::KeptWithoutRule), "{explanation:#?}");
    }
    Ok(())
}

fn is_in_range(plan: &Plan, explanation: &Explanation, source: IpAddr) -> bool {
    let at = |address: &ExternalAddress| matches!(address, ExternalAddress::LoadBalancerIp(ip) if *ip == explanation.packet.to.ip());
    let external = plan.services.iter().filter_map(|service| service.external.as_ref());
    let firewalls = external.filter(|of| of.addresses.iter().any(at));
    let mut ranges =
        firewalls.filter_map(|of| of.firewall.as_ref()).flat_map(|f| f.source_ranges.iter());
    ranges.any(|range| range.contains(&source))
}
