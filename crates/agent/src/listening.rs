//! Reports processes on the node that lose clients because a Service uses their address.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rulegen_model::{NodeClaims, TakenAddress};
use rulegen_os::sockets::listeners;
use tokio::sync::watch;

use crate::events::{Notice, Notices};

/// The maximum number of reports per check; the rest is only counted.
const REPORTED: usize = 20;

/// The minimum time between two checks.
const PAUSE: Duration = Duration::from_secs(1);

/// A listening address that a Service takes over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AddressConflict {
    taken: TakenAddress,
    listener: SocketAddr,
    /// The process, if it is visible.
    process: Option<String>,
}

/// Checks the listeners whenever the Services' claims on node addresses change. Reports each
/// conflict once while it lasts.
pub(crate) async fn report(
    mut claims: watch::Receiver<NodeClaims>,
    node: String,
    notices: Notices,
) {
    let mut known = BTreeSet::new();
    while claims.changed().await.is_ok() {
        let claimed = claims.borrow_and_update().clone();
        // Without claims there can be no conflict.
        match tokio::task::spawn_blocking(move || losses(&claimed)).await {
            Ok(Ok(losses)) => {
                report_new(losses.difference(&known), &node, &notices);
                known = losses;
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot read listening sockets from /proc"),
            Err(error) => tracing::warn!(%error, "cannot read listening sockets"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn losses(claims: &NodeClaims) -> io::Result<BTreeSet<AddressConflict>> {
    let ports = claims.ports();
    if ports.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut losses = BTreeSet::new();
    for listener in listeners(&ports)? {
        for taken in claims.taken_from(listener.protocol, listener.address) {
            let process = listener.holder.as_ref().map(ToString::to_string);
            losses.insert(AddressConflict { taken, listener: listener.address, process });
        }
    }
    Ok(losses)
}

fn report_new<'a>(news: impl Iterator<Item = &'a AddressConflict>, node: &str, notices: &Notices) {
    let mut news = news.fuse();
    for AddressConflict { taken, listener, process } in news.by_ref().take(REPORTED) {
        let TakenAddress { port, at, kind, .. } = taken;
        let protocol = port.protocol.name();
        let process = process.as_deref().unwrap_or("a process");
        tracing::warn!(
            service = %port,
            address = %at,
            protocol,
            field = kind.field(),
            listener = %listener,
            process,
            "Service address conflicts with a listening process on this node"
        );
        let message = format!(
            "{at} ({protocol}, {}) is an address of the node {node}, and {process} listens at \
             {listener}: connections to it go to this Service instead. Choose another address or \
             port, or exclude the addresses of nodes with --refuse-node-addresses",
            kind.field()
        );
        notices.send(Notice::NodeAddressTaken {
            namespace: port.namespace.to_string(),
            name: port.service.to_string(),
            message,
        });
    }
    let more = news.count();
    if more > 0 {
        tracing::warn!(
            more,
            "more Services conflict with listening processes; run `rulegen doctor`"
        );
    }
}

#[cfg(test)]
mod tests {
    use rulegen_net::{FrontendKind, Protocol, ServicePortName};

    use super::*;
    use crate::events::Notices;

    /// One object with many ports, or many Services, cause a bounded number of log lines and Events.
    #[test]
    fn address_conflicts_beyond_the_limit_are_only_counted() {
        let loss = |number: u16| AddressConflict {
            taken: TakenAddress {
                port: ServicePortName {
                    namespace: "git".into(),
                    service: "shell".into(),
                    port: number.to_string().into(),
                    protocol: Protocol::Tcp,
                },
                at: SocketAddr::from(([192, 0, 2, 10], number)),
                kind: FrontendKind::ExternalIP,
                others: 0,
            },
            listener: SocketAddr::from(([0, 0, 0, 0], number)),
            process: None,
        };
        let losses: BTreeSet<AddressConflict> = (1..100).map(loss).collect();
        let (notices, mut sent) = Notices::new();
        report_new(losses.iter(), "node-1", &notices);
        let count = std::iter::from_fn(|| sent.try_recv().ok()).count();
        assert_eq!(count, REPORTED);
    }
}
