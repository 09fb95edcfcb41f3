//! What explain says follows from the rules.

use std::net::IpAddr;

use proptest::prelude::*;
use rulegen_compiler::{ExternalAddress, Plan, iptables, nftables};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{About, Explanation, Outcome, by_ruleset, by_table};
use rulegen_model::TrafficPolicy;
use rulegen_ruleset::Packet;

use crate::cluster::{config, objects, plans};
use crate::meaning::{Client, clients, frontends, is_pod, local_addresses};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn sentences_follow_from_the_rules(objects in objects(), config in config()) {
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
                            // With objects, and as it is told live without any.
                            for known in [Some(&plan), None] {
                                let told = match mode {
                                    ProxyMode::Iptables => by_ruleset(&rules, &local, &packet, known),
                                    ProxyMode::Nftables => by_table(&table, &local, &packet, known),
                                };
                                check(&told, &plan, &client, known.is_some())?;
                            }
                        }
                    }
                }
            }
        }
    }
}

fn check(
    told: &Explanation,
    plan: &Plan,
    client: &Client,
    is_planned: bool,
) -> Result<(), TestCaseError> {
    let says = |words: &str| told.remarks.iter().any(|remark| remark.text.contains(words));
    let is_about = |about: &[About]| told.remarks.iter().any(|r| about.contains(&r.about));
    let ends = |matching: fn(&Outcome) -> bool| told.ends.iter().any(|end| matching(&end.outcome));
    let masqueraded = ends(|end| matches!(end, Outcome::Endpoint { masqueraded: true, .. }));
    let kept = ends(|end| matches!(end, Outcome::Endpoint { masqueraded: false, .. }));
    let refused = ends(|end| matches!(end, Outcome::Rejected | Outcome::Dropped));
    let passes = ends(|end| matches!(end, Outcome::Passes { .. }));

    let all: f64 = told.ends.iter().map(|end| end.probability.value).sum();
    prop_assert!((all - 1.0).abs() < 1e-9, "{all}: {told:#?}");
    prop_assert_eq!(refused, is_about(&[About::NoEndpoints, About::Refusal]), "{:#?}", told);
    prop_assert_eq!(passes, is_about(&[About::NoService]), "{:#?}", told);
    prop_assert_eq!(masqueraded, says("the node's address"), "{:#?}", told);
    let sees = format!("the endpoint sees {} as its client", client.source);
    prop_assert_eq!(kept, says(&sees), "{:#?}", told);

    let policy = told.frontend.as_ref().and_then(|frontend| frontend.policy);
    if says("externalTrafficPolicy Local keeps it") {
        prop_assert_eq!(policy, Some(TrafficPolicy::Local), "{:#?}", told);
    }
    if says("it comes from a pod") {
        prop_assert!(is_pod(plan, client), "{told:#?}");
    }
    if says("reaches itself") {
        let itself = told.ends.iter().any(|end| match end.outcome {
            Outcome::Endpoint { endpoint, masqueraded } => {
                masqueraded && endpoint.ip() == client.source
            }
            _ => false,
        });
        prop_assert!(itself, "{told:#?}");
    }
    if says("is in none of them") {
        prop_assert!(!is_in_range(plan, told, client.source), "{told:#?}");
    }
    prop_assert!(!says("no rule of a Service does it"), "{told:#?}");
    if is_planned {
        prop_assert!(!says("rules here do not lead"), "{told:#?}");
        prop_assert!(!says("no rule here masquerades"), "{told:#?}");
    }
    Ok(())
}

fn is_in_range(plan: &Plan, told: &Explanation, source: IpAddr) -> bool {
    let at = |address: &ExternalAddress| matches!(address, ExternalAddress::LoadBalancerIp(ip) if *ip == told.packet.to.ip());
    let external = plan.services.iter().filter_map(|service| service.external.as_ref());
    let firewalls = external.filter(|of| of.addresses.iter().any(at));
    let mut ranges =
        firewalls.filter_map(|of| of.firewall.as_ref()).flat_map(|f| f.source_ranges.iter());
    ranges.any(|range| range.contains(&source))
}
