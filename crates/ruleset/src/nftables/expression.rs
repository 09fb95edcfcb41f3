//! What the kernel makes of a rule: expressions for a small machine with registers
//! (linux/netfilter/nf_tables.h).

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{Name, Verdict};
use rulegen_net::IpFamily;

/// A register, by the number that the kernel gives back. There are sixteen of 4 bytes; every
/// fourth begins one of the older registers of 16 bytes and goes by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u32);

impl Register {
    /// What a lookup in a verdict map writes to (NFT_REG_VERDICT).
    pub const VERDICT: Self = Self(0);

    /// The register of 4 bytes with this index, as nft_dump_register() of
    /// net/netfilter/nf_tables_api.c names it.
    pub fn of_word(index: u32) -> Self {
        const FIRST: u32 = 1; // NFT_REG_1
        const FIRST_OF_FOUR_BYTES: u32 = 8; // NFT_REG32_00
        Self(if index.is_multiple_of(4) { FIRST + index / 4 } else { FIRST_OF_FOUR_BYTES + index })
    }
}

/// One step of a rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads bytes of the packet.
    Payload {
        /// The header that they are counted from.
        base: PayloadBase,
        /// Where they begin, in bytes.
        offset: u32,
        /// How many there are.
        length: u32,
        /// Where they go.
        to: Register,
    },
    /// Loads what the kernel knows of the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Where it goes.
        to: Register,
    },
    /// Sets the packet's mark.
    SetMark {
        /// From here.
        from: Register,
    },
    /// Loads what the kernel knows of the connection.
    Conntrack {
        /// What.
        key: ConntrackKey,
        /// Where it goes.
        to: Register,
    },
    /// Loads what kind of route an address has (RTN_LOCAL and others).
    Fib {
        /// The source, else the destination.
        of_source: bool,
        /// Where it goes.
        to: Register,
    },
    /// Loads a number that is new for each packet.
    Numgen {
        /// How it is made.
        kind: NumberKind,
        /// It is below this, before the offset.
        modulus: u32,
        /// Added to it.
        offset: u32,
        /// Where it goes.
        to: Register,
    },
    /// Loads a number that is made of others (jhash).
    Hash {
        /// Of what is here.
        from: Register,
        /// So many bytes of it.
        length: u32,
        /// It is below this.
        modulus: u32,
        /// Makes hashes differ.
        seed: u32,
        /// Where it goes.
        to: Register,
    },
    /// Takes bits away, then turns bits round.
    Bitwise {
        /// Of what is here.
        from: Register,
        /// Where it goes.
        to: Register,
        /// The bits that stay.
        mask: Vec<u8>,
        /// The bits that are turned round.
        xor: Vec<u8>,
    },
    /// Ends the rule unless a register holds this, or if it does.
    Cmp {
        /// The register.
        from: Register,
        /// Whether it must not hold it.
        negated: bool,
        /// What it is compared to.
        value: Vec<u8>,
    },
    /// Ends the rule unless a set holds a key, or if it does.
    Lookup {
        /// The set.
        set: Name,
        /// Where the key begins.
        from: Register,
        /// Whether the set must not hold it.
        negated: bool,
        /// Where the data of a map go.
        to: Option<Register>,
    },
    /// Puts a key into a set, or starts its time anew.
    Dynset {
        /// The set.
        set: Name,
        /// Where the key begins.
        from: Register,
        /// How long the key stays in the set after this.
        timeout: Duration,
    },
    /// Loads a constant.
    Immediate {
        /// Where it goes.
        to: Register,
        /// The constant.
        value: Vec<u8>,
    },
    /// Carries a verdict out.
    Verdict(Verdict),
    /// Replaces the destination.
    Dnat {
        /// Of this family.
        family: IpFamily,
        /// Where the address is.
        address: Register,
        /// Where the port is.
        port: Register,
    },
    /// Replaces the source by this host's address.
    Masquerade {
        /// NF_NAT_RANGE_* of linux/netfilter/nf_nat.h.
        flags: u32,
    },
    /// Tells the sender by ICMP that a destination is unreachable.
    Reject {
        /// The ICMP code.
        code: u8,
    },
    /// Counts packets.
    Counter,
}

/// Headers (enum nft_payload_bases).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// That of IP.
    Network,
    /// That of the transport protocol.
    Transport,
}

/// What the kernel knows of a packet (enum nft_meta_keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// Its mark.
    Mark,
    /// The name of the interface that it came through.
    InInterfaceName,
    /// Its transport protocol.
    TransportProtocol,
}

/// What the kernel knows of a connection (enum nft_ct_keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConntrackKey {
    /// Whether it is new and the like, as bits.
    State,
    /// What was done to it (enum ip_conntrack_status), as bits.
    Status,
}

/// How numbers are made (enum nft_ng_types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// One after the other.
    Incremental,
    /// Any.
    Random,
}

/// In the form in which `nft --debug=netlink` shows expressions.
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
                write!(f, "[ dynset update {from} set {set} timeout {}ms ]", timeout.as_millis())
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
