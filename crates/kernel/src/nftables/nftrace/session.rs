//! Tables with trace rules, which exist while a trace runs.

use nftnl::nftnl_sys::{self as sys, libc};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{
    BaseChain, ChainKind, Comment, Expression, Hook, Name, Operation, Register, TraceFilter,
    Transaction,
};

use crate::nftables::Dataplane;
use crate::nftables::batch::Batch;
use crate::nftables::raw::RawExpression;
use crate::nftables::{DataplaneError, NfTables, expression, rule, table};

/// Tables with trace rules. They are removed when the value is dropped. If
/// [`TraceSession::is_owned`], the kernel also removes them when the process exits, even if it is
/// killed.
pub struct TraceSession {
    kernel: NfTables,
    table: Name,
    families: Vec<IpFamily>,
    is_owned: bool,
}

/// After defragmentation, because fragments have no ports (NF_IP_PRI_CONNTRACK_DEFRAG is -400), and
/// before everything else (NF_IP_PRI_RAW is -300).
const PRIORITY: i32 = -350;

/// NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h: the kernel deletes the table with the socket
/// that created it (Linux 5.12 or later).
const OWNER: u32 = 2;

const HOOKS: [(&str, Hook); 2] = [("prerouting", Hook::Prerouting), ("output", Hook::Output)];

impl TraceSession {
    /// Enables tracing for these packets, in one commit. Open a
    /// [`TraceListener`](super::TraceListener) before to receive their steps.
    ///
    /// # Errors
    /// See [`DataplaneError`]; nothing was written.
    pub fn arm(filter: &TraceFilter) -> Result<Self, DataplaneError> {
        let kernel = NfTables::open()?;
        // The socket's port ID is unique within the network namespace; a process ID inside a
        // container is not.
        let table = Name::from(format!("rulegen-trace-{}", kernel.port()));
        let families = [IpFamily::Ipv4, IpFamily::Ipv6].into_iter();
        let families = families.filter(|family| !filter.rules(*family).is_empty()).collect();
        let mut armed = Self { kernel, table, families, is_owned: true };
        match armed.write(filter) {
            Err(DataplaneError::Refused(_)) => {
                armed.is_owned = false;
                armed.write(filter)?;
            }
            done => done?,
        }
        Ok(armed)
    }

    /// Name of the tables, the same in each family.
    pub fn table(&self) -> &Name {
        &self.table
    }

    /// True if the kernel removes the tables with the process (Linux 5.12 or later). Otherwise they
    /// stay if the process is killed.
    pub fn is_owned(&self) -> bool {
        self.is_owned
    }

    fn write(&mut self, filter: &TraceFilter) -> Result<(), DataplaneError> {
        if self.families.is_empty() {
            return Ok(());
        }
        let first = self.kernel.socket.first_sequence();
        let mut batch = Batch::empty(first);
        for family in &self.families {
            self.add(&mut batch, *family, filter);
        }
        self.kernel.socket.commit(&batch.asking().finish())
    }

    fn add(&self, batch: &mut Batch, of: IpFamily, filter: &TraceFilter) {
        const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        const AT_END: i32 = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let flags = if self.is_owned { OWNER } else { 0 };
        let comment = Comment::from("rulegen trace: temporary");
        let made = table::encode(of, &self.table, &comment).u32(sys::NFTNL_TABLE_FLAGS, flags);
        batch.step(format!("add table {} {}", of.nft_name(), self.table));
        batch.add(libc::NFT_MSG_NEWTABLE, of, NEW, &made);
        for (name, hook) in HOOKS {
            let chain = Name::from(name);
            let base = BaseChain { kind: ChainKind::Filter, hook, priority: PRIORITY };
            batch.operation(of, &self.table, &Operation::AddChain(&chain, Some(base)));
            for conditions in filter.rules(of) {
                let raw = conditions
                    .iter()
                    .fold(rule::of_chain(of, &self.table, &chain), |raw, condition| {
                        raw.expression(expression::encode(condition))
                    });
                let raw = set_nftrace().into_iter().fold(raw, |raw, one| raw.expression(one));
                batch.step(format!("add rule to {} {} {name}", of.nft_name(), self.table));
                batch.add(libc::NFT_MSG_NEWRULE, of, AT_END, &raw);
            }
        }
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        let Self { kernel, table, families, .. } = self;
        let delete = |family: &IpFamily| Transaction {
            family: *family,
            table,
            operations: vec![Operation::DeleteTable],
        };
        let gone: Vec<Transaction<'_>> = families.iter().map(delete).collect();
        if let Err(error) = kernel.commit(None, &gone) {
            tracing::debug!(%error, %table, "cannot delete trace table, the kernel removes it with its socket");
        }
    }
}

/// `meta nftrace set 1`.
fn set_nftrace() -> [RawExpression; 2] {
    // NFT_REG_1.
    const FIRST: Register = Register(1);
    let key = libc::NFT_META_NFTRACE.cast_unsigned();
    [
        expression::encode(&Expression::Immediate { to: FIRST, value: vec![1] }),
        RawExpression::named(c"meta")
            .u32(sys::NFTNL_EXPR_META_KEY, key)
            .u32(sys::NFTNL_EXPR_META_SREG, FIRST.0),
    ]
}
