//! One table of nftables, in types.
//!
//! What a table says of many addresses stands in the elements of its sets and maps, which the
//! kernel finds by hash; its chains and rules say only how to look there.

mod name;
mod rule;
mod set;
mod share;
mod table;
mod text;
mod trace;

pub use name::Name;
pub use rule::{Condition, Interface, Number, Rule, Selector, Statement, Verdict};
pub use set::{Data, DataType, Element, Field, Key, Set, Value};
pub use share::Share;
pub use table::{BaseChain, Chain, ChainKind, Hook, Table};
pub use trace::trace;
