//! The text of a rule: as its program writes it, or in nft's words.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::field::{PacketField, conntrack};
use super::rule::{Action, FilterCondition, FilterRule};

impl Display for FilterRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        let mut words: Vec<String> = self.conditions.iter().map(ToString::to_string).collect();
        if self.marks.is_some() {
            words.push("meta mark set …".to_owned());
        }
        if self.untracks {
            words.push("notrack".to_owned());
        }
        match &self.action {
            Action::Continue => {}
            Action::Accept | Action::MayAccept => words.push("accept".to_owned()),
            Action::Drop => words.push("drop".to_owned()),
            Action::Reject => words.push("reject".to_owned()),
            Action::Return => words.push("return".to_owned()),
            Action::Jump(chain) => words.push(format!("jump {chain}")),
            Action::Goto(chain) => words.push(format!("goto {chain}")),
            Action::Translate => words.push("nat …".to_owned()),
            Action::Anything(name) => words.push(name.to_string()),
        }
        f.write_str(&words.join(" "))
    }
}

impl Display for FilterCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FilterCondition::Is { field, mask, ranges, negated } => {
                // A comparison with no bit of a mask is negated to "has one of them".
                let tests_bits = *mask != u128::MAX && ranges.as_ref() == [(0, 0)];
                if tests_bits && is_flags(*field) {
                    let not = if *negated { "" } else { "! " };
                    return write!(f, "{} {not}{}", field.name(), bits(*field, *mask));
                }
                let not = if *negated { "!= " } else { "" };
                let value = |range: &(u128, u128)| value(*field, *mask, *range);
                match ranges.as_ref() {
                    [one] => write!(f, "{} {not}{}", field.name(), value(one)),
                    several => {
                        let mut values: Vec<String> = several.iter().take(3).map(value).collect();
                        if several.len() > values.len() {
                            values.push("…".to_owned());
                        }
                        write!(f, "{} {not}{{ {} }}", field.name(), values.join(", "))
                    }
                }
            }
            FilterCondition::Any { conditions, negated } => {
                let texts: Vec<String> = conditions.iter().map(ToString::to_string).collect();
                let not = if *negated { "! " } else { "" };
                write!(f, "{not}({})", texts.join(" or "))
            }
            FilterCondition::Unknown(text) => f.write_str(text),
        }
    }
}

impl PacketField {
    /// The name in nft's words.
    pub fn name(self) -> String {
        let name = match self {
            PacketField::Network { offset: 12, length: ..=4 } => "ip saddr",
            PacketField::Network { offset: 16, length: ..=4 } => "ip daddr",
            PacketField::Network { offset: 8, .. } => "ip6 saddr",
            PacketField::Network { offset: 24, .. } => "ip6 daddr",
            PacketField::Network { offset: 9, length: 1 } => "ip protocol",
            PacketField::Network { offset: 6, length: 1 } => "ip6 nexthdr",
            PacketField::SOURCE_PORT => "th sport",
            PacketField::DESTINATION_PORT => "th dport",
            PacketField::TCP_FLAGS => "tcp flags",
            PacketField::Network { offset, length } => {
                return format!("@nh,{},{}", offset * 8, length * 8);
            }
            PacketField::Transport { offset, length } => {
                return format!("@th,{},{}", offset * 8, length * 8);
            }
            PacketField::Protocol => "meta l4proto",
            PacketField::Family => "meta nfproto",
            PacketField::EtherType => "meta protocol",
            PacketField::InInterface => "iifname",
            PacketField::OutInterface => "oifname",
            PacketField::Mark => "meta mark",
            PacketField::ConnectionState => "ct state",
            PacketField::ConnectionStatus | PacketField::NatStatus => "ct status",
            PacketField::SourceIsLocal => "fib saddr type local",
            PacketField::DestinationIsLocal => "fib daddr type local",
        };
        name.to_owned()
    }
}

fn is_flags(field: PacketField) -> bool {
    matches!(
        field,
        PacketField::ConnectionState | PacketField::ConnectionStatus | PacketField::NatStatus
    )
}

fn bits(field: PacketField, mask: u128) -> String {
    let bits = first_word(mask);
    let of_state: &[(u32, &str)] = &[
        (conntrack::INVALID, "invalid"),
        (conntrack::ESTABLISHED, "established"),
        (conntrack::RELATED, "related"),
        (conntrack::NEW, "new"),
        (conntrack::UNTRACKED, "untracked"),
    ];
    let of_status: &[(u32, &str)] = &[
        (conntrack::SEEN_REPLY, "seen-reply"),
        (conntrack::ASSURED, "assured"),
        (conntrack::SNAT, "snat"),
        (conntrack::DNAT, "dnat"),
    ];
    let names = if field == PacketField::ConnectionState { of_state } else { of_status };
    let has = names.iter().filter(|(bit, _)| bits & bit != 0);
    let texts: Vec<&str> = has.map(|(_, name)| *name).collect();
    let named = names.iter().fold(0, |all, (bit, _)| all | bit);
    if texts.is_empty() || bits & !named != 0 { format!("{bits:#x}") } else { texts.join(",") }
}

fn value(field: PacketField, mask: u128, (low, high): (u128, u128)) -> String {
    let one = |value: u128| single(field, mask, value);
    if low == high { one(low) } else { format!("{}-{}", one(low), one(high)) }
}

fn single(field: PacketField, mask: u128, value: u128) -> String {
    let bytes = value.to_be_bytes();
    match field {
        PacketField::Network { offset: 12 | 16, length: ..=4 } => {
            let address = Ipv4Addr::from_bits(first_word(value));
            let length = match field {
                PacketField::Network { length, .. } => prefix(mask, length),
                _ => None,
            };
            length.map_or_else(|| address.to_string(), |length| format!("{address}/{length}"))
        }
        PacketField::Network { offset: 8 | 24, length } => {
            let address = Ipv6Addr::from_bits(value);
            match prefix(mask, length) {
                Some(length) => format!("{address}/{length}"),
                None => address.to_string(),
            }
        }
        PacketField::Transport { length: 2, .. } => (value >> 112).to_string(),
        PacketField::Protocol | PacketField::Network { length: 1, .. } => match value >> 120 {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            58 => "ipv6-icmp".to_owned(),
            132 => "sctp".to_owned(),
            other => other.to_string(),
        },
        PacketField::Family => match value >> 120 {
            2 => "ipv4".to_owned(),
            10 => "ipv6".to_owned(),
            other => other.to_string(),
        },
        PacketField::EtherType => match value >> 112 {
            0x0800 => "ip".to_owned(),
            0x86dd => "ip6".to_owned(),
            other => format!("{other:#06x}"),
        },
        PacketField::InInterface | PacketField::OutInterface => {
            let name: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != 0).collect();
            let star = if mask == u128::MAX { "" } else { "*" };
            format!("\"{}{star}\"", String::from_utf8_lossy(&name))
        }
        PacketField::ConnectionState | PacketField::ConnectionStatus | PacketField::NatStatus => {
            bits(field, value)
        }
        _ if mask == u128::MAX => format!("{:#x}", first_word(value)),
        _ => format!("& {:#x} == {:#x}", first_word(mask), first_word(value)),
    }
}

/// The length of a prefix, if it is shorter than the address.
fn prefix(mask: u128, loaded: u32) -> Option<u32> {
    let length = mask.leading_ones().min(loaded.saturating_mul(8));
    let whole = if loaded > 4 { 128 } else { 32 };
    (length < whole).then_some(length)
}

fn first_word(value: u128) -> u32 {
    u32::try_from(value >> 96).unwrap_or_default()
}
