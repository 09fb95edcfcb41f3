//! Parses any text as output of iptables-save. Nothing may panic, the printed ruleset must parse to
//! the same ruleset, and neither a diff nor a cleanup may change foreign rules.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rulegen_compiler::iptables::{OURS, removal_of_everything, ruleset};
use rulegen_compiler::plan;
use rulegen_config::ProxyConfig;
use rulegen_model::{Host, Objects, snapshot};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{diff, parse};

fuzz_target!(|input: &str| {
    let (held, _) = parse(IpFamily::Ipv4, input);
    let (again, errors) = parse(IpFamily::Ipv4, &held.to_text());
    assert_eq!(errors, vec![]);
    assert_eq!(again, held);

    let config = ProxyConfig::default();
    let (snapshot, _) = snapshot(&Objects::default(), &config.snapshot_options(), &Host::default());
    let wanted = ruleset(&plan(&snapshot, &config, IpFamily::Ipv4));
    let mut after = held.clone();
    diff(&held, &wanted, &OURS).apply(&mut after);
    assert!(diff(&after, &wanted, &OURS).is_empty());
    let mut clean = after.clone();
    removal_of_everything(&after).0.apply(&mut clean);
    assert!(removal_of_everything(&clean).0.is_empty());
});
