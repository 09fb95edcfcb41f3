//! `rulegen list --watch`: prints frontends as they change in the kernel.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::time::Duration;

use anyhow::Result;
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_kernel::{iptables, nftables};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;

use super::actual::{RuleSource, table_name};
use super::services::actual_and_desired;
use super::table::{self, TextTable};
use super::view::View;
use crate::args::ListArgs;
use crate::inputs::Inputs;
use crate::paint::Paint;

/// The kernel's events about the rules.
enum RulesWatcher {
    Nftables(nftables::Watcher),
    Iptables(iptables::Watcher),
}

/// The rules are read at most this often.
const PAUSE: Duration = Duration::from_secs(1);

/// The shortest time to wait for an event; zero would mean without limit.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Prints changes since `before` until the process is stopped or standard output is closed.
pub(super) fn run(args: &ListArgs, found: &Inputs, mut before: TextTable) -> Result<()> {
    let mut watcher = RulesWatcher::open(args, found)?;
    let paint = Paint::for_stdout();
    // The first read finds changes that were made before the watcher was open.
    loop {
        let (actual, desired) = actual_and_desired(args, found, found.cluster.as_ref())?;
        let view = View::of(args, found, &actual, desired.as_ref());
        let now = table::of(&view, args.output.is_some());
        let mut out = BufWriter::new(io::stdout().lock());
        match now.write_changes(&before, &mut out, &paint).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        before = now;
        std::thread::sleep(PAUSE);
        watcher.wait()?;
    }
}

impl RulesWatcher {
    fn open(args: &ListArgs, found: &Inputs) -> Result<Self> {
        Ok(match RuleSource::of(args, &found.config)? {
            RuleSource::Nftables => {
                let names = [table_name(args).clone(), Name::from(KUBE_PROXY_TABLE)];
                let of_both = |name: &Name| IpFamily::BOTH.map(|family| (family, name.clone()));
                let tables: Vec<(IpFamily, Name)> = names.iter().flat_map(of_both).collect();
                Self::Nftables(nftables::Watcher::open(&tables, nftables::Watcher::ROOM)?)
            }
            RuleSource::Iptables(variant) => {
                let concerns = |chain: &str| chain.starts_with("KUBE-");
                Self::Iptables(iptables::Watcher::open(variant, concerns)?)
            }
        })
    }

    /// Waits for a change, and takes all that are pending.
    fn wait(&mut self) -> Result<(), nftables::DataplaneError> {
        while !self.has_event(PAUSE)? {}
        while self.has_event(AT_ONCE)? {}
        Ok(())
    }

    fn has_event(&mut self, timeout: Duration) -> Result<bool, nftables::DataplaneError> {
        let events = match self {
            Self::Nftables(watcher) => watcher.next(Some(timeout))?,
            Self::Iptables(watcher) => watcher.next(timeout)?,
        };
        Ok(!events.is_empty())
    }
}
