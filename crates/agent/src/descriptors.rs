//! The budget of file descriptors.
//!
//! Clients and cluster objects get a bounded share, so that there is always a descriptor left for
//! kernel sockets, pipes to iptables, the API server and `/livez`.

use crate::http::{Admission, Quota};

/// Reserve for everything else. The agent has about 30 open, and a run of iptables needs 6.
/// Connections that yield are closed slightly later, at most 32 on each port.
const RESERVED: usize = 128;

/// The maximum number of listeners; each also uses memory.
const MOST_LISTENERS: usize = 8192;

/// The share of each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorBudget {
    /// The limit of the process (RLIMIT_NOFILE).
    pub(crate) limit: u64,
    /// Connections to the health port, and the same number to all health-check node ports together.
    probers: usize,
    /// Connections to the metrics port.
    scrapers: usize,
    /// Listeners on health-check node ports.
    pub(crate) listeners: usize,
}

impl DescriptorBudget {
    pub(crate) fn of(limit: u64) -> Self {
        let spare = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(RESERVED);
        // The more connections may be open, the longer each may wait before it has to yield.
        let probers = (spare / 8).clamp(8, 512);
        // A response has up to a few MB, which stay in memory until the client has read them.
        let scrapers = (spare / 16).clamp(4, 32);
        let budget = Self { limit, probers, scrapers, listeners: 0 };
        let listeners = spare.saturating_sub(budget.connections()).min(MOST_LISTENERS);
        Self { listeners, ..budget }
    }

    fn connections(&self) -> usize {
        2 * (self.probers + self.of_node()) + 2 * self.scrapers
    }

    /// Connections from the node's own addresses to health ports are added to this.
    fn of_node(&self) -> usize {
        (self.probers / 4).clamp(4, 64)
    }

    pub(crate) fn probers(&self) -> Admission {
        Admission::new(Quota::of_port(self.probers), Quota::of_port(self.of_node()))
    }

    pub(crate) fn load_balancers(&self) -> Admission {
        Admission::new(Quota::of_ports(self.probers), Quota::of_ports(self.of_node()))
    }

    pub(crate) fn scrapers(&self) -> Admission {
        Admission::new(Quota::of_port(self.scrapers), Quota::of_port(self.scrapers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_budget_leaves_the_reserve_free() {
        for limit in [256, 512, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
            let budget = DescriptorBudget::of(limit);
            let all = budget.connections() + budget.listeners + RESERVED;
            assert!(u64::try_from(all).unwrap() <= limit, "{budget:?}");
            assert!(budget.probers >= 8 && budget.scrapers >= 4, "{budget:?}");
        }
        assert_eq!(DescriptorBudget::of(1024).listeners, 552);
        assert_eq!(DescriptorBudget::of(65_536).listeners, MOST_LISTENERS);
        assert_eq!(DescriptorBudget::of(64).listeners, 0, "listeners are given up first");
    }
}
