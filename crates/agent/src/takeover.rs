//! Removes rules of another proxy mode or of kube-proxy: for `rulegen cleanup`, and in the agent
//! after its own rules are written.
//!
//! While both rule sets are present, each connection is translated once: the first NAT chain of a
//! hook that translates it decides (nf_nat_inet_fn). Both rule sets use the same masquerade mark,
//! and the first to masquerade clears it. A rule set rejects by the Service's address, which a
//! connection that the other set has translated no longer has. So the new rules are written first,
//! then the old ones are removed. With iptables, the table `filter` goes first, so that nothing is
//! rejected that the old rules no longer translate. With nftables, the whole table goes at once.

mod guard;
mod leftovers;
mod removal;
mod truce;

use std::sync::{Arc, OnceLock, mpsc};

use rulegen_kernel::iptables::Variant;
use rulegen_os::privileges::{self, Capability};

use crate::error::Result;
use crate::options::Options;
use crate::source::Sink;
use crate::threads;

use guard::Guard;
use leftovers::leftovers;
pub use removal::{Cleaned, clean_iptables, delete_tables, find_tables, plan_cleaning};

/// Starts the cleanup thread. It waits until the returned function is called, once the agent's own
/// rules are written, then removes leftovers and all rules of another mode that appear later. The
/// thread keeps the capabilities that iptables-legacy needs. In iptables mode the variant in use
/// must be set before the call; in nftables mode, the port of the agent's commits.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(
    options: &Options,
    in_use: Arc<OnceLock<Variant>>,
    own_port: Arc<OnceLock<u32>>,
    sink: Sink,
) -> Result<Box<dyn FnOnce() + Send>> {
    let (sender, receiver) = mpsc::channel();
    let (mode, table) = (options.config.mode, options.table.clone());
    let lock_timeout = options.iptables_lock_timeout;
    threads::start("takeover", move || {
        privileges::drop_to(&[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW]);
        // If the agent exits before its first sync, the old rules are the only ones and must stay.
        if receiver.recv().is_ok() {
            let leftovers = leftovers(mode, &table, in_use.get().copied());
            let own_port = own_port.get().copied();
            Guard::new(mode, leftovers, lock_timeout, own_port, sink).run();
        }
    })?;
    Ok(Box::new(move || {
        let _ = sender.send(());
    }))
}
