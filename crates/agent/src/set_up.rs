//! What an agent changes on its machine beside the rules: sysctls, and how soon the kernel kills it.
//!
//! None of it before all objects are known. An agent that cannot read its inputs leaves the
//! machine as it is.

use std::sync::mpsc;

use rulegen_kernel::privileges::{self, Capability};
use rulegen_kernel::{host, sysctl};

use crate::error::Result;
use crate::options::Options;
use crate::threads;

/// Starts the thread that does it once the returned function is called. It keeps the privileges that
/// this takes until then, and ends when it is done.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn prepare(options: &Options) -> Result<Box<dyn FnOnce() + Send>> {
    let (sender, receiver) = mpsc::channel();
    let options = options.clone();
    threads::start("set-up", move || {
        privileges::drop_to(&[Capability::CAP_NET_ADMIN, Capability::CAP_SYS_RESOURCE]);
        if receiver.recv().is_ok() {
            set_up(&options);
        }
    })?;
    Ok(Box::new(move || {
        let _ = sender.send(());
    }))
}

/// Does it now. Returns whether all of it could be done; what fails is logged and stops nothing, for
/// rules matter more.
pub(crate) fn set_up(options: &Options) -> bool {
    if let Some(value) = options.oom_score_adj
        && let Err(error) = privileges::oom_score_adj(value)
    {
        tracing::info!(%error, "cannot set oom_score_adj (a lower value needs CAP_SYS_RESOURCE)");
    }
    let applied = sysctl::apply(&options.conntrack.wanted(host::cpus()));
    applied.changed.iter().for_each(|change| tracing::info!("{change}"));
    applied.failed.iter().for_each(|failure| tracing::warn!("{failure}"));
    applied.failed.is_empty()
}
