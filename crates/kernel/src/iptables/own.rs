//! Distinguishes our own commits to the tables of iptables-nft from those of others.
//!
//! A write through netlink is one commit. iptables-nft-restore makes one commit per table. Each commit
//! increases the generation of the ruleset. If the generations before and after a write differ by its
//! number of commits, no other program committed in between, whatever process the kernel reports: it
//! reports IDs of the initial PID namespace, which differ from those visible in a container. Only if
//! another program did commit in between, the ID decides: the port ID of our socket, or the process
//! ID of iptables-nft-restore, which cannot be reused while it runs. The port ID of its socket is its
//! process ID in its own PID namespace (netlink_autobind()), so it is also known in a container.

use crate::nftables::{Commit, Generation};

/// Our own writes whose commit events may still arrive.
#[derive(Debug, Default)]
pub struct OwnCommits {
    writes: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    before: Generation,
    after: Generation,
    /// Port ID of the socket, or process ID of iptables-nft-restore.
    id: u32,
    alone: bool,
}

impl OwnCommits {
    /// Records a write of `commits` commits, with the generations read before and after it. `id` is
    /// the port ID of the socket, or the process ID of the program.
    pub fn note(&mut self, before: Generation, after: Generation, commits: usize, id: u32) {
        let alone = usize::try_from(distance(before, after)) == Ok(commits);
        self.writes.push(Write { before, after, id, alone });
    }

    /// True if a commit was one of ours. Commits arrive in order, so writes that ended before
    /// this one are dropped.
    pub fn made(&mut self, commit: &Commit) -> bool {
        // Half of all numbers are before a generation, the other half after it.
        let is_over = |write: &Write| distance(commit.generation, write.after) > u32::MAX / 2;
        self.writes.retain(|write| !is_over(write));
        self.writes.iter().any(|write| {
            let is_within = (1..=distance(write.before, write.after))
                .contains(&distance(write.before, commit.generation));
            let writer = &commit.writer;
            is_within && (write.alone || [writer.pid, writer.port].contains(&write.id))
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
        assert!(own.writes.is_empty());
    }
}
