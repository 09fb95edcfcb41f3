//! What the process may do.

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;

use caps::CapSet;
use nix::sys::prctl;

pub use caps::Capability;

/// What a thread may do after [`drop_to`], for one line of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Capabilities that it has, and that programs have which it runs.
    pub kept: Vec<Capability>,
    /// Capabilities that it had.
    pub dropped: Vec<Capability>,
    /// What could not be done, each with its reason.
    pub failed: Vec<String>,
}

/// Gives up every capability but these, for good: the thread cannot get others back, nor can any
/// program that it runs (capabilities(7), PR_SET_NO_NEW_PRIVS of prctl(2)).
///
/// nf_tables, conntrack and iptables-nft take `CAP_NET_ADMIN`; iptables-legacy takes
/// `CAP_NET_RAW` besides, for its sockets are raw.
///
/// The kernel keeps capabilities for each thread, and a new thread has those of the one that
/// started it. So this is for the first thread, before there are others.
pub fn drop_to(keep: &[Capability]) -> Privileges {
    let mut failed = Vec::new();
    let had = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let (kept, missing): (Vec<_>, Vec<_>) = keep.iter().partition(|kept| had.contains(kept));
    failed.extend(missing.iter().map(|missing| format!("{missing} is not there to be kept")));
    let kept: HashSet<Capability> = kept.into_iter().collect();
    // As long as CAP_SETPCAP is there, which this takes.
    failed.extend(limit(&kept).err());
    let done = [
        ("no new privileges", prctl::set_no_new_privs().map_err(|errno| errno.to_string())),
        ("effective", set(CapSet::Effective, &kept)),
        ("inheritable", set(CapSet::Inheritable, &kept)),
        ("permitted", set(CapSet::Permitted, &kept)),
        // Without these a program that is run by another user than root would have none.
        ("ambient", set(CapSet::Ambient, &kept)),
    ];
    let refused =
        |(what, done): (&str, Result<(), String>)| Some(format!("{what}: {}", done.err()?));
    failed.extend(done.into_iter().filter_map(refused));
    let left = caps::read(None, CapSet::Permitted).unwrap_or_default();
    Privileges { dropped: sorted(&had - &left), kept: sorted(left), failed }
}

/// Tells the kernel how soon to kill this process when memory is short, -1000 (never) to 1000
/// (first). To be killed less than before takes `CAP_SYS_RESOURCE`, so [`drop_to`] comes later.
///
/// # Errors
/// When that capability is not there. No matter but when memory is short.
pub fn oom_score_adj(value: i16) -> Result<(), OomScoreError> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let is_met = fs::read_to_string(FILE).is_ok_and(|text| text.trim().parse() == Ok(value));
    if is_met {
        return Ok(());
    }
    fs::write(FILE, value.to_string()).map_err(|source| OomScoreError { value, source })
}

/// The kernel does not want to kill this process at another time than it would.
#[derive(Debug, thiserror::Error)]
#[error(
    "/proc/self/oom_score_adj cannot be set to {value}: to be killed less than before takes the \
     capability SYS_RESOURCE"
)]
pub struct OomScoreError {
    /// What it should have been.
    pub value: i16,
    /// Why it is not.
    pub source: io::Error,
}

impl Display for Privileges {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "kept {}, dropped {}", list(&self.kept), list(&self.dropped))?;
        if self.failed.is_empty() {
            return Ok(());
        }
        write!(f, "; failed: {}", self.failed.join(", "))
    }
}

/// Takes all but these out of what programs can get that the thread runs. Were that refused,
/// they would have no more than the thread all the same, which gets no new privileges.
fn limit(kept: &HashSet<Capability>) -> Result<(), String> {
    let refused = |error: caps::errors::CapsError| format!("bounding: {error}");
    let bounding = caps::read(None, CapSet::Bounding).map_err(refused)?;
    let mut surplus = bounding.into_iter().filter(|capability| !kept.contains(capability));
    surplus.try_for_each(|it| caps::drop(None, CapSet::Bounding, it)).map_err(refused)
}

fn set(which: CapSet, kept: &HashSet<Capability>) -> Result<(), String> {
    caps::set(None, which, kept).map_err(|error| error.to_string())
}

fn sorted(capabilities: HashSet<Capability>) -> Vec<Capability> {
    let mut sorted: Vec<Capability> = capabilities.into_iter().collect();
    sorted.sort_by_key(Capability::index);
    sorted
}

fn list(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(Capability::to_string).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To be killed sooner takes no capability.
    #[test]
    fn the_score_is_written_and_a_right_one_passes() {
        let read = || fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse();
        let score: i16 = read().unwrap();
        let sooner = score.saturating_add(1).min(1000);
        for _ in 0..2 {
            oom_score_adj(sooner).unwrap();
            assert_eq!(read(), Ok(sooner));
        }
    }

    #[test]
    fn one_line_says_all() {
        let privileges = Privileges {
            kept: vec![Capability::CAP_NET_ADMIN],
            dropped: vec![Capability::CAP_CHOWN, Capability::CAP_KILL],
            failed: vec!["bounding: EPERM".to_owned(), "ambient: EPERM".to_owned()],
        };
        let line = "kept CAP_NET_ADMIN, dropped CAP_CHOWN CAP_KILL; \
                    failed: bounding: EPERM, ambient: EPERM";
        assert_eq!(privileges.to_string(), line);
        assert_eq!(Privileges::default().to_string(), "kept nothing, dropped nothing");
    }
}
