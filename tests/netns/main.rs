//! Rules in the kernel: network namespaces with real packets.
//!
//! Needs root, iproute2, nft and both variants of iptables (`ci/test` installs them), and fails
//! without them. Every namespace is created by the tests, has its own iptables lock file, and is
//! removed even if the tests are killed. No packet leaves the namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failed test panics"
)]

#[path = "../common/mod.rs"]
mod common;

mod affinity;
mod agent;
mod agent_alone;
mod agent_conntrack;
mod agent_drift;
mod agent_iptables;
mod agent_other_mode;
mod agent_under_load;
mod apply;
mod apply_refused;
mod apply_removal;
#[path = "../../crates/compiler/tests/properties/cluster.rs"]
#[allow(dead_code, reason = "the property tests use the rest")]
mod cluster;
mod comparison;
mod conntrack;
mod descriptors;
mod doctor;
mod explain;
mod explain_host;
mod explain_interface;
mod faults;
mod firewalls;
mod half_open;
mod help;
mod host;
mod kube_proxy;
mod list;
mod modes;
mod names;
mod namespace;
mod nftables;
mod other_rules;
mod packet_docs;
mod packet_tests;
mod packets;
mod refusals;
mod restore;
mod running_agent;
mod seccomp;
mod topology;
mod trace;
mod traffic;
