//! Privileges of the process.

use std::collections::HashSet;
use std::fs;
use std::io;

use caps::CapSet;
use caps::errors::CapsError;
use nix::sys::prctl;

pub use caps::Capability;

/// Result of [`drop_to`].
#[derive(Debug, Default)]
pub struct Privileges {
    /// Capabilities that the thread and its child programs have.
    pub kept: Vec<Capability>,
    /// Capabilities that were dropped.
    pub dropped: Vec<Capability>,
    /// Steps that failed.
    pub failed: Vec<PrivilegeFailure>,
}

/// A step of [`drop_to`] that failed. The others are done regardless.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeFailure {
    /// A capability to keep is not there.
    #[error("missing capability {0}")]
    Missing(Capability),
    /// The child programs of the process may gain privileges (PR_SET_NO_NEW_PRIVS).
    #[error("no new privileges: {0}")]
    NoNewPrivileges(nix::Error),
    /// A set of capabilities could not be reduced.
    #[error("{set}: {error}")]
    Set {
        /// Name of the set, as in capabilities(7).
        set: &'static str,
        /// Error of the system call.
        error: CapsError,
    },
}

/// Drops every capability except `keep` for good: neither the thread nor a program that it runs can
/// regain others (capabilities(7), PR_SET_NO_NEW_PRIVS of prctl(2)).
///
/// nf_tables, conntrack and iptables-nft need `CAP_NET_ADMIN`. iptables-legacy also needs
/// `CAP_NET_RAW` for its raw sockets.
///
/// The kernel stores capabilities per thread, and a new thread inherits those of its creator. Call
/// this in the first thread, before starting others.
pub fn drop_to(keep: &[Capability]) -> Privileges {
    let mut failed = Vec::new();
    let had = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let (kept, missing): (Vec<Capability>, Vec<Capability>) =
        keep.iter().copied().partition(|kept| had.contains(kept));
    failed.extend(missing.into_iter().map(PrivilegeFailure::Missing));
    let kept: HashSet<Capability> = kept.into_iter().collect();
    // While the thread has CAP_SETPCAP, which this requires.
    failed.extend(limit(&kept).err());
    failed.extend(prctl::set_no_new_privs().err().map(PrivilegeFailure::NoNewPrivileges));
    let sets = [
        ("effective", CapSet::Effective),
        ("inheritable", CapSet::Inheritable),
        ("permitted", CapSet::Permitted),
        // Without these, a program run by a user other than root would have no capability.
        ("ambient", CapSet::Ambient),
    ];
    failed.extend(sets.into_iter().filter_map(|(name, set)| {
        let error = caps::set(None, set, &kept).err()?;
        Some(PrivilegeFailure::Set { set: name, error })
    }));
    let left = caps::read(None, CapSet::Permitted).unwrap_or_default();
    Privileges { dropped: sorted(&had - &left), kept: sorted(left), failed }
}

/// Sets the OOM score adjustment of this process, from -1000 (never killed) to 1000 (killed first).
/// Lowering it requires `CAP_SYS_RESOURCE`, so call [`drop_to`] later.
///
/// # Errors
/// The capability is missing. The only consequence is that the kernel may kill the process when
/// memory is short.
pub fn oom_score_adj(value: i16) -> Result<(), OomScoreError> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let is_met = fs::read_to_string(FILE).is_ok_and(|text| text.trim().parse() == Ok(value));
    if is_met {
        return Ok(());
    }
    fs::write(FILE, value.to_string()).map_err(|source| OomScoreError { value, source })
}

/// The OOM score adjustment could not be set.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot set /proc/self/oom_score_adj to {value}: lowering it requires \
     CAP_SYS_RESOURCE"
)]
pub struct OomScoreError {
    /// The desired adjustment.
    pub value: i16,
    /// The system error.
    pub source: io::Error,
}

impl Privileges {
    /// The names of the capabilities that are left, as in capabilities(7), separated by blanks.
    pub fn kept_names(&self) -> String {
        names(&self.kept)
    }

    /// The names of the capabilities that were dropped, separated by blanks.
    pub fn dropped_names(&self) -> String {
        names(&self.dropped)
    }
}

/// Removes all other capabilities from the bounding set. If that fails, child programs still get no
/// more than the thread has, because of no-new-privileges.
fn limit(kept: &HashSet<Capability>) -> Result<(), PrivilegeFailure> {
    let refused = |error| PrivilegeFailure::Set { set: "bounding", error };
    let bounding = caps::read(None, CapSet::Bounding).map_err(refused)?;
    let mut surplus = bounding.into_iter().filter(|capability| !kept.contains(capability));
    surplus.try_for_each(|it| caps::drop(None, CapSet::Bounding, it)).map_err(refused)
}

fn sorted(capabilities: HashSet<Capability>) -> Vec<Capability> {
    let mut sorted: Vec<Capability> = capabilities.into_iter().collect();
    sorted.sort_by_key(Capability::index);
    sorted
}

fn names(capabilities: &[Capability]) -> String {
    capabilities.iter().map(Capability::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raising the adjustment requires no capability.
    #[test]
    fn oom_score_is_written_unless_it_is_right_already() {
        let read = || fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse();
        let score: i16 = read().unwrap();
        let sooner = score.saturating_add(1).min(1000);
        for _ in 0..2 {
            oom_score_adj(sooner).unwrap();
            assert_eq!(read(), Ok(sooner));
        }
    }
}
