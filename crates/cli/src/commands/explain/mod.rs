//! `rulegen explain`: the way of one packet through the rules, and why it is so.

mod text;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rulegen_compiler::explain::{Explanation, by_ruleset, by_table};
use rulegen_compiler::{Plan, family as family_of, iptables::ruleset, nftables, plan};
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_model::{IpFamily, ProxyMode, ServicePort, Severity};
use rulegen_ruleset::iptables::{Origin, Packet};
use rulegen_ruleset::nftables::Name;

use super::{iptables, print, variant};
use crate::WrongUsage;
use crate::args::{Destination, ExplainArgs, ExplainForm};
use crate::found::{Cluster, Found, find, find_without_kernel};
use crate::problems::say;
use crate::{configuration, input, problems};

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    problems::print(&configuration::notes(&args.ignored.given()));
    let found = match args.live {
        true => find(&args.objects, &args.proxy)?,
        false => find_without_kernel(&args.objects, &args.proxy)?,
    };
    let packet = packet(args, found.cluster.as_ref())?;
    let explanation = match args.live {
        true => explain_live(args, &found, packet)?,
        false => explain_offline(args, &found, packet)?,
    };
    match args.output {
        ExplainForm::Text => print(&text::describe(&explanation))?,
        ExplainForm::Json => {
            let json = serde_json::to_string_pretty(&explanation);
            print(&format!("{}\n", json.context("the explanation has no form in JSON")?))?;
        }
    }
    Ok(ExitCode::from(u8::from(found.worst == Some(Severity::Error))))
}

/// A packet without the one who sends it.
type To = (SocketAddr, rulegen_ruleset::Protocol);

fn packet(args: &ExplainArgs, cluster: Option<&Cluster>) -> Result<To> {
    let to = match &args.to {
        Destination::Address(address, protocol) => (*address, *protocol),
        Destination::Service { namespace, name, port } => {
            let Some(cluster) = cluster else {
                let message = "a Service by its name needs to be known: give -f or --kubeconfig, or its address";
                return Err(WrongUsage(message.to_owned()).into());
            };
            by_name(cluster, IpFamily::of(args.from), namespace, name, port.as_deref())?
        }
    };
    if args.from.is_ipv4() != to.0.is_ipv4() {
        return Err(WrongUsage("--from and --to are of different families".to_owned()).into());
    }
    Ok(to)
}

/// The cluster IP and port of a service port.
fn by_name(
    cluster: &Cluster,
    family: IpFamily,
    namespace: &str,
    name: &str,
    port: Option<&str>,
) -> Result<To> {
    let ports: Vec<&ServicePort> = cluster
        .snapshot
        .service_ports(family)
        .iter()
        .filter(|port| *port.name.namespace == *namespace && *port.name.service == *name)
        .collect();
    if ports.is_empty() {
        bail!(
            "Service {namespace}/{name} has no cluster IP of {}: it is not there, headless, of type ExternalName, or of the other family",
            family.api_name()
        );
    }
    let is_meant = |of: &&&ServicePort| {
        port.is_none_or(|port| *of.name.port == *port || of.port.to_string() == *port)
    };
    let meant: Vec<&&ServicePort> = ports.iter().filter(is_meant).collect();
    let [one] = meant.as_slice() else {
        let there: Vec<String> = ports.iter().map(|port| described(port)).collect();
        let which = if meant.is_empty() { "has no such port" } else { "has several ports" };
        bail!("Service {namespace}/{name} {which}; it has {}", there.join(", "));
    };
    let over = rulegen_ruleset::Protocol::parse(one.name.protocol.lower_case());
    let over = over.context("the protocol is none of tcp, udp, sctp")?;
    Ok((SocketAddr::new(one.cluster_ip, one.port), over))
}

fn described(port: &ServicePort) -> String {
    let name = if port.name.port.is_empty() { "" } else { &*port.name.port };
    let space = if name.is_empty() { "" } else { " " };
    format!("{name}{space}{}/{}", port.port, port.name.protocol.lower_case())
}

fn explain_offline(args: &ExplainArgs, found: &Found, to: To) -> Result<Explanation> {
    let Some(cluster) = &found.cluster else {
        let message = "nothing says what rules there are: give -f or --kubeconfig, or --live for those of this kernel";
        return Err(WrongUsage(message.to_owned()).into());
    };
    let family = IpFamily::of(to.0.ip());
    let local = &cluster.snapshot.node.addresses(family).local;
    let plan = plan(&cluster.snapshot, &found.config, family);
    let packet = sent(args, local, to);
    Ok(match found.config.mode {
        ProxyMode::Iptables => by_ruleset(&ruleset(&plan), local, &packet, Some(&plan)),
        ProxyMode::Nftables => {
            let table = nftables::table(&plan, &args.proxy.nftables.nftables_table);
            by_table(&table, local, &packet, Some(&plan))
        }
    })
}

fn explain_live(args: &ExplainArgs, found: &Found, to: To) -> Result<Explanation> {
    let family = IpFamily::of(to.0.ip());
    let local = input::host().addresses;
    let packet = sent(args, &local, to);
    let plan = found.cluster.as_ref().map(|cluster| plan(&cluster.snapshot, &found.config, family));
    match found.config.mode {
        ProxyMode::Iptables => {
            let held = iptables(family, variant(&args.kernel)?, &args.kernel).save()?;
            Ok(by_ruleset(&held, &local, &packet, plan.as_ref()))
        }
        ProxyMode::Nftables => {
            let name = &args.proxy.nftables.nftables_table;
            in_kernel_table(family, name, &local, &packet, plan.as_ref())
        }
    }
}

fn in_kernel_table(
    family: IpFamily,
    name: &Name,
    local: &[IpAddr],
    packet: &Packet,
    plan: Option<&Plan>,
) -> Result<Explanation> {
    let family = family_of(family);
    let (_, held) = NfTables::open()?.read(&[(family, name)])?;
    let Some(held) = held.into_iter().flatten().next() else {
        bail!("the kernel has no table {} {name}: no rules were applied here", family.word());
    };
    let raised = held.raised(family, name);
    for unknown in &raised.unknown {
        say(&format!("note: not followed, for rulegen never makes it: {unknown}"));
    }
    Ok(by_table(&raised.table, local, packet, plan))
}

fn sent(args: &ExplainArgs, local: &[IpAddr], (destination, protocol): To) -> Packet {
    let origin = match local.contains(&args.from) || args.from.is_loopback() {
        true => Origin::Host,
        false => Origin::Interface(args.interface.clone()),
    };
    Packet { origin, source: args.from, destination, protocol }
}
