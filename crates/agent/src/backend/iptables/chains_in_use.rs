//! Logs the chains that cannot be deleted, each once.

use std::collections::BTreeSet;

use rulegen_kernel::nftables::ChainInUse;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Table};

/// At most this many chains are logged individually.
const MOST_LOGGED: usize = 20;

/// The chains that were logged. What leads to them may change, or not be found each time.
#[derive(Debug, Default)]
pub(super) struct ChainsInUse(BTreeSet<(IpFamily, Table, ChainName)>);

impl ChainsInUse {
    /// Logs the new ones of these chains, which are all of these families.
    pub(super) fn warn(&mut self, of: &[IpFamily], in_use: &[ChainInUse]) {
        let new = self.replace(of, in_use);
        for one in new.iter().take(MOST_LOGGED) {
            tracing::warn!(
                family = one.family.api_name(),
                table = %one.table,
                chain = %one.chain,
                used_by = one.used_by.join("; "),
                "chain emptied but not deleted, another program's rule or map leads to it"
            );
        }
        if let Some(more) = new.len().checked_sub(MOST_LOGGED).filter(|more| *more > 0) {
            tracing::warn!(more, "more chains cannot be deleted because they are in use");
        }
    }

    fn replace<'a>(&mut self, of: &[IpFamily], in_use: &'a [ChainInUse]) -> Vec<&'a ChainInUse> {
        let key = |one: &ChainInUse| (one.family, one.table, one.chain.clone());
        let now: BTreeSet<_> = in_use.iter().map(key).collect();
        self.0.retain(|known| !of.contains(&known.0) || now.contains(known));
        let new = in_use.iter().filter(|one| !self.0.contains(&key(one))).collect();
        self.0.extend(now);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_in_use_is_logged_once_whatever_leads_to_it() {
        let (four, six) = (IpFamily::Ipv4, IpFamily::Ipv6);
        let chain = |family, used_by: &[&str]| ChainInUse {
            family,
            table: Table::Nat,
            chain: "KUBE-SVC-A".into(),
            used_by: used_by.iter().map(|of| (*of).to_owned()).collect(),
        };
        let mut logged = ChainsInUse::default();
        let mut news = |of: &[IpFamily], now: &[ChainInUse]| logged.replace(of, now).len();
        assert_eq!(news(&[four], &[chain(four, &["map ip nat theirs"])]), 1);
        assert_eq!(news(&[four], &[chain(four, &[])]), 0, "what leads to it was not found");
        assert_eq!(news(&[six], &[chain(six, &[])]), 1, "another family");
        assert_eq!(news(&[four], &[chain(four, &["map ip nat other"])]), 0);
        assert_eq!(news(&[four], &[]), 0);
        assert_eq!(news(&[four], &[chain(four, &[])]), 1, "in use again");
    }
}
