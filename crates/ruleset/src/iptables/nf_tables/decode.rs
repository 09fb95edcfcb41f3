//! Reads the expressions of a rule.

use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_net::{IpFamily, Protocol};

use super::attribute::{be32, each, find, printable, rest, text};
use super::encode::{
    ACCEPT, DESTINATION_PORT, DROP, JUMP, META_IIFNAME, META_L4PROTO, META_MARK, NETWORK_HEADER,
    RETURN, Side, TRANSPORT_HEADER, address_offset,
};
use super::extension::{ActualExtension, read_match, read_target};
use super::foreign::{self, ForeignRule, PortSide};
use crate::Negatable;
use crate::iptables::chain_name::ChainName;
use crate::iptables::rule::{Interface, Mark, Match, Rule, RuleSpec, Target};

/// Decodes a rule from the content of NFTA_RULE_EXPRESSIONS. A comment of nft (user data) does
/// nothing and is not read.
pub fn decode(family: IpFamily, expressions: &[u8]) -> Rule {
    let mut reader = RuleDecoder::new(family);
    for (_, element) in each(expressions) {
        match (text(element, 1), find(element, 2)) {
            (Some(name), data) => reader.expression(name, data.unwrap_or_default()),
            (None, _) => reader.other("?", element),
        }
    }
    match rest(expressions) {
        [] => {}
        malformed => reader.other("?", malformed),
    }
    reader.finish()
}

/// What the register holds that was loaded last.
struct LoadedRegister<'a> {
    register: u32,
    value: LoadedValue,
    /// `None` for all bits.
    mask: Option<&'a [u8]>,
    /// The expressions that loaded it.
    expressions: Vec<(&'a str, &'a [u8])>,
    is_used: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadedValue {
    Payload { base: u32, offset: u32, length: u32 },
    Meta(u32),
}

struct RuleDecoder<'a> {
    family: IpFamily,
    loaded: Option<LoadedRegister<'a>>,
    spec: RuleSpec,
    /// The same rule in words.
    foreign: ForeignRule,
    is_foreign: bool,
    has_ended: bool,
}

impl<'a> RuleDecoder<'a> {
    fn new(family: IpFamily) -> Self {
        Self {
            family,
            loaded: None,
            spec: RuleSpec::default(),
            foreign: ForeignRule::default(),
            is_foreign: false,
            has_ended: false,
        }
    }

    fn expression(&mut self, name: &'a str, data: &'a [u8]) {
        if name == "counter" {
            return;
        }
        // An expression behind the verdict or target has no form in iptables.
        self.is_foreign |= self.has_ended;
        let is_understood = match name {
            "payload" | "meta" => self.load(name, data),
            "bitwise" => self.bitwise(data),
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "immediate" => self.verdict(data),
            "match" => self.wrapped_match(data),
            "target" => self.wrapped_target(data),
            "limit" => self.limit(data),
            "log" => self.netlink_log(data),
            _ => None,
        };
        if is_understood.is_none() {
            self.other(name, data);
        }
    }

    fn finish(mut self) -> Rule {
        self.forget_loaded();
        if !self.is_foreign {
            return Rule::Known(self.spec);
        }
        let (text, target) = self.foreign.text(&self.spec);
        Rule::Foreign { text: text.into(), target }
    }

    /// An expression that is not understood. It may use what is loaded.
    fn other(&mut self, name: &'a str, data: &'a [u8]) {
        self.is_foreign = true;
        let loaded = self.loaded.take();
        for (name, data) in loaded.into_iter().flat_map(|loaded| loaded.expressions) {
            self.foreign.expression(name, data);
        }
        self.foreign.expression(name, data);
    }

    /// Ends the use of what is loaded. A comparison with nothing is `-i +`.
    fn forget_loaded(&mut self) {
        let Some(loaded) = self.loaded.take().filter(|loaded| !loaded.is_used) else { return };
        if loaded.value == LoadedValue::Meta(META_IIFNAME)
            && loaded.mask.is_none()
            && self.in_interface(false, "+").is_some()
        {
            return;
        }
        for (name, data) in loaded.expressions {
            self.is_foreign = true;
            self.foreign.expression(name, data);
        }
    }

