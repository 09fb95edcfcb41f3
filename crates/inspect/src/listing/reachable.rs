//! The endpoints to which the rules of a frontend lead.

use std::net::SocketAddr;

use rulegen_model::TrafficPolicy;
use rulegen_net::FrontendKind;

use super::Traffic;

/// The clients whose traffic a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ClientScope {
    /// All clients, or a random part of the traffic.
    All,
    /// This node or its pods.
    Node,
}

/// The endpoints at the ends of all paths from a frontend.
#[derive(Debug, Default)]
pub(super) struct ReachableEndpoints {
    all: Vec<SocketAddr>,
    node: Vec<SocketAddr>,
    masquerades: bool,
    affinity_seconds: Option<u32>,
}

impl ReachableEndpoints {
    pub(super) fn endpoint(&mut self, whose: ClientScope, endpoint: SocketAddr) {
        match whose {
            ClientScope::All => self.all.push(endpoint),
            ClientScope::Node => self.node.push(endpoint),
        }
    }

    /// Every packet to the frontend is marked for masquerading.
    pub(super) fn masquerades(&mut self) {
        self.masquerades = true;
    }

    pub(super) fn keeps(&mut self, seconds: u32) {
        self.affinity_seconds = Some(seconds);
    }

    /// The traffic. `internal` is the policy of a cluster IP. For all other addresses, masquerading
    /// shows the policy: Local keeps the source address, and Cluster does not.
    pub(super) fn into_traffic(
        mut self,
        kind: FrontendKind,
        internal: Option<TrafficPolicy>,
    ) -> Traffic {
        for endpoints in [&mut self.all, &mut self.node] {
            endpoints.sort_unstable();
            endpoints.dedup();
        }
        let policy = match kind {
            FrontendKind::ClusterIP => internal,
            _ if self.all.is_empty() && self.node.is_empty() => None,
            _ if self.masquerades => Some(TrafficPolicy::Cluster),
            _ => Some(TrafficPolicy::Local),
        };
        Traffic {
            policy,
            endpoints: self.all,
            from_node: self.node,
            affinity_seconds: self.affinity_seconds,
            ..Traffic::to(kind)
        }
    }
}
