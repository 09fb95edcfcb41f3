//! What else is on the machine: another agent.

use crate::namespace::Namespace;
use crate::running_agent::{Agent, Manifests, service};

#[test]
fn the_second_agent_of_a_network_namespace_ends() {
    let space = Namespace::new("two");
    let manifests = Manifests::new(&space);
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    let mut first = Agent::start(&space, &manifests, "");
    first.wait_until_right();

    let flags = "--proxy-mode nftables --nftables-table other --hostname-override node-1";
    let program = env!("CARGO_BIN_EXE_rulegen");
    let folder = manifests.path.display();
    let second = space.shell(&format!("timeout 20 {program} agent --manifests {folder} {flags}"));
    let said = crate::common::stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let pid = first.process().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        said.contains("another rulegen agent") && said.contains(&format!("pid {pid},")),
        "{said}"
    );
    assert!(!space.run("nft list tables").contains("other"), "it wrote rules");
    assert_eq!(first.ended(), None);

    // In another network namespace it does not matter.
    let elsewhere = Namespace::new("three");
    let manifests_there = Manifests::new(&elsewhere);
    Agent::start(&elsewhere, &manifests_there, "").wait_for_log("all objects are known");

    // A kill frees the lock at once.
    for _ in 0..3 {
        first.kill();
        first = Agent::start(&space, &manifests, "");
        first.wait_for_log("all objects are known");
        assert_eq!(first.ended(), None);
    }
}
