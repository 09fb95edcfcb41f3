//! A typed nftables table.
//!
//! Data about many addresses is in the elements of sets and maps, which the kernel finds by hash.
//! Chains and rules only do the lookups.
//!
//! A table that this crate can describe needs at most Linux 5.7; each type names the version that
//! it needs, if that is newer than Linux 4.1 (concatenated keys). Versions are those of the kernel
//! commits, and of <https://wiki.nftables.org>, "List of updates since Linux kernel 3.13". Text is
//! tested with nft 1.0.6.

mod actual;
mod comment;
mod compared;
mod delinearize;
mod delinearized;
mod describe;
mod diff;
mod expression;
mod hash;
mod key;
mod likely_keys;
mod linearize;
mod merge;
mod name;
mod nftrace;
mod parse;
mod part;
mod rule;
mod set;
mod stages;
mod table;
mod text;
mod trace;
mod transaction;
mod value;
mod words;

pub use actual::{Actual, ActualChain, ActualRule};
pub use comment::Comment;
pub use compared::{ComparedTable, Differences, ElementComparison};
pub use delinearize::delinearize;
pub use delinearized::{Delinearized, Unknown};
pub use describe::{EditAction, EditedObject, ObjectEdit};
pub use diff::{diff, diff_compared, numbers_looked_up, replacement};
pub use expression::{ConntrackKey, Expression, MetaKey, NumberKind, PayloadBase, Register};
pub use key::Key;
pub use likely_keys::{KeyOrigin, LikelyKeys, likely_keys, run};
pub use linearize::linearize;
pub use name::Name;
pub use nftrace::{
    ChainId, HookPosition, PacketHeader, Ports, TableFamily, TraceEvent, TraceFilter, TraceStep,
    TraceTarget, TraceVerdict, TracedRule,
};
pub use parse::{TableTextError, parse_tables};
pub use part::{ElementsInQuestion, TablePart};
pub use rule::{Condition, Interface, Number, NumgenMode, Rule, Selector, Statement, Verdict};
pub use set::{Data, DataType, Element, Field, Set};
pub use stages::stages;
pub use table::{BaseChain, Chain, ChainKind, Hook, Table};
pub use trace::{Branch, MatchingElement, Step, Trace, trace};
pub use transaction::{Operation, Transaction};
pub use value::Value;
