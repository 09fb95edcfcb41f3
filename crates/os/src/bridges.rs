//! Bridge interfaces of this network namespace.

use std::path::Path;
use std::{fs, io};

use crate::sysctl::Sysctl;

/// A bridge interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// Name of the interface.
    pub name: String,
    /// Number of connected interfaces.
    pub ports: usize,
}

/// All bridges of the network namespace for which /sys was mounted, ordered by name.
///
/// # Errors
/// /sys cannot be read.
pub fn bridges() -> io::Result<Vec<Bridge>> {
    let mut bridges = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        // Only bridges have this folder, with a link for each port.
        if let Some(ports) = count(&entry.path().join("brif")) {
            bridges.push(Bridge { name: entry.file_name().to_string_lossy().into_owned(), ports });
        }
    }
    bridges.sort_unstable();
    Ok(bridges)
}

/// An interface that is attached to a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// Name of the interface.
    pub name: String,
    /// Whether hairpin mode is on: a packet may leave by the port that it came in by.
    pub has_hairpin: bool,
    /// Whether it is isolated: the bridge forwards no packets between isolated ports.
    pub is_isolated: bool,
    /// Its state. Other ports than forwarding ones pass no packets of pods.
    pub state: PortState,
    /// The hardware addresses that were seen behind it lately.
    pub macs: Vec<Mac>,
}

/// The state of a bridge port (BR_STATE_* of linux/if_bridge.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// The interface is down or has no carrier.
    Disabled,
    /// It waits for the spanning tree protocol.
    Listening,
    /// As listening, and addresses are learned already.
    Learning,
    /// It forwards packets.
    Forwarding,
    /// The spanning tree protocol or an administrator closed it.
    Blocking,
}

impl PortState {
    fn of(number: u64) -> Option<Self> {
        let states =
            [Self::Disabled, Self::Listening, Self::Learning, Self::Forwarding, Self::Blocking];
        states.get(usize::try_from(number).ok()?).copied()
    }

    /// The word of bridge(8).
    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
            Self::Blocking => "blocking",
        }
    }
}

/// A hardware address.
pub type Mac = [u8; 6];

/// The ports of a bridge that passes packets of a family to iptables and nftables (by the setting for
/// all bridges, or its own), and so forwards translated packets itself. None if it does not, or is
/// in promiscuous mode.
///
/// # Errors
/// /proc cannot be read.
pub fn forwarding_ports(bridge: &str, is_ipv6: bool) -> io::Result<Vec<BridgePort>> {
    let (of_all, of_bridge) = match is_ipv6 {
        false => (Sysctl::BRIDGE_NF_CALL_IPTABLES, "bridge/nf_call_iptables"),
        true => (Sysctl::BRIDGE_NF_CALL_IP6TABLES, "bridge/nf_call_ip6tables"),
    };
    let is_passed = of_all.read_if_there()? == Some(1);
    let folder = Path::new("/sys/class/net").join(bridge);
    let is_one = |file: &str| number(&folder.join(file)).is_some_and(|value| value == 1);
    let is_promiscuous = number(&folder.join("flags")).is_some_and(|flags| flags & 0x100 != 0);
    if is_promiscuous || !(is_passed || is_one(of_bridge)) {
        return Ok(Vec::new());
    }
    // The bridge may disappear during the read.
    let macs = fs::read(folder.join("brforward")).unwrap_or_default();
    let Ok(ports) = fs::read_dir(folder.join("brif")) else { return Ok(Vec::new()) };
    let port = |port: fs::DirEntry| {
        let path = port.path();
        Some(BridgePort {
            name: port.file_name().to_string_lossy().into_owned(),
            has_hairpin: number(&path.join("hairpin_mode"))? != 0,
            is_isolated: number(&path.join("isolated")).is_some_and(|isolated| isolated != 0),
            state: PortState::of(number(&path.join("state"))?)?,
            macs: macs_at(&macs, number(&path.join("port_no"))?),
        })
    };
    Ok(ports.filter_map(Result::ok).filter_map(port).collect())
}

/// Whether a bridge forwards by VLAN: only to ports that are members of the packet's.
pub fn filters_vlans(bridge: &str) -> bool {
    let file = Path::new("/sys/class/net").join(bridge).join("bridge/vlan_filtering");
    number(&file).is_some_and(|value| value != 0)
}

/// The interfaces below an interface, at any depth: ports of a bridge, members of a bond, the
/// interface that a VLAN or tunnel sends through.
pub fn lower_interfaces(name: &str) -> Vec<String> {
    const DEPTH: usize = 4;
    let mut found: Vec<String> = Vec::new();
    let mut level = vec![name.to_owned()];
    for _ in 0..DEPTH {
        level = level.iter().flat_map(|name| directly_below(name)).collect();
        level.retain(|name| !found.contains(name));
        found.extend(level.iter().cloned());
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn directly_below(name: &str) -> Vec<String> {
    let folder = Path::new("/sys/class/net").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let lower =
        |name: std::ffi::OsString| Some(name.to_string_lossy().strip_prefix("lower_")?.to_owned());
    names.filter_map(lower).collect()
}

/// A decimal number, or a hexadecimal one that starts with 0x.
fn number(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    match text.trim().strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

/// The hardware addresses behind a port, from the forwarding table (struct __fdb_entry of
/// linux/if_bridge.h).
fn macs_at(table: &[u8], port: u64) -> Vec<Mac> {
    let mac = |entry: &[u8; 16]| {
        let [a, b, c, d, e, f, low, is_local, _, _, _, _, high, ..] = *entry;
        let is_at = u64::from(u16::from_le_bytes([low, high])) == port && is_local == 0;
        is_at.then_some([a, b, c, d, e, f])
    };
    let (entries, _) = table.as_chunks::<16>();
    entries.iter().filter_map(mac).collect()
}

fn count(folder: &Path) -> Option<usize> {
    Some(fs::read_dir(folder).ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_hardware_addresses_are_found_by_port() {
        let entry =
            |last, port, is_local| [2, 0, 0, 0, 0, last, port, is_local, 0, 0, 0, 0, 0, 0, 0, 0_u8];
        let table = [entry(1, 1, 0), entry(2, 2, 0), entry(3, 2, 1)].concat();
        assert_eq!(macs_at(&table, 2), [[2, 0, 0, 0, 0, 2]]);
    }

    #[test]
    fn bridge_port_state_has_the_words_of_bridge_8() {
        let words = (0..6).map(|number| PortState::of(number).map(PortState::word));
        let desired = ["disabled", "listening", "learning", "forwarding", "blocking"];
        assert_eq!(Vec::from_iter(words), [&desired.map(Some)[..], &[None]].concat());
    }
}
