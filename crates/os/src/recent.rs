//! Lists of recently seen addresses of the kernel module xt_recent.

use std::collections::BTreeMap;
use std::ffi::c_ulong;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use nix::time::{ClockId, clock_getres, clock_gettime};

/// Default of the parameter `ip_list_tot`.
const DEFAULT_LIMIT: usize = 100;

/// The lists of this network namespace by name, each with the time since its addresses were last seen.
/// Empty if the module is not loaded. A list has at most [`list_limit`] addresses, and it keeps an
/// address after the timeout of the rule that uses the list.
///
/// # Errors
/// The lists or the clock cannot be read.
pub fn lists() -> io::Result<BTreeMap<String, Vec<Duration>>> {
    let folder = Path::new("/proc/thread-self/net/xt_recent");
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let now = Jiffies::now()?;
    let mut lists = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        // A list may disappear during the read.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let ages = text.lines().filter_map(last_seen).map(|stamp| now.since(stamp)).collect();
        lists.insert(entry.file_name().to_string_lossy().into_owned(), ages);
    }
    Ok(lists)
}

/// Maximum number of addresses per list.
///
/// # Errors
/// The parameter cannot be read. Only root may read it.
pub fn list_limit() -> io::Result<usize> {
    match fs::read_to_string("/sys/module/xt_recent/parameters/ip_list_tot") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DEFAULT_LIMIT),
        text => Ok(text?.trim().parse().unwrap_or(DEFAULT_LIMIT)),
    }
}

/// The stamp in jiffies of a line such as `src=192.0.2.7 ttl: 64 last_seen: 4305210583 oldest_pkt: 1 …`.
fn last_seen(line: &str) -> Option<c_ulong> {
    let (_, rest) = line.split_once("last_seen: ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The kernel's counter of timer ticks. Apart from root, nobody can read it.
struct Jiffies {
    count: c_ulong,
    per_second: c_ulong,
}

impl Jiffies {
    /// The counter starts at minus five minutes as a 32-bit number (INITIAL_JIFFIES of
    /// linux/jiffies.h), and the monotonic clock starts at 0 some milliseconds before. The coarse clock
    /// advances once per tick, so its resolution is the length of a tick.
    fn now() -> io::Result<Self> {
        let tick = Duration::from(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?);
        let uptime = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let per_second = 1_000_000_000 / tick.as_nanos().max(1);
        Ok(Self::at(uptime, c_ulong::try_from(per_second).unwrap_or(c_ulong::MAX).max(1)))
    }

    fn at(uptime: Duration, per_second: c_ulong) -> Self {
        // 300 s before the wrap of 32 bits. With 32-bit numbers, the counter wraps around there.
        let start =
            c_ulong::from(u32::MAX).wrapping_sub(per_second.wrapping_mul(300)).wrapping_add(1);
        let ticks = uptime.as_millis().saturating_mul(u128::from(per_second)) / 1_000;
        let ticks = c_ulong::try_from(ticks & u128::from(c_ulong::MAX)).unwrap_or_default();
        Self { count: start.wrapping_add(ticks), per_second }
    }

    /// The time since a stamp; 0 for one in the future, because [`Jiffies::now`] is not exact.
    fn since(&self, stamp: c_ulong) -> Duration {
        let ticks = self.count.wrapping_sub(stamp);
        if ticks > c_ulong::MAX / 2 {
            return Duration::ZERO;
        }
        let millis = u128::from(ticks).saturating_mul(1_000) / u128::from(self.per_second);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xt_recent_age_is_counted_from_the_boot_in_ticks() {
        let line = "src=1.2.3.4 ttl: 0 last_seen: 4305210583 oldest_pkt: 2 4305210000, 4305210583";
        assert_eq!(last_seen(line), Some(4_305_210_583));
        assert_eq!(last_seen("src=1.2.3.4"), None);
        // Stamp and uptime were read on a kernel with 250 ticks per second.
        let now = Jiffies::at(Duration::from_millis(41_273_684), 250);
        assert_eq!(now.since(4_305_210_583).as_secs(), 0);
        assert_eq!(now.since(4_305_210_583 - 250 * 7).as_secs(), 7);
        assert_eq!(now.since(4_305_210_583 + 250 * 7), Duration::ZERO, "a stamp in the future");
        let just_booted = Jiffies::at(Duration::from_secs(10), 1_000);
        assert_eq!(just_booted.since(c_ulong::from(u32::MAX) - 299_999).as_secs(), 10);
    }

    #[test]
    fn xt_recent_tick_of_this_kernel_is_a_configurable_one() {
        let per_second = Jiffies::now().unwrap().per_second;
        assert!([100, 250, 300, 1_000].contains(&per_second), "{per_second}");
    }
}
