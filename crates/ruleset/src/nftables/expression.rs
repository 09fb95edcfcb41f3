//! Expressions of the kernel's register machine, which each rule consists of
//! (linux/netfilter/nf_tables.h).

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{Name, Verdict};
use rulegen_net::IpFamily;

/// A register, by the kernel's number. There are sixteen of 4 bytes; every fourth is the start of
/// one of the older 16-byte registers and has that register's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u32);

impl Register {
    /// Destination of a verdict map lookup (NFT_REG_VERDICT).
    pub const VERDICT: Self = Self(0);

    /// The 4-byte register with this index, numbered as in nft_dump_register() of
    /// net/netfilter/nf_tables_api.c.
    pub fn of_word(index: u32) -> Self {
        const FIRST: u32 = 1; // NFT_REG_1
        const FIRST_OF_FOUR_BYTES: u32 = 8; // NFT_REG32_00
        Self(if index.is_multiple_of(4) { FIRST + index / 4 } else { FIRST_OF_FOUR_BYTES + index })
    }
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads bytes of the packet (nft_payload).
    Payload {
        /// Header that the offset is relative to.
        base: PayloadBase,
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        length: u32,
        /// Destination register.
        to: Register,
    },
    /// Loads metadata of the packet (nft_meta).
    Meta {
        /// Metadata to load.
        key: MetaKey,
        /// Destination register.
        to: Register,
    },
    /// Sets the packet's mark.
    SetMark {
        /// Source register.
        from: Register,
    },
    /// Loads metadata of the connection (nft_ct).
    Conntrack {
        /// Metadata to load.
        key: ConntrackKey,
        /// Destination register.
        to: Register,
    },
    /// Loads the route type of an address, such as RTN_LOCAL (nft_fib). Needs Linux 4.10.
    Fib {
        /// True for the source address, false for the destination.
        of_source: bool,
        /// Destination register.
        to: Register,
    },
    /// Generates a number for each packet (nft_numgen). Needs Linux 4.9.
    Numgen {
        /// Mode.
        kind: NumberKind,
        /// Upper bound (exclusive), before the offset.
        modulus: u32,
        /// Added to the number.
        offset: u32,
        /// Destination register.
        to: Register,
    },
    /// Hashes bytes (jhash of nft_hash). Needs Linux 4.9.
    Hash {
        /// First register of the input.
        from: Register,
        /// Length of the input in bytes.
        length: u32,
        /// Upper bound (exclusive).
        modulus: u32,
        /// Seed of the hash (jhash).
        seed: u32,
        /// Destination register.
        to: Register,
    },
    /// Computes `(value & mask) ^ xor` (nft_bitwise).
    Bitwise {
        /// Source register.
        from: Register,
        /// Destination register.
        to: Register,
        /// Bits to keep.
        mask: Vec<u8>,
        /// Bits to invert.
        xor: Vec<u8>,
    },
    /// Ends the rule unless the register equals the value, or if it does when negated (nft_cmp).
    Cmp {
        /// Register to compare.
        from: Register,
        /// True for `!=`.
        negated: bool,
        /// Value to compare with.
        value: Vec<u8>,
    },
    /// Ends the rule unless the set contains the key, or if it does when negated (nft_lookup).
    Lookup {
        /// Set or map.
        set: Name,
        /// First register of the key.
        from: Register,
        /// True if the set must not contain the key.
        negated: bool,
        /// Destination register of a map's data.
        to: Option<Register>,
    },
    /// Adds a key to a set, or restarts its timeout (nft_dynset). Needs Linux 4.1.
    Dynset {
        /// Name of the set, in the same table.
        set: Name,
        /// First register of the key.
        from: Register,
        /// Timeout of the element; the kernel takes it in milliseconds. `None` for the timeout of
        /// the set.
        timeout: Option<Duration>,
    },
    /// Loads a constant (nft_immediate).
    Immediate {
        /// Destination register.
        to: Register,
        /// The constant.
        value: Vec<u8>,
    },
    /// Issues a verdict.
    Verdict(Verdict),
    /// Replaces the destination (nft_nat).
    Dnat {
        /// Address family.
        family: IpFamily,
        /// Register with the address.
        address: Register,
        /// Register with the port.
        port: Register,
    },
    /// Replaces the source by an address of this host (nft_masq).
    Masquerade {
        /// NF_NAT_RANGE_* of linux/netfilter/nf_nat.h.
        flags: u32,
    },
    /// Rejects with an ICMP destination unreachable error (nft_reject).
    Reject {
        /// ICMP code.
        code: u8,
    },
    /// Counts packets (nft_counter).
    Counter,
}