    fn load(&mut self, name: &'a str, data: &'a [u8]) -> Option<()> {
        let register = be32(data, 1)?;
        let value = match name {
            "meta" => LoadedValue::Meta(be32(data, 2)?),
            _ => LoadedValue::Payload {
                base: be32(data, 2)?,
                offset: be32(data, 3)?,
                length: be32(data, 4)?,
            },
        };
        self.forget_loaded();
        let expressions = vec![(name, data)];
        self.loaded =
            Some(LoadedRegister { register, value, mask: None, expressions, is_used: false });
        Some(())
    }

    /// `register & mask`, without another operation.
    fn bitwise(&mut self, data: &'a [u8]) -> Option<()> {
        let is_and = be32(data, 6).unwrap_or_default() == 0;
        let xor = find(find(data, 5)?, 1)?;
        let mask = find(find(data, 4)?, 1)?;
        let loaded = self.loaded.as_mut()?;
        let is_next = be32(data, 1)? == loaded.register && loaded.mask.is_none();
        let length = usize::try_from(be32(data, 3)?).ok()?;
        if (mask.len(), xor.len()) != (length, length) {
            return None;
        }
        if !(is_and && is_next && xor.iter().all(|byte| *byte == 0)) {
            return None;
        }
        loaded.register = be32(data, 2)?;
        loaded.mask = Some(mask);
        loaded.expressions.push(("bitwise", data));
        Some(())
    }

    fn compare(&mut self, data: &'a [u8]) -> Option<()> {
        let loaded = self.loaded.as_ref()?;
        let negated = match be32(data, 2)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let compared = find(find(data, 3)?, 1)?;
        if be32(data, 1)? != loaded.register {
            return None;
        }
        let (value, mask) = (loaded.value, loaded.mask);
        self.condition(value, mask, negated, compared)?;
        self.loaded.as_mut()?.is_used = true;
        Some(())
    }

    fn condition(
        &mut self,
        value: LoadedValue,
        mask: Option<&[u8]>,
        negated: bool,
        compared: &[u8],
    ) -> Option<()> {
        match (value, mask) {
            (LoadedValue::Meta(META_IIFNAME), None) => {
                self.in_interface(negated, &interface(compared)?)
            }
            (LoadedValue::Meta(foreign::META_OIFNAME), None) => {
                self.is_foreign = true;
                self.foreign.out_interface(negated, &interface(compared)?)
            }
            (LoadedValue::Meta(META_L4PROTO), None) => self.protocol(negated, compared),
            (LoadedValue::Meta(META_MARK), mask) => {
                let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
                let mask = mask.map_or(Some(u32::MAX), number)?;
                let value = Mark { value: number(compared)?, mask };
                self.add_match(Match::Mark(Negatable { negated, value }));
                Some(())
            }
            (LoadedValue::Payload { base: NETWORK_HEADER, offset, length }, mask) => {
                self.network_header(offset, length, mask, negated, compared)
            }
            (LoadedValue::Payload { base: TRANSPORT_HEADER, offset, length: 2 }, None) => {
                let port = u16::from_be_bytes(compared.try_into().ok()?);
                self.ports(offset, negated, port, port)
            }
            // iptables compares both ports at once.
            (LoadedValue::Payload { base: TRANSPORT_HEADER, offset: 0, length: 4 }, None)
                if !negated =>
            {
                let &[a, b, c, d] = compared else { return None };
                let [source, destination] = [[a, b], [c, d]].map(u16::from_be_bytes);
                self.ports(0, negated, source, source)?;
                self.ports(DESTINATION_PORT, negated, destination, destination)
            }
            (
                LoadedValue::Payload { base: TRANSPORT_HEADER, offset: 13, length: 1 },
                Some(mask),
            ) => {
                let (&[mask], &[set]) = (mask, compared) else { return None };
                if self.spec.protocol != Some(Protocol::Tcp) {
                    return None;
                }
                self.is_foreign = true;
                self.foreign.tcp_flags(negated, mask, set);
                Some(())
            }
            _ => None,
        }
    }

    fn in_interface(&mut self, negated: bool, name: &str) -> Option<()> {
        if self.spec.in_interface.is_some() {
            return None;
        }
        self.spec.in_interface = Some(Negatable { negated, value: Interface(name.into()) });
        Some(())
    }

