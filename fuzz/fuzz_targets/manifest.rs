//! Parses any bytes as a manifest and as a configuration. Nothing may panic, and the resulting
//! rules must parse as they were printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rulegen_compiler::iptables::ruleset;
use rulegen_compiler::plan;
use rulegen_config::{ProxyConfig, read_config};
use rulegen_model::{Host, IfEmpty, Objects, read_manifest, snapshot};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::parse;

fuzz_target!(|input: &[u8]| {
    let config = ProxyConfig::from(&read_config("fuzz", input).0.with_defaults());
    let mut objects = Objects::default();
    let mut problems = read_manifest("fuzz", input, &mut objects);
    problems.extend(objects.complete(IfEmpty::Refuse));
    for problem in problems {
        assert!(!problem.to_string().contains('\n'));
    }
    let (snapshot, _) = snapshot(&objects, &config.snapshot_options(), &Host::default());
    for family in IpFamily::BOTH {
        let rules = ruleset(&plan(&snapshot, &config, family));
        let (back, errors) = parse(rules.family, &rules.to_text());
        assert_eq!(errors, vec![]);
        assert_eq!(back, rules);
    }
});
