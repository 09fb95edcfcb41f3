//! Elements requested by key.
//!
//! The kernel finds each element by its hash, so the cost is that of the elements requested. A dump
//! costs the square of the set's size: the kernel sends it in pieces of 32 KiB and walks the set from
//! its start for each (nft_rhash_walk() of net/netfilter/nft_set_hash.c).

use nftnl::nftnl_sys::{self as sys, libc};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Element, Key, Name, Set};

use super::as_wanted::is_as_wanted;
use super::raw::{Aligned, RawElement};
use super::set::{self, RawSet};
use super::socket::NfTablesSocket;
use super::{DataplaneError, element, family};
use crate::netlink::Dumped;

/// NFT_SET_ELEM_CATCHALL of linux/netfilter/nf_tables.h.
const CATCHALL: u32 = 2;

/// Most elements per request. The kernel sends an answer per element before the request returns, so
/// the receive buffer must have room for all, also with its usual size of 208 KiB.
const MOST: usize = 256;

/// A set to request elements of.
pub(super) struct ElementRequest<'a> {
    pub(super) family: IpFamily,
    pub(super) table: &'a Name,
    pub(super) name: &'a Name,
    pub(super) set: &'a Set,
}

/// A key to request, with its desired element.
pub(super) type Requested<'a> = (&'a Key, Option<&'a Element>);

/// An answer to a request.
pub(super) enum KeyAnswer {
    /// The element that is desired for this key.
    AsWanted,
    /// Another element.
    Other(Key, Element),
    /// The set has an element of this key that rulegen would not make.
    Foreign,
    /// The set has no element of this key.
    Missing,
}

impl ElementRequest<'_> {
    /// Requests the elements of these keys until `each` returns false. It is called once per key,
    /// in order.
    pub(super) fn request(
        &self,
        socket: &mut NfTablesSocket,
        mut keys: &[Requested<'_>],
        mut each: impl FnMut(&Key, KeyAnswer) -> bool,
    ) -> Result<(), DataplaneError> {
        let mut size = MOST;
        while !keys.is_empty() {
            let (some, _) = keys.split_at(size.min(keys.len()));
            let answers = self.request_once(socket, some)?;
            let found = answers.len();
            // The kernel stops at the first key that the set lacks. Where one is missing, more may
            // be, and what follows is sent again: so the next requests are smaller.
            let is_missing = found < some.len();
            size = if is_missing { 1 } else { (size * 2).min(MOST) };
            let missing = is_missing.then_some(KeyAnswer::Missing);
            let mut answers = some.iter().zip(answers.into_iter().chain(missing));
            if !answers.all(|((key, _), answer)| each(key, answer)) {
                return Ok(());
            }
            keys = keys.get(found + usize::from(is_missing)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Requests elements with one message. Returns the answers up to the first missing one.
    fn request_once(
        &self,
        socket: &mut NfTablesSocket,
        keys: &[Requested<'_>],
    ) -> Result<Vec<KeyAnswer>, DataplaneError> {
        let elements = element::ElementDecoder::new(self.family, self.set);
        let encoded = keys.iter().flat_map(|(key, _)| element::encode(self.set, key, None));
        let mut answers = Vec::with_capacity(keys.len());
        self.ask(socket, encoded, |message| {
            let is_as_wanted = match keys.get(answers.len()) {
                Some((key, Some(element))) => is_as_wanted(message, self.set, key, element),
                _ => false,
            };
            answers.push(match is_as_wanted {
                true => KeyAnswer::AsWanted,
                false => decoded(message, &elements),
            });
        })?;
        Ok(answers)
    }

    /// True if the set has an element for all keys that no other element matches (`*` in nft, Linux
    /// 5.13). The number of elements does not include it.
    pub(super) fn has_catchall(&self, socket: &mut NfTablesSocket) -> Result<bool, DataplaneError> {
        let catchall = RawElement::element().u32(sys::NFTNL_SET_ELEM_FLAGS, CATCHALL);
        let mut is_found = false;
        self.ask(socket, [catchall], |_| is_found = true)?;
        Ok(is_found)
    }

    fn ask(
        &self,
        socket: &mut NfTablesSocket,
        elements: impl IntoIterator<Item = RawElement>,
        each: impl FnMut(&[u8]),
    ) -> Result<(), DataplaneError> {
        let mut named = set::named(self.family, self.table, self.name);
        elements.into_iter().for_each(|one| named.add(one));
        let (mut asked, mut each) = (Ok(Dumped::Nothing), Some(each));
        // One message: this many keys always fit.
        named.write_elements(|body| {
            let Some(each) = each.take() else { return };
            let kind = libc::NFT_MSG_GETSETELEM;
            asked = socket.ask(kind, family::number(self.family), false, body, each);
        });
        asked.map(drop)
    }
}

/// The element of an answer, which has one.
fn decoded(message: &[u8], elements: &element::ElementDecoder<'_>) -> KeyAnswer {
    let read = Aligned::new(message)
        .and_then(|message| RawSet::elements(&message, |raw| elements.decode(&raw)));
    match read.and_then(|read| read.into_iter().next()) {
        Some(Ok((key, element))) => KeyAnswer::Other(key, element),
        Some(Err(element::Foreign)) | None => KeyAnswer::Foreign,
    }
}
