//! Names of the chains of service ports and endpoints.

use std::net::SocketAddr;

use data_encoding::BASE32;
use rulegen_net::Protocol;
use rulegen_ruleset::iptables::ChainName;
use sha2::{Digest, Sha256};

/// Number of characters of a hash in a name. A chain name has at most 28 characters.
const HASH_LENGTH: usize = 16;

/// The chains of one service port. Each name ends in a hash of the service port's name and
/// protocol.
pub(super) struct ServiceChains {
    /// Chooses among the endpoints of policy Cluster.
    pub(super) cluster: ChainName,
    /// Chooses among the endpoints of policy Local.
    pub(super) local: ChainName,
    /// External traffic.
    pub(super) external: ChainName,
    /// Traffic to load-balancer IPs, by source range.
    pub(super) firewall: ChainName,
}

impl ServiceChains {
    pub(super) fn new(service_port: &str, protocol: Protocol) -> Self {
        let hash = hash(&[service_port, protocol.name()]);
        let name = |prefix| chain_name(prefix, &hash);
        Self {
            cluster: name("KUBE-SVC-"),
            local: name("KUBE-SVL-"),
            external: name("KUBE-EXT-"),
            firewall: name("KUBE-FW-"),
        }
    }
}

/// The chain of an endpoint of a service port.
pub(super) fn endpoint_chain(
    service_port: &str,
    protocol: Protocol,
    endpoint: SocketAddr,
) -> ChainName {
    let hash = hash(&[service_port, protocol.name(), &endpoint.to_string()]);
    chain_name("KUBE-SEP-", &hash)
}

fn chain_name(prefix: &str, hash: &str) -> ChainName {
    format!("{prefix}{hash}").into()
}

/// The first characters of the base32 encoding of the SHA-256 of the concatenated parts.
fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    let mut text = BASE32.encode(&digest.finalize());
    text.truncate(HASH_LENGTH);
    text
}
