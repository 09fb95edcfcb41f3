//! Deletes elements that may expire at any time.

use std::collections::HashSet;

use rulegen_net::IpFamily;
use rulegen_ruleset::dataplane::RefusalReason;
use rulegen_ruleset::nftables::{Key, Name, Set};

use super::DataplaneError;
use super::batch::Batch;
use super::socket::NfTablesSocket;

/// How often the deletion is repeated when elements expire in between.
const ATTEMPTS: u32 = 5;

/// Elements to delete from one set.
pub(super) struct ElementsToDelete<'a> {
    pub(super) family: IpFamily,
    pub(super) table: &'a Name,
    pub(super) name: &'a Name,
    pub(super) set: &'a Set,
}

impl ElementsToDelete<'_> {
    /// Deletes elements with NFT_MSG_DESTROYSETELEM, which ignores missing ones.
    pub(super) fn destroy(
        &self,
        socket: &mut NfTablesSocket,
        keys: &[Key],
    ) -> Result<(), DataplaneError> {
        let mut batch = Batch::empty(socket.first_sequence());
        batch.step(format!("delete elements of {}", self.words()));
        batch.destroy_elements(self.family, (self.table, self.name, self.set), keys);
        socket.commit(&batch.asking().finish())
    }

    /// Deletes elements on any kernel: each element has a message of its own, so that the kernel
    /// reports which are missing, and the rest is retried without those.
    pub(super) fn delete(
        &self,
        socket: &mut NfTablesSocket,
        keys: &[Key],
    ) -> Result<(), DataplaneError> {
        let mut left: Vec<&Key> = keys.iter().collect();
        for _ in 0..ATTEMPTS {
            if left.is_empty() {
                return Ok(());
            }
            let missing = match self.delete_once(socket, &left) {
                Err(DataplaneError::Refused(refusals))
                    if refusals.iter().all(|one| one.reason == RefusalReason::NotFound) =>
                {
                    refusals
                }
                done => return done,
            };
            let missing: HashSet<&str> = missing.iter().map(|one| one.operation.as_str()).collect();
            left.retain(|key| !missing.contains(self.deletion(key).as_str()));
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }

    fn delete_once(
        &self,
        socket: &mut NfTablesSocket,
        keys: &[&Key],
    ) -> Result<(), DataplaneError> {
        let mut batch = Batch::empty(socket.first_sequence());
        for key in keys {
            batch.step(self.deletion(key));
            batch.delete_element(self.family, (self.table, self.name, self.set), key);
        }
        socket.commit(&batch.asking().finish())
    }

    /// Description of the deletion, which identifies its refusal.
    fn deletion(&self, key: &Key) -> String {
        format!("delete {key:?} of {}", self.words())
    }

    fn words(&self) -> String {
        format!("{} {} {}", self.family.nft_name(), self.table, self.name)
    }
}

/// True if the kernel does not know the message type (nfnetlink_rcv_batch() of
/// net/netfilter/nfnetlink.c).
pub(super) fn is_unknown_message(error: &DataplaneError) -> bool {
    let is_unknown = |reason| matches!(reason, RefusalReason::Invalid | RefusalReason::Unsupported);
    matches!(error, DataplaneError::Refused(refusals) if refusals.iter().all(|one| is_unknown(one.reason)))
}
