//! One table of nftables, in types.
//!
//! What a table says of many addresses stands in the elements of its sets and maps, which the
//! kernel finds by hash; its chains and rules say only how to look there.

mod comment;
mod describe;
mod diff;
mod expression;
mod hash;
mod held;
mod key;
mod lower;
mod name;
mod nftrace;
mod raise;
mod raised;
mod rule;
mod set;
mod stages;
mod table;
mod text;
mod trace;
mod transaction;

pub use comment::Comment;
pub use describe::{Done, Edit, Object};
pub use diff::{diff, numbers_asked, replacement};
pub use expression::{ConntrackKey, Expression, MetaKey, NumberKind, PayloadBase, Register};
pub use held::{Held, HeldChain, HeldRule};
pub use key::Key;
pub use lower::lower;
pub use name::Name;
pub use nftrace::{
    BasePlace, ChainId, PacketHeader, Ports, TableFamily, TraceEvent, TraceFilter, TraceStep,
    TraceTarget, TraceVerdict, TracedRule,
};
pub use raise::raise;
pub use raised::{Raised, Unknown};
pub use rule::{Condition, Draw, Interface, Number, Rule, Selector, Statement, Verdict};
pub use set::{Data, DataType, Element, Field, Set, Value};
pub use stages::stages;
pub use table::{BaseChain, Chain, ChainKind, Hook, Table};
pub use trace::{Branch, Found, Step, Trace, trace};
pub use transaction::{Operation, Transaction};