    fn protocol(&mut self, negated: bool, compared: &[u8]) -> Option<()> {
        let &[number] = compared else { return None };
        if self.spec.protocol.is_some() || self.foreign.has_protocol() {
            return None;
        }
        match Protocol::from_number(number).filter(|_| !negated) {
            Some(protocol) => self.spec.protocol = Some(protocol),
            None => {
                self.is_foreign = true;
                self.foreign.protocol(negated, number);
            }
        }
        Some(())
    }

    /// A source or destination network, or the protocol as iptables 1.8.2 compares it.
    fn network_header(
        &mut self,
        offset: u32,
        length: u32,
        mask: Option<&[u8]>,
        negated: bool,
        compared: &[u8],
    ) -> Option<()> {
        let protocol = if self.family == IpFamily::Ipv4 { 9 } else { 6 };
        if (offset, length, mask) == (protocol, 1, None) {
            return self.protocol(negated, compared);
        }
        let side = [Side::Source, Side::Destination]
            .into_iter()
            .find(|side| address_offset(self.family, *side) == offset)?;
        let value = network(self.family, mask, compared)?;
        if usize::try_from(length).ok()? != compared.len() {
            return None;
        }
        let place = match side {
            Side::Source => &mut self.spec.source,
            Side::Destination => &mut self.spec.destination,
        };
        if place.is_some() {
            return None;
        }
        *place = Some(Negatable { negated, value });
        Some(())
    }

    /// The ports of TCP and UDP, from the first to the last.
    fn ports(&mut self, offset: u32, negated: bool, first: u16, last: u16) -> Option<()> {
        let protocol = self.spec.protocol.filter(|of| *of != Protocol::Sctp)?;
        let is_known = offset == DESTINATION_PORT && !negated && first == last;
        if is_known && !self.foreign.has_ports() {
            let destination_port = Some(first);
            self.foreign.add_match(&Match::Transport { protocol, destination_port });
            self.spec.matches.push(Match::Transport { protocol, destination_port });
            return Some(());
        }
        let side = match offset {
            0 => PortSide::Source,
            DESTINATION_PORT => PortSide::Destination,
            _ => return None,
        };
        self.is_foreign = true;
        self.foreign.ports(protocol, side, negated, first, last);
        Some(())
    }

    fn range(&mut self, data: &'a [u8]) -> Option<()> {
        let loaded = self.loaded.as_ref()?;
        let negated = match be32(data, 2)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let number = |kind| {
            let bytes = find(find(data, kind)?, 1)?.try_into().ok()?;
            Some(u16::from_be_bytes(bytes))
        };
        let (first, last) = (number(3)?, number(4)?);
        match (loaded.value, loaded.mask) {
            (LoadedValue::Payload { base: TRANSPORT_HEADER, offset, length: 2 }, None)
                if be32(data, 1)? == loaded.register =>
            {
                self.ports(offset, negated, first, last)?;
            }
            _ => return None,
        }
        self.loaded.as_mut()?.is_used = true;
        Some(())
    }

    fn add_match(&mut self, one: Match) {
        self.foreign.add_match(&one);
        self.spec.matches.push(one);
    }

    fn wrapped_match(&mut self, data: &'a [u8]) -> Option<()> {
        let actual = extension(data)?;
        self.forget_loaded();
        match read_match(self.family, actual) {
            Some(Match::Transport { protocol, destination_port }) => {
                // iptables would merge it with the ports that are there.
                if self.foreign.has_ports() {
                    return None;
                }
                self.add_match(Match::Transport { protocol, destination_port });
            }
            Some(one) => self.add_match(one),
            None => {
                self.is_foreign = true;
                self.foreign.wrapped_match(actual);
            }
        }
        Some(())
    }

    fn wrapped_target(&mut self, data: &'a [u8]) -> Option<()> {
        let actual = extension(data)?;
        self.forget_loaded();
        self.has_ended = true;
        match read_target(self.family, actual) {
            Some(target) => self.set_target(target),
            None => {
                self.is_foreign = true;
                self.foreign.wrapped_target(self.family, actual);
            }
        }
        Some(())
    }

