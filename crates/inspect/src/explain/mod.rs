//! Explains what happens to a packet in terms of Services, for rules of either backend, compiled or
//! read from a kernel.
//!
//! ```text
//! iptables::Ruleset ─trace─▶ branches ─meaning─┐
//!                                              ├─▶ HostPath of each branch ─▶ Explanation
//! nftables::Table   ─trace─▶ branches ─meaning─┘        ▲
//!                                       Plan, if known ─┘
//! ```
//!
//! `rule_role` has the meaning of each rule. The reasons are typed; `words` has their English.

pub(crate) mod cause;
mod cluster;
pub(crate) mod conditions;
mod destination;
pub(crate) mod explanation;
mod groups;
mod host_path;
mod masquerade_mark;
pub(crate) mod network;
pub(crate) mod no_address;
mod origin;
pub(crate) mod outcome;
pub(crate) mod packet;
mod path;
pub(crate) mod reason;
pub(crate) mod remark;
mod remarks;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use rulegen_ruleset::Packet;
use rulegen_ruleset::iptables::{self, Ruleset, TracedHost};
use rulegen_ruleset::nftables::{self, Table};

pub use cause::Cause;
pub use cluster::{ObjectFacts, service_state};
pub use conditions::EndCondition;
pub use destination::{Destination, InvalidDestination, resolve, resolve_ip};
pub use explanation::{Chance, End, Explanation, PassedRule, ReachedFrontend, UnusedAddress};
pub use groups::{EndGroup, EndGroups};
pub use network::{
    HairpinFact, HostNetwork, PathObstacle, PathStage, RouteFact, RouteFailure, RouteInput,
    RouteQuery,
};
pub use no_address::{NoPort, ServiceState, UnresolvedService};
pub use origin::origin_by_input;
pub use outcome::Outcome;
pub use packet::{Sender, ShownPacket};
use path::PacketPath;
pub use reason::{
    Affinity, Client, InnerClient, Obstructed, PolicyField, PortsThere, Reason, RemarkSubject,
    SourceKept, TableEffect, TableRule, UsedEndpoints,
};
pub use remark::Remark;
use remarks::Remarks;
use rulegen_compiler::Plan;

pub use crate::rule_role::{RuleRole, RuleServicePort};

/// Explains what iptables rules do with the first packet of a connection from a client not seen
/// before. `local` are the host's own addresses. With a plan, the explanation includes facts that
/// rules do not show.
pub fn by_ruleset(
    ruleset: &Ruleset,
    local: &[IpAddr],
    packet: &Packet,
    plan: Option<&Plan>,
) -> Explanation {
    by_ruleset_on(ruleset, &TracedHost { local, out_interface: &|_| None }, packet, plan)
}

/// Explains like [`by_ruleset`], on a host whose routes are known.
pub fn by_ruleset_on(
    ruleset: &Ruleset,
    host: &TracedHost<'_>,
    packet: &Packet,
    plan: Option<&Plan>,
) -> Explanation {
    let trace = iptables::trace_on(ruleset, host, packet);
    let unknown = trace.unknown.iter().map(path::rule_of_iptables).collect();
    let ways = PacketPath::of_iptables(trace.branches, packet.protocol);
    let mut explanation = explained(packet, host.local, ways, unknown, plan);
    explanation.masquerade_mark = masquerade_mark::of_ruleset(ruleset);
    explanation.depends_on_interface(&trace.interfaces, plan);
    explanation
}

/// Explains what an nftables table does with the packet, as [`by_ruleset`]. Other tables are
/// evaluated by [`Explanation::on_host`].
pub fn by_table(
    table: &Table,
    local: &[IpAddr],
    packet: &Packet,
    plan: Option<&Plan>,
) -> Explanation {
    let trace = nftables::trace(table, local, packet);
    let ways = PacketPath::of_nftables(trace.branches, table, packet.protocol);
    let mut explanation = explained(packet, local, ways, Vec::new(), plan);
    explanation.masquerade_mark = masquerade_mark::of_table(table);
    explanation.depends_on_interface(&trace.interfaces, plan);
    explanation
}

fn explained(
    packet: &Packet,
    local: &[IpAddr],
    mut ways: Vec<PacketPath>,
    unknown: Vec<PassedRule>,
    plan: Option<&Plan>,
) -> Explanation {
    ways.sort_by_key(|way| way.verdict);
    let frontend = path::frontend(&ways, packet, local, plan);
    let service = frontend.as_ref().and_then(|frontend| path::planned(&frontend.service, plan));
    let known = Remarks { packet, local, ways: &ways, frontend: frontend.as_ref(), service, plan };
    let remarks = known.all();
    let (rules, ends, behind) = path::parted(ways);
    let packet = ShownPacket::from(packet);
    let mut explanation =
        Explanation { packet, frontend, remarks, rules, ends, behind, unknown, masquerade_mark: 0 };
    explanation.on_unknown_host();
    explanation
}
