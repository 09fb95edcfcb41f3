//! Distinguishes our own commits to the tables of iptables-nft from those of others.
//!
//! iptables-nft-restore makes one commit per table, and each commit increases the generation of the
//! ruleset. If the generations before and after a run differ by its number of tables, no other
//! program committed in between, whatever process the kernel reports: it reports IDs of the initial
//! PID namespace, which differ from those visible in a container. Only if another program did
//! commit in between, the process ID decides; it cannot be reused during the run. The port ID of
//! the program's socket is its process ID in its own PID namespace (netlink_autobind()), so it is
//! also known in a container.

use crate::nftables::{Commit, Generation};

/// Runs of iptables-nft-restore whose commit events may still arrive.
#[derive(Debug, Default)]
pub struct OwnCommits {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    before: Generation,
    after: Generation,
    pid: u32,
    alone: bool,
}

impl OwnCommits {
    /// Records a process that made `commits` commits, with the generations read before it started
    /// and after it ended.
    pub fn note(&mut self, before: Generation, after: Generation, commits: usize, pid: u32) {
        let alone = usize::try_from(distance(before, after)) == Ok(commits);
        self.runs.push(Run { before, after, pid, alone });
    }

    /// True if a commit was one of ours. Commits arrive in order, so runs that ended before this
    /// one are dropped.
    pub fn made(&mut self, commit: &Commit) -> bool {
        // Half of all numbers are before a generation, the other half after it.
        let is_over = |run: &Run| distance(commit.generation, run.after) > u32::MAX / 2;
        self.runs.retain(|run| !is_over(run));
        self.runs.iter().any(|run| {
            let is_within = (1..=distance(run.before, run.after))
                .contains(&distance(run.before, commit.generation));
            let writer = &commit.writer;
            is_within && (run.alone || [writer.pid, writer.port].contains(&run.pid))
        })
    }
}

/// Number of generations from one to another; the numbers wrap around.
fn distance(from: Generation, to: Generation) -> u32 {
    to.0.wrapping_sub(from.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::{TouchedChains, Writer};

    fn commit(generation: u32, pid: u32) -> Commit {
        let writer = Writer { pid, program: "iptables-nft-re".to_owned(), ..Writer::default() };
        let (generation, changes) = (Generation(generation), Vec::new());
        Commit {
            generation,
            writer,
            changes,
            chains: TouchedChains::default(),
            elements: Default::default(),
        }
    }

    fn noted(before: u32, after: u32, commits: usize) -> OwnCommits {
        let mut own = OwnCommits::default();
        own.note(Generation(before), Generation(after), commits, 7);
        own
    }

    #[test]
    fn commits_of_agent_are_recognised_by_generation_without_rival_commits() {
        for before in [5, u32::MAX - 1, u32::MAX] {
            let mut own = noted(before, before.wrapping_add(2), 2);
            // The process ID belongs to another PID namespace.
            let made = [0, 1, 2, 3].map(|n| own.made(&commit(before.wrapping_add(n), 4711)));
            assert_eq!(made, [false, true, true, false], "{before}");
        }
    }

    #[test]
    fn commits_of_agent_are_recognised_by_process_if_others_committed() {
        let mut own = noted(5, 8, 2);
        assert_eq!([6, 7, 8].map(|n| own.made(&commit(n, 7 + (n % 2)))), [true, false, true]);
        // One commit fewer than expected is just as suspicious.
        assert!(!noted(5, 6, 2).made(&commit(6, 8)));
    }

    #[test]
    fn commits_of_agent_in_container_are_recognised_by_socket_port() {
        let mut of_container = commit(6, 4711);
        of_container.writer.port = 7;
        assert!(noted(5, 8, 2).made(&of_container));
        of_container.writer.port = 8;
        assert!(!noted(5, 8, 2).made(&of_container));
    }

    #[test]
    fn commits_of_agent_ignore_a_process_id_after_the_process_exited() {
        let mut own = noted(5, 8, 2);
        assert!(!own.made(&commit(9, 7)));
        assert!(own.runs.is_empty());
    }
}
