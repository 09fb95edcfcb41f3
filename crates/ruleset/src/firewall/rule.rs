//! Rules of other programs, in a form that both kinds have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bits::{Ternary, left_aligned, prefix_mask};
use super::field::PacketField;
use super::mark::MarkChange;
use super::packet::{Fact, PartialPacket};

/// The chains of one table by name.
pub type FilterChains = BTreeMap<Arc<str>, Vec<FilterRule>>;

/// A base chain of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallBaseChain {
    /// The table with its family, such as `inet firewalld`.
    pub table: String,
    /// Name.
    pub chain: Arc<str>,
    /// The hook at which the kernel runs the chain.
    pub hook: NetfilterHook,
    /// Chain type.
    pub kind: FirewallChainKind,
    /// Priority: lower runs first.
    pub priority: i32,
    /// Whether its policy drops what no rule decides.
    pub drops_rest: bool,
    /// Whether all packets of the family pass it at its hook. Chains of network devices and bridges
    /// see only some.
    pub sees_all: bool,
    /// The rules; `None` if they cannot be read.
    pub chains: Option<Arc<FilterChains>>,
}

/// The hooks of netfilter that a packet of the IP families passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetfilterHook {
    /// Packets of a network device, before everything else.
    Ingress,
    /// Received packets, before routing.
    Prerouting,
    /// Packets to this host.
    Input,
    /// Forwarded packets.
    Forward,
    /// Packets sent by local processes.
    Output,
    /// Packets that leave, after routing.
    Postrouting,
    /// Packets of a network device, after everything else.
    Egress,
}

impl NetfilterHook {
    /// All hooks.
    pub const ALL: [NetfilterHook; 7] = [
        NetfilterHook::Ingress,
        NetfilterHook::Prerouting,
        NetfilterHook::Input,
        NetfilterHook::Forward,
        NetfilterHook::Output,
        NetfilterHook::Postrouting,
        NetfilterHook::Egress,
    ];

    /// The name in nft(8).
    pub fn name(self) -> &'static str {
        match self {
            NetfilterHook::Ingress => "ingress",
            NetfilterHook::Prerouting => "prerouting",
            NetfilterHook::Input => "input",
            NetfilterHook::Forward => "forward",
            NetfilterHook::Output => "output",
            NetfilterHook::Postrouting => "postrouting",
            NetfilterHook::Egress => "egress",
        }
    }
}

/// Type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirewallChainKind {
    /// `filter` or `route`: it sees every packet.
    Filter,
    /// `nat`: it sees the first packet of a tracked connection.
    Nat,
}

impl FirewallChainKind {
    /// The name in nft(8).
    pub fn name(self) -> &'static str {
        match self {
            FirewallChainKind::Filter => "filter",
            FirewallChainKind::Nat => "nat",
        }
    }
}

/// A rule of any program, as far as it is understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterRule {
    /// Conditions, all of which must match.
    pub conditions: Vec<FilterCondition>,
    /// How it changes the mark, if it does.
    pub marks: Option<MarkChange>,
    /// Excludes the packet from connection tracking (`notrack`).
    pub untracks: bool,
    /// What becomes of the packet.
    pub action: Action,
    /// The rule as its program writes it. Without it, it is written in nft's words.
    pub text: Option<Arc<str>>,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Action {
    /// Goes on with the next rule.
    #[default]
    Continue,
    /// Ends the chain and its callers.
    Accept,
    /// Drops the packet.
    Drop,
    /// Rejects the packet with an error.
    Reject,
    /// Returns to the calling chain.
    Return,
    /// Goes to a chain, and comes back at its end.
    Jump(Arc<str>),
    /// Goes to a chain, and returns from this one at its end.
    Goto(Arc<str>),
    /// Replaces an address or port, and accepts.
    Translate,
    /// May accept the packet, and drops nothing.
    MayAccept,
    /// May do anything. Holds what its program calls it.
    Anything(Arc<str>),
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterCondition {
    /// A field, with a mask, is in a set of ranges.
    Is {
        /// The part of the packet that is compared.
        field: PacketField,
        /// Mask, left-aligned.
        mask: u128,
        /// The values.
        ranges: Ranges,
        /// True if the value must be in none of them.
        negated: bool,
    },
    /// One of these matches, or none if negated.
    Any {
        /// Alternatives, each of one field.
        conditions: Vec<FilterCondition>,
        /// True if none may match.
        negated: bool,
    },
    /// A condition that is not understood. Its text.
    Unknown(Arc<str>),
}

/// Sorted ranges of left-aligned values, with their ends.
pub type Ranges = Arc<[(u128, u128)]>;

impl FilterCondition {
    /// The field has exactly this value.
    pub fn is(field: PacketField, value: &[u8], negated: bool) -> Self {
        Self::masked(field, u128::MAX, left_aligned(value), negated)
    }

    /// The first bits of the field have this value.
    pub fn prefix(field: PacketField, value: &[u8], bits: u8, negated: bool) -> Self {
        let mask = prefix_mask(bits);
        Self::masked(field, mask, left_aligned(value) & mask, negated)
    }

    /// The field has one of these bits.
    pub fn has_bits(field: PacketField, bits: u32, negated: bool) -> Self {
        Self::masked(field, left_aligned(&bits.to_be_bytes()), 0, !negated)
    }

    /// The field is between two values, including both.
    pub fn between(field: PacketField, low: &[u8], high: &[u8], negated: bool) -> Self {
        let (low, high) = (left_aligned(low), left_aligned(high));
        let ranges: Ranges = if low <= high { [(low, high)].into() } else { [].into() };
        Self::Is { field, mask: u128::MAX, ranges, negated }
    }

    fn masked(field: PacketField, mask: u128, value: u128, negated: bool) -> Self {
        Self::Is { field, mask, ranges: [(value, value)].into(), negated }
    }

    /// Whether a packet meets it; `None` if the packet does not have the field.
    fn matches(&self, packet: &PartialPacket) -> Option<Ternary> {
        match self {
            Self::Is { field, mask, ranges, negated } => match packet.fact(*field) {
                Fact::Is(bits) => Some(bits.is_in(*mask, ranges).negated(*negated)),
                Fact::Absent => None,
            },
            Self::Any { conditions, negated } => {
                let mut any = Ternary::No;
                for condition in conditions {
                    any = any.or(condition.matches(packet).unwrap_or(Ternary::No));
                }
                Some(any.negated(*negated))
            }
            Self::Unknown(_) => Some(Ternary::Unknown),
        }
    }
}

impl FilterRule {
    /// Whether a packet meets all conditions.
    pub fn matches(&self, packet: &PartialPacket) -> Ternary {
        let mut all = Ternary::Yes;
        for condition in &self.conditions {
            all = all.and(condition.matches(packet).unwrap_or(Ternary::No));
            if all == Ternary::No {
                break;
            }
        }
        all
    }
}
