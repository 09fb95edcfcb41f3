//! Fill level of dynamic sets.

use nftnl::nftnl_sys::{self as sys, libc};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;

use super::raw::{Aligned, Owned};
use super::set::{self, RawSet};
use super::socket::NfTablesSocket;
use super::{DataplaneError, family, read};
use crate::netlink::Dumped;

/// Fill level of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFill {
    /// Name of the set or map.
    pub name: Name,
    /// Number of elements, including expired ones until the kernel deletes them, which it does each
    /// second.
    pub count: u32,
    /// Maximum number of elements.
    pub size: u32,
}

impl SetFill {
    /// Fill level in percent, rounded down.
    pub fn percent(&self) -> u32 {
        let percent = u64::from(self.count) * 100 / u64::from(self.size.max(1));
        u32::try_from(percent).unwrap_or(u32::MAX)
    }
}

/// Fill levels of all dynamic sets of a table.
pub(super) fn read(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: &Name,
    reads_counts: bool,
) -> Result<Vec<SetFill>, DataplaneError> {
    let (mut found, number) = (Vec::new(), family::number(of));
    let of_table = set::of_table(of, table);
    let dumped = socket.ask(
        libc::NFT_MSG_GETSET,
        number,
        true,
        |header| of_table.build(header),
        |message| found.extend(Aligned::new(message).and_then(|aligned| fill(message, &aligned))),
    )?;
    if dumped == Dumped::Nothing {
        return Ok(Vec::new());
    }
    let counted = found.into_iter().map(|(name, size, count)| {
        let count = match count.filter(|_| reads_counts) {
            Some(count) => count,
            None => count_elements(socket, of, table, &name)?,
        };
        Ok(SetFill { name, count, size })
    });
    counted.collect()
}

fn fill(message: &[u8], aligned: &Aligned<'_>) -> Option<(Name, u32, Option<u32>)> {
    let raw: RawSet = Owned::parse(aligned)?;
    let size = raw.borrow().get_u32(sys::NFTNL_SET_DESC_SIZE)?;
    let name = Name::from_kernel(raw.borrow().get_text(sys::NFTNL_SET_NAME)?);
    set::is_dynamic(&raw).then(|| (name, size, set::count(message)))
}

fn count_elements(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: &Name,
    name: &Name,
) -> Result<u32, DataplaneError> {
    let mut count = 0;
    read::elements(socket, &set::named(of, table, name), of, |message| {
        count += RawSet::elements(message, |_| ()).map_or(0, |elements| elements.len());
    })?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}
