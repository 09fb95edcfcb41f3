//! Filter for traced packets, and the rules that implement it.

use ipnet::IpNet;

use crate::Negatable;
use crate::nftables::{
    Condition, Expression, MetaKey, PayloadBase, Register, Statement, linearize,
};
use rulegen_net::{Frontend, FrontendAddress, IpFamily, Protocol};

/// Selects the packets to trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Source network; `None` for any source.
    pub from: Option<IpNet>,
    /// Destinations; empty for any destination.
    pub to: Vec<TraceTarget>,
    /// True for all packets of TCP connections, false for only the first.
    pub every_packet: bool,
}

/// The destination of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceTarget {
    /// Any address of a network, with any protocol.
    Network(IpNet),
    /// An address and port. A node port is traced at any address of this host.
    Frontend(Frontend),
}

/// Flags of TCP (RFC 9293, 3.1): FIN, SYN, RST and ACK. The first packet has only SYN.
const TCP_FLAGS: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const TCP_FLAGS_OFFSET: u32 = 13;

impl TraceFilter {
    /// The filter as rules of a family, each a list of expressions.
    pub fn rules(&self, family: IpFamily) -> Vec<Vec<Expression>> {
        if self.from.is_some_and(|from| IpFamily::of(from.addr()) != family) {
            return Vec::new();
        }
        if self.to.is_empty() {
            return if self.from.is_some() {
                self.whatever(family, Vec::new())
            } else {
                Vec::new()
            };
        }
        let of_family = self.to.iter().filter(|target| target.family() == family);
        of_family.flat_map(|target| self.to_target(family, *target)).collect()
    }

    fn to_target(&self, family: IpFamily, target: TraceTarget) -> Vec<Vec<Expression>> {
        let destination =
            |network| Statement::Match(Condition::Destination(Negatable::is(network)));
        match target {
            TraceTarget::Network(network) => self.whatever(family, vec![destination(network)]),
            TraceTarget::Frontend(Frontend { address, protocol, port }) => {
                let statement = match address {
                    FrontendAddress::Ip(ip) => destination(IpNet::from(ip)),
                    FrontendAddress::Node(_) => Statement::Match(Condition::DestinationIsLocal),
                };
                vec![self.at_port(family, vec![statement], protocol, port)]
            }
        }
    }

    /// Any protocol. TCP has a rule of its own, to select only the first packets.
    fn whatever(&self, family: IpFamily, statements: Vec<Statement>) -> Vec<Vec<Expression>> {
        let all = self.beginning(family, statements);
        if self.every_packet {
            return vec![all];
        }
        let first = [&all[..], &of_protocol(false, Protocol::Tcp), &first_of_tcp()].concat();
        let others = [&all[..], &of_protocol(true, Protocol::Tcp)].concat();
        vec![first, others]
    }

    fn at_port(
        &self,
        family: IpFamily,
        statements: Vec<Statement>,
        protocol: Protocol,
        port: u16,
    ) -> Vec<Expression> {
        let mut all = self.beginning(family, statements);
        all.extend(of_protocol(false, protocol));
        all.extend([
            Expression::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: FIRST },
            Expression::Cmp { from: FIRST, negated: false, value: port.to_be_bytes().to_vec() },
        ]);
        if protocol == Protocol::Tcp && !self.every_packet {
            all.extend(first_of_tcp());
        }
        all
    }

    fn beginning(&self, family: IpFamily, mut statements: Vec<Statement>) -> Vec<Expression> {
        let from = self.from.map(|from| Condition::Source(Negatable::is(from.trunc())));
        statements.extend(from.map(Statement::Match));
        linearize(family, &statements)
    }
}

impl TraceTarget {
    /// Address family of the destination.
    pub fn family(&self) -> IpFamily {
        match self {
            TraceTarget::Network(network) => IpFamily::of(network.addr()),
            TraceTarget::Frontend(frontend) => frontend.family(),
        }
    }
}

/// NFT_REG_1.
const FIRST: Register = Register(1);

fn of_protocol(negated: bool, protocol: Protocol) -> [Expression; 2] {
    [
        Expression::Meta { key: MetaKey::TransportProtocol, to: FIRST },
        Expression::Cmp { from: FIRST, negated, value: vec![protocol.number()] },
    ]
}

fn first_of_tcp() -> [Expression; 3] {
    let base = PayloadBase::Transport;
    [
        Expression::Payload { base, offset: TCP_FLAGS_OFFSET, length: 1, to: FIRST },
        Expression::Bitwise { from: FIRST, to: FIRST, mask: vec![TCP_FLAGS], xor: vec![0] },
        Expression::Cmp { from: FIRST, negated: false, value: vec![TCP_SYN] },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rules: &[Vec<Expression>]) -> Vec<String> {
        let line = |rule: &Vec<Expression>| {
            rule.iter().map(Expression::to_string).collect::<Vec<_>>().join(" ")
        };
        rules.iter().map(line).collect()
    }

    #[test]
    fn trace_filter_for_a_frontend_is_one_rule_of_its_family() {
        let to = Frontend::at_ip("10.96.0.10".parse().unwrap(), Protocol::Udp, 53);
        let to = vec![TraceTarget::Frontend(to)];
        let filter = TraceFilter { to, ..TraceFilter::default() };
        assert_eq!(
            text(&filter.rules(IpFamily::Ipv4)),
            ["[ payload load 4b @ network header + 16 => reg 1 ] [ cmp eq reg 1 0x0a60000a ] \
                 [ meta load l4proto => reg 1 ] [ cmp eq reg 1 0x11 ] \
                 [ payload load 2b @ transport header + 2 => reg 1 ] [ cmp eq reg 1 0x0035 ]"]
        );
        assert!(filter.rules(IpFamily::Ipv6).is_empty());
    }

    #[test]
    fn trace_filter_selects_only_the_first_tcp_packet_by_default() {
        let to = Frontend::node_port(IpFamily::Ipv4, Protocol::Tcp, 30_080);
        let to = vec![TraceTarget::Frontend(to)];
        let mut filter = TraceFilter { to, ..TraceFilter::default() };
        let syn = "[ bitwise reg 1 = ( reg 1 & 0x17 ) ^ 0x00 ] [ cmp eq reg 1 0x02 ]";
        assert!(text(&filter.rules(IpFamily::Ipv4)).iter().all(|rule| rule.ends_with(syn)));
        filter.every_packet = true;
        assert!(!text(&filter.rules(IpFamily::Ipv4)).iter().any(|rule| rule.contains(syn)));
    }

    #[test]
    fn trace_filter_without_target_uses_the_source_and_without_both_selects_nothing() {
        let from: IpNet = "fd00::/64".parse().unwrap();
        let filter = TraceFilter { from: Some(from), ..TraceFilter::default() };
        assert!(filter.rules(IpFamily::Ipv4).is_empty());
        assert_eq!(filter.rules(IpFamily::Ipv6).len(), 2);
        assert!(TraceFilter::default().rules(IpFamily::Ipv4).is_empty());
    }
}
