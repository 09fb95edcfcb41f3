//! Tells our own commits to the tables of iptables-nft from those of others.
//!
//! iptables-nft-restore makes one commit a table, each of which makes a new generation of the
//! ruleset. Where the generations before and after it are as far apart as it had tables, nobody
//! else committed in between, whoever the kernel says it was: it names processes by their numbers
//! in the first PID namespace, which in a container are others than those we know. Only where
//! somebody did commit in between the number of the process is asked for; it can belong to nobody
//! else meanwhile. The address of its socket is the same number, in the PID namespace of the program
//! (netlink_autobind()), so that it is known in a container too.

use crate::nftables::{Commit, Generation};

/// Runs of iptables-nft-restore whose commits may still be told.
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
    /// Notes that a process which made so many commits began after one generation was read and
    /// ended before another was.
    pub fn note(&mut self, before: Generation, after: Generation, commits: usize, pid: u32) {
        let alone = usize::try_from(distance(before, after)) == Ok(commits);
        self.runs.push(Run { before, after, pid, alone });
    }

    /// Whether a commit was one of ours. Commits are told in their order, so that runs which ended
    /// before it are forgotten.
    pub fn made(&mut self, commit: &Commit) -> bool {
        // Half of all numbers are before a generation, the other half behind it.
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

/// How many generations one is behind another; numbers begin anew after the last.
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
        Commit { generation, writer, changes, chains: TouchedChains::default() }
    }

    fn noted(before: u32, after: u32, commits: usize) -> OwnCommits {
        let mut own = OwnCommits::default();
        own.note(Generation(before), Generation(after), commits, 7);
        own
    }

    #[test]
    fn all_commits_of_a_time_in_which_nobody_else_made_one_are_ours() {
        for before in [5, u32::MAX - 1, u32::MAX] {
            let mut own = noted(before, before.wrapping_add(2), 2);
            // The number of the process is that of another PID namespace.
            let told = [0, 1, 2, 3].map(|n| own.made(&commit(before.wrapping_add(n), 4711)));
            assert_eq!(told, [false, true, true, false], "{before}");
        }
    }

    #[test]
    fn where_others_committed_meanwhile_the_process_decides() {
        let mut own = noted(5, 8, 2);
        assert_eq!([6, 7, 8].map(|n| own.made(&commit(n, 7 + (n % 2)))), [true, false, true]);
        // One commit less than was to be expected is as suspicious.
        assert!(!noted(5, 6, 2).made(&commit(6, 8)));
    }

    #[test]
    fn in_a_container_the_socket_tells_the_process() {
        let mut of_container = commit(6, 4711);
        of_container.writer.port = 7;
        assert!(noted(5, 8, 2).made(&of_container));
        of_container.writer.port = 8;
        assert!(!noted(5, 8, 2).made(&of_container));
    }

    #[test]
    fn a_number_of_a_process_is_worth_nothing_after_its_time() {
        let mut own = noted(5, 8, 2);
        assert!(!own.made(&commit(9, 7)));
        assert!(own.runs.is_empty());
    }
}
