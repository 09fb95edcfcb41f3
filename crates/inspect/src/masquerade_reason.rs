//! Why a packet is masqueraded.

use strum::IntoStaticStr;

/// Why the source of a packet is replaced by an address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
pub enum MasqueradeReason {
    /// All traffic to cluster IPs is masqueraded.
    #[strum(serialize = "masquerade-all")]
    All,
    /// It goes to a cluster IP and does not come from a pod.
    #[strum(serialize = "masquerade-not-from-pods")]
    NotFromPods,
    /// Its destination is an external address or node port, and its endpoint may be on another node.
    #[strum(serialize = "masquerade-external")]
    External,
    /// This node sends it to an external address or node port under policy Local.
    #[strum(serialize = "masquerade-from-node")]
    FromNode,
    /// The endpoint is also the sender.
    #[strum(serialize = "masquerade-hairpin")]
    Hairpin,
}

impl MasqueradeReason {
    /// The code in JSON.
    pub fn code(self) -> &'static str {
        self.into()
    }
}
