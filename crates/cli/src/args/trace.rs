//! Arguments of `rulegen trace`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};
use ipnet::IpNet;
use rulegen_config::{parse_duration, parse_listen_address};
use rulegen_net::{Protocol, ServiceRef, parse_address, parse_network};
use rulegen_ruleset::nftables::Name;

use super::{LogArgs, parse_table};

pub(super) const EXAMPLES: &str = "\
Examples:
  # Trace connections to all addresses of a Service, until Ctrl-C
  rulegen apply -f examples/nodeport.yaml --proxy-mode nftables
  rulegen trace --to default/web-service

  # Trace DNS queries of one pod for a minute, as JSON
  rulegen trace --to 10.96.0.10:53/udp --from 10.244.1.9 --for 1m -o json

In JSON, one line per packet: packet, traceId (as `nft monitor trace` shows it), time, family, \
protocol, source and destination {address, port} on arrival, inInterface, outInterface, service, \
endpoint {address, port}, masqueraded, masqueradedBecause, masqueradedCode, newConnection, incomplete, end (left, delivered, \
rejected, dropped, queued, stolen, or lost: no further event), why, whyCode, steps [{hook, family, table, \
chain, handle, rule, comment, map, service, verdict}]. A line {\"lost\": true} means that \
trace events were dropped.";

/// `rulegen trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Trace packets to this destination: a Service, optionally with a port by name or number; an
    /// address, optionally with a port (IPv6 in brackets) and protocol; or a network. May be repeated
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT][/PROTO]|IP[:PORT[/PROTO]]|CIDR", value_parser = parse_to, required_unless_present = "from")]
    pub(crate) to: Vec<TraceDestination>,

    /// Trace only packets from this address or network
    #[arg(long, value_name = "IP|CIDR", value_parser = parse_address_or_network)]
    pub(crate) from: Option<IpNet>,

    /// Trace all packets of TCP connections. By default only the first is traced, because only that
    /// packet reaches the rules that choose an endpoint
    #[arg(long)]
    pub(crate) every_packet: bool,

    /// Stop after this number of packets
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Stop after this time: 30s, 5m [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) time: Option<Duration>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TraceForm,

    /// Name of rulegen's nftables table
    #[arg(long, value_name = "NAME", default_value = "rulegen", value_parser = parse_table)]
    pub(crate) nftables_table: Name,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceForm {
    /// Each step as it happens
    Text,
    /// One JSON object per line for each packet, printed when the packet is done
    Json,
}

/// A destination to trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceDestination {
    Network(IpNet),
    Socket(SocketAddr, Option<Protocol>),
    Service(ServiceRef),
}

fn parse_to(text: &str) -> Result<TraceDestination, String> {
    if let Ok(network) = parse_address_or_network(text) {
        return Ok(TraceDestination::Network(network));
    }
    let (address, protocol) = match text.rsplit_once('/') {
        Some((address, protocol)) => (address, Some(protocol)),
        None => (text, None),
    };
    if let Ok((ip, Some(port))) = parse_listen_address(address) {
        let known = |name: &str| {
            Protocol::from_name(&name.to_lowercase())
                .ok_or_else(|| format!("unsupported protocol {name:?} (expected tcp, udp or sctp)"))
        };
        return Ok(TraceDestination::Socket(
            SocketAddr::new(ip, port),
            protocol.map(known).transpose()?,
        ));
    }
    text.parse().map(TraceDestination::Service).map_err(|_| {
        "expected a Service (namespace/name or namespace/name:port), an address (10.96.0.1, \
         10.96.0.1:443, 10.96.0.1:443/tcp, [fd00::1]:443) or a network (10.96.0.0/16)"
            .to_owned()
    })
}

fn parse_address_or_network(text: &str) -> Result<IpNet, String> {
    let network = parse_network(text).or_else(|| parse_address(text).map(IpNet::from));
    network.ok_or_else(|| "expected an address or a network (10.244.1.9, 10.244.0.0/16)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_destination_is_network_socket_or_service() {
        let socket =
            |text: &str, protocol| TraceDestination::Socket(text.parse().unwrap(), protocol);
        let network = |text: &str| TraceDestination::Network(text.parse().unwrap());
        for (text, to) in [
            ("10.96.0.1", network("10.96.0.1/32")),
            ("fd00::1", network("fd00::1/128")),
            ("10.96.0.0/16", network("10.96.0.0/16")),
            ("010.096.000.001", network("10.96.0.1/32")),
            ("10.96.0.1:443", socket("10.96.0.1:443", None)),
            ("10.96.0.1:53/UDP", socket("10.96.0.1:53", Some(Protocol::Udp))),
            ("[fd00::1]:443/tcp", socket("[fd00::1]:443", Some(Protocol::Tcp))),
        ] {
            assert_eq!(parse_to(text), Ok(to), "{text}");
        }
        for (text, port) in [("default/web", None), ("default/web:http", Some("http"))] {
            let Ok(TraceDestination::Service(service)) = parse_to(text) else { panic!("{text}") };
            assert_eq!((service.to_string().as_str(), service.port.as_deref()), (text, port));
        }
        for text in ["", "web", "10.96.0.1:443/icmp", "a/b/c", "Default/web", "10.96.0.1:x"] {
            assert!(parse_to(text).is_err(), "{text}");
        }
    }
}
