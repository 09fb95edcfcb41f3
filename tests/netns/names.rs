//! Program names with characters that must be escaped.

use std::fs;

use crate::namespace::Namespace;
use crate::running_agent::{Agent, METRICS_PORT, Manifests, eventually, service};

#[test]
fn drift_program_name_is_escaped_in_pages_metrics_and_log() {
    let node = Namespace::new("names");
    let manifests = Manifests::new(&node);
    manifests.put("one.yaml", &service(1, &["10.0.0.1"]));
    let agent = Agent::start(&node, &manifests, "");
    agent.wait_until_in_sync();
    let nft = node.run("command -v nft");
    let evil = node.folder("bin").join("\x1b[31m<b>\u{202e}'");
    fs::copy(nft.trim(), &evil).unwrap();
    let script = node.file("evil.sh", "\"$0\" add chain ip rulegen evil\n");
    let program = evil.to_str().unwrap().replace('\'', r"'\''");
    node.run(&format!("sh -c \"$(cat {script})\" '{program}'"));
    eventually("the drift is repaired", || agent.metric("rulegen_drift_repairs_total") > 0.0);
    let name = r"\u{1b}[31m\u{3c}b\u{3e}";
    for (path, shown) in [
        ("/metrics", name.replace('\\', r"\\")),
        ("/drift", name.to_owned()),
        ("/", name.to_owned()),
        ("/drift?format=json", name.replace('\\', r"\\")),
    ] {
        let (status, body) = agent.get(METRICS_PORT, path).unwrap();
        assert_eq!(status, 200, "{path}");
        assert!(body.contains(&shown), "{path}: {body}");
        for raw in ["\x1b", "31m<b>", "\u{202e}"] {
            assert!(!body.contains(raw), "{path}: {body:?}");
        }
    }
    let log = agent.log();
    assert!(log.contains("another program changed our rules"), "{log}");
    assert!(!log.contains('\x1b') && !log.contains('\u{202e}'), "{log:?}");
}