/// Packet headers (enum nft_payload_bases).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// IP header.
    Network,
    /// Transport header.
    Transport,
}

/// Metadata of a packet (enum nft_meta_keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// Packet mark, 32 bits (`meta mark`).
    Mark,
    /// Name of the input interface, 16 bytes (`iifname`).
    InInterfaceName,
    /// Number of the transport protocol, 1 byte (`meta l4proto`).
    TransportProtocol,
}

/// Metadata of a connection (enum nft_ct_keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConntrackKey {
    /// State bits (new, established and so on).
    State,
    /// Status bits (enum ip_conntrack_status).
    Status,
}

/// Modes of number generation (enum nft_ng_types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// Counts up, per rule.
    Incremental,
    /// A random number for each packet (`numgen random`).
    Random,
}

/// As shown by `nft --debug=netlink`.
impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Payload { base, offset, length, to } => {
                let base = match base {
                    PayloadBase::Network => "network",
                    PayloadBase::Transport => "transport",
                };
                write!(f, "[ payload load {length}b @ {base} header + {offset} => {to} ]")
            }
            Expression::Meta { key, to } => {
                let key = match key {
                    MetaKey::Mark => "mark",
                    MetaKey::InInterfaceName => "iifname",
                    MetaKey::TransportProtocol => "l4proto",
                };
                write!(f, "[ meta load {key} => {to} ]")
            }
            Expression::SetMark { from } => write!(f, "[ meta set mark with {from} ]"),
            Expression::Conntrack { key, to } => {
                let key = match key {
                    ConntrackKey::State => "state",
                    ConntrackKey::Status => "status",
                };
                write!(f, "[ ct load {key} => {to} ]")
            }
            Expression::Fib { of_source, to } => {
                write!(f, "[ fib {} type => {to} ]", if *of_source { "saddr" } else { "daddr" })
            }
            Expression::Numgen { kind, modulus, offset, to } => {
                let kind = match kind {
                    NumberKind::Incremental => "inc",
                    NumberKind::Random => "random",
                };
                write!(f, "[ numgen {to} = {kind} mod {modulus} offset {offset} ]")
            }
            Expression::Hash { from, length, modulus, seed, to } => {
                write!(f, "[ hash {to} = jhash({from}, {length}, {seed:#x}) % mod {modulus} ]")
            }
            Expression::Bitwise { from, to, mask, xor } => {
                write!(f, "[ bitwise {to} = ( {from} & {} ) ^ {} ]", Hex(mask), Hex(xor))
            }
            Expression::Cmp { from, negated, value } => {
                write!(f, "[ cmp {} {from} {} ]", if *negated { "neq" } else { "eq" }, Hex(value))
            }
            Expression::Lookup { set, from, negated, to } => {
                let not = if *negated { "not in " } else { "" };
                write!(f, "[ lookup {from} {not}set {set}")?;
                to.map_or(Ok(()), |to| write!(f, " => {to}"))?;
                f.write_str(" ]")
            }
            Expression::Dynset { set, from, timeout } => {
                write!(f, "[ dynset update {from} set {set}")?;
                timeout.map_or(Ok(()), |after| write!(f, " timeout {}ms", after.as_millis()))?;
                f.write_str(" ]")
            }
            Expression::Immediate { to, value } => write!(f, "[ immediate {to} {} ]", Hex(value)),
            Expression::Verdict(verdict) => write!(f, "[ {verdict} ]"),
            Expression::Dnat { address, port, .. } => {
                write!(f, "[ nat dnat address {address} port {port} ]")
            }
            Expression::Masquerade { flags } => write!(f, "[ masq flags {flags:#x} ]"),
            Expression::Reject { code } => write!(f, "[ reject code {code} ]"),
            Expression::Counter => f.write_str("[ counter ]"),
        }
    }
}

impl Display for Register {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "reg {}", self.0)
    }
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