    fn verdict(&mut self, data: &'a [u8]) -> Option<()> {
        let verdict = find(find(data, 2)?, 2)?;
        if be32(data, 1)? != 0 {
            return None;
        }
        let chain = text(verdict, 2).map(ChainName::from);
        let target = match (be32(verdict, 1)?, chain) {
            (ACCEPT, None) => Target::Accept,
            (DROP, None) => Target::Drop,
            (RETURN, None) => Target::Return,
            (JUMP, Some(chain)) => Target::Jump(chain),
            (foreign::GOTO, Some(chain)) => {
                self.forget_loaded();
                (self.has_ended, self.is_foreign) = (true, true);
                self.foreign.goto(chain);
                return Some(());
            }
            _ => return None,
        };
        self.forget_loaded();
        self.has_ended = true;
        self.set_target(target);
        Some(())
    }

    /// The match `limit`, of packets.
    fn limit(&mut self, data: &'a [u8]) -> Option<()> {
        let number = |kind| find(data, kind)?.try_into().ok().map(u64::from_be_bytes);
        let (rate, unit, burst) = (number(1)?, number(2)?, be32(data, 3)?);
        if (be32(data, 4)?, be32(data, 5).unwrap_or_default()) != (0, 0) {
            return None;
        }
        self.foreign.limit(rate, unit, burst)?;
        self.forget_loaded();
        self.is_foreign = true;
        Some(())
    }

    /// The target `NFLOG`.
    fn netlink_log(&mut self, data: &'a [u8]) -> Option<()> {
        const GROUP: u16 = 1;
        find(data, GROUP)?;
        self.forget_loaded();
        (self.has_ended, self.is_foreign) = (true, true);
        self.foreign.netlink_log(data);
        Some(())
    }

    fn set_target(&mut self, target: Target) {
        match self.spec.target {
            None => self.spec.target = Some(target),
            // iptables-nft writes only one.
            Some(_) => {
                self.is_foreign = true;
                self.foreign.further_target(&target);
            }
        }
    }
}

/// An interface name as it is compared: with its NUL, or the start of a name.
fn interface(compared: &[u8]) -> Option<String> {
    let name = compared.split(|byte| *byte == 0).next()?;
    let is_rest_zero = compared.get(name.len()..)?.iter().all(|byte| *byte == 0);
    let is_start = name.len() == compared.len();
    let name = printable(name).filter(|_| is_rest_zero)?;
    let is_plain = !name.is_empty()
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\'));
    // A name that ends in `+` would be taken for a start.
    let is_clear = !name.ends_with('+') && !name.starts_with(['-', '!']);
    (is_plain && is_clear).then(|| if is_start { format!("{name}+") } else { name.to_owned() })
}

/// The network whose first bytes are compared, with a mask or whole.
fn network(family: IpFamily, mask: Option<&[u8]>, compared: &[u8]) -> Option<IpNet> {
    let size = if family == IpFamily::Ipv4 { 4 } else { 16 };
    let prefix = match mask {
        None => compared.len().checked_mul(8)?,
        Some(mask) if mask.len() == compared.len() => prefix_of(mask)?,
        Some(_) => return None,
    };
    if compared.is_empty() || compared.len() > size {
        return None;
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(compared).for_each(|(to, from)| *to = *from);
    let [a, b, c, d, ..] = bytes;
    let address = match family {
        IpFamily::Ipv4 => IpAddr::from([a, b, c, d]),
        IpFamily::Ipv6 => IpAddr::from(bytes),
    };
    let network = IpNet::new(address, u8::try_from(prefix).ok()?).ok()?;
    // With other bits the comparison would never be true.
    (network.network() == address).then_some(network)
}

/// The number of leading ones; `None` if ones follow a zero.
fn prefix_of(mask: &[u8]) -> Option<usize> {
    let mut prefix = 0;
    let mut has_ended = false;
    for byte in mask {
        let ones = byte.leading_ones();
        let is_prefix = byte.count_ones() == ones;
        if !is_prefix || has_ended && *byte != 0 {
            return None;
        }
        has_ended |= ones < 8;
        prefix += usize::try_from(ones).ok()?;
    }
    Some(prefix)
}

/// The name, revision and structure of a wrapped match or target.
fn extension(data: &[u8]) -> Option<ActualExtension<'_>> {
    Some(ActualExtension { name: text(data, 1)?, revision: be32(data, 2)?, info: find(data, 3)? })
}
