//! Settings of the machine that the agent changes in addition to rules: sysctls and its OOM score.
//!
//! Applied only once the caches are synced: an agent that cannot read its inputs changes nothing.

use std::sync::mpsc;

use rulegen_os::privileges::{self, Capability};
use rulegen_os::sysctl::{SysctlChange, SysctlFailure};
use rulegen_os::{host, sysctl};

use crate::error::Result;
use crate::options::Options;
use crate::threads;

/// Starts a thread that applies the settings when the returned function is called. The thread keeps
/// the capabilities for it until then, and exits afterwards.
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

/// Applies the settings. Returns whether all of them succeeded. Failures are logged and not fatal,
/// because the rules are more important.
pub(crate) fn set_up(options: &Options) -> bool {
    if let Some(value) = options.oom_score_adj
        && let Err(error) = privileges::oom_score_adj(value)
    {
        // Usual in a container without privileges.
        tracing::debug!(%error, "cannot set oom_score_adj");
    }
    let applied = sysctl::apply(&options.conntrack.desired(host::cpus()));
    applied.changed.iter().for_each(log_sysctl_change);
    applied.failed.iter().for_each(log_sysctl_failure);
    applied.failed.is_empty()
}

/// Logs a sysctl that was set.
pub(crate) fn log_sysctl_change(change: &SysctlChange) {
    tracing::info!(sysctl = change.sysctl.name(), from = change.old, to = change.new, "sysctl set");
}

/// Logs a sysctl that could not be set.
pub(crate) fn log_sysctl_failure(failure: &SysctlFailure) {
    tracing::warn!(sysctl = failure.sysctl.name(), error = %failure, "cannot set sysctl");
}
