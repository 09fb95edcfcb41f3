//! Terms for the paths of traffic to a service port, as its plan has them.

use rulegen_compiler::{Masquerade, PodTraffic};
use strum::IntoStaticStr;

/// The clients whose packets take a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum PathClients {
    /// All.
    Any,
    /// Those on this node: its pods and the node itself.
    OnThisNode,
    /// Those that are not on this node.
    Outside,
    /// Those outside, and pods, because pods cannot be recognised.
    OutsideAndPods,
    /// Processes of this node, and pods of the cluster.
    NodeAndPods,
    /// Only processes of this node, because pods cannot be recognised.
    Node,
}

/// What happens to the source address of a packet on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum PathSource {
    /// It is preserved.
    Kept,
    /// It is replaced by an address of this node.
    Masqueraded,
    /// It is preserved for pods of this node, and replaced for others.
    KeptForLocalPods,
    /// It is preserved for pods, and replaced for the node's own traffic.
    KeptForPods,
}

impl PathClients {
    /// The code in JSON.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// The clients to which policy Local applies, and those to which it does not.
    pub fn of_policy_local(pods: Option<&PodTraffic>) -> (Self, Self) {
        match pods {
            Some(_) => (Self::Outside, Self::NodeAndPods),
            // Without detection of pod traffic, pods are treated like external clients.
            None => (Self::OutsideAndPods, Self::Node),
        }
    }
}

impl PathSource {
    /// The code in JSON.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// Of traffic to a cluster IP.
    pub fn of_internal(masquerade: Masquerade) -> Self {
        match masquerade {
            Masquerade::All => Self::Masqueraded,
            Masquerade::NotFromPods => Self::KeptForLocalPods,
            Masquerade::None => Self::Kept,
        }
    }
}
