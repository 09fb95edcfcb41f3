//! The claimants of addresses.

use std::collections::HashSet;

use rulegen_model::{ServicePort, Store};
use rulegen_net::Frontend;

/// All service ports that share a frontend with one of these ports, including those of other
/// Services.
pub(super) fn claimants<'a>(
    store: &Store,
    ports: impl Iterator<Item = &'a ServicePort>,
) -> Vec<ServicePort> {
    let wanted: HashSet<Frontend> =
        ports.flat_map(ServicePort::frontends).map(|(frontend, _)| frontend).collect();
    let shares =
        |port: &&ServicePort| port.frontends().any(|(frontend, _)| wanted.contains(&frontend));
    store.service_ports().filter(shares).cloned().collect()
}
