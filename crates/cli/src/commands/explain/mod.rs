//! `rulegen explain`: the way of one packet through the rules, and why it is so.

mod destination;
mod rules;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rulegen_compiler::{Plan, plan};
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::{About, End, Explanation, Outcome, Remark};
use rulegen_inspect::words::Code;
use rulegen_model::Cluster;
use rulegen_model::unavailability;
use rulegen_net::{IpFamily, Protocol};
use rulegen_os::host;
use rulegen_ruleset::iptables::{Origin, Packet};
use rules::Rules;

use super::print;
use crate::WrongUsage;
use crate::args::{ExplainArgs, ExplainForm};
use crate::input;
use crate::inputs::{Inputs, find_for_packet};

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let found = find_for_packet(&args.objects, &args.proxy)?;
    let explanation = explain(args, &found)?;
    match args.output {
        ExplainForm::Text => print(&text::describe(&explanation))?,
        ExplainForm::Json => {
            let json = serde_json::to_string_pretty(&explanation);
            print(&format!("{}\n", json.context("the explanation has no form in JSON")?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(args: &ExplainArgs, found: &Inputs) -> Result<Explanation> {
    let family = IpFamily::of(args.from);
    let cluster = found.cluster.as_ref();
    let plan = cluster.map(|cluster| plan(&cluster.snapshot, &found.config, family));
    let rules = match (args.live, &plan) {
        (true, _) => Rules::held(args, found.config.mode, family)?,
        (false, Some(plan)) => Rules::wanted(args, found.config.mode, plan),
        (false, None) => {
            let message = "nothing says what rules there are: give -f or --kubeconfig, or --live for those of this kernel";
            return Err(WrongUsage(message.to_owned()).into());
        }
    };
    let local = match cluster.filter(|_| !args.live) {
        Some(cluster) => cluster.snapshot.node.addresses(family).local.clone(),
        None => input::host().addresses,
    };
    let packet = sent(args, &local, destination::of(args, &rules)?);
    let mut explanation = rules.explain(&local, &packet, plan.as_ref());
    if let (Some(cluster), Some(plan)) = (cluster, &plan) {
        say_what_lacks(&mut explanation, cluster, plan);
    }
    if args.live
        && found.config.mode == ProxyMode::Iptables
        && packet.destination.ip().is_loopback()
    {
        explanation.remarks.extend(closed_loopback(&explanation));
    }
    Ok(explanation)
}

fn sent(
    args: &ExplainArgs,
    local: &[IpAddr],
    (destination, protocol): (SocketAddr, Protocol),
) -> Packet {
    let origin = match local.contains(&args.from) || args.from.is_loopback() {
        true => Origin::Host,
        false => Origin::Interface(args.interface.clone()),
    };
    Packet { origin, source: args.from, destination, protocol }
}

/// The kernel drops what is translated from loopback addresses, whatever the rules say.
fn closed_loopback(explanation: &Explanation) -> Option<Remark> {
    let is_translated = |end: &End| matches!(end.outcome, Outcome::Endpoint { .. });
    let is_closed = explanation.ends.iter().any(is_translated) && !host::routes_localnet();
    is_closed.then(|| {
        let text =
            "net.ipv4.conf.all.route_localnet is 0: the kernel drops the packet behind these rules";
        Remark::new(About::Refusal, Code::RouteLocalnet, text)
            .change("the agent sets it once its guard is in")
    })
}

/// Objects show why there is no endpoint, rules only that there is none.
fn say_what_lacks(explanation: &mut Explanation, cluster: &Cluster, plan: &Plan) {
    explanation.refused_because(|name| {
        let mut ports = cluster.snapshot.service_ports(plan.family).iter();
        unavailability(ports.find(|port| port.name == *name)?, &cluster.objects)
    });
}
