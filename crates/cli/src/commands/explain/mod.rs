//! `rulegen explain`: the path of one packet through the rules, with reasons.

mod destination;
pub(super) mod live;
mod rules;
pub(super) mod text;

use std::process::ExitCode;

use anyhow::{Context, Result};
use rulegen_compiler::plan;
use rulegen_inspect::explain::{
    Explanation, ObjectFacts, Remark, UnresolvedService, origin_by_input,
};
use rulegen_model::{Cluster, Objects, Snapshot};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Origin, Packet};
use rules::{ExplainedRules, actual};
use serde::Serialize;
use serde_json::json;

use super::print;
use crate::WrongUsage;
use crate::args::{ExplainArgs, ExplainForm};
use crate::input;
use crate::inputs::{Inputs, find_for_packet};
use crate::paint::Paint;

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let found = find_for_packet(&args.objects, &args.proxy, destination::may_name_pods(args))?;
    let explanation = match explain(args, &found) {
        Ok(explanation) => explanation,
        Err(error) => return unresolved(args, error),
    };
    match args.output {
        ExplainForm::Text => print(&text::describe(&explanation, Paint::for_stdout()))?,
        ExplainForm::Json => print_json(&explanation)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers if the Service of `--to` has no address that a packet could go to.
fn unresolved(args: &ExplainArgs, error: anyhow::Error) -> Result<ExitCode> {
    let Some(unresolved) = error.downcast_ref::<UnresolvedService>() else { return Err(error) };
    let remark = Remark::from(unresolved.clone());
    if args.output == ExplainForm::Json {
        // The fields of an explanation.
        print_json(&json!({
            "packet": {"from": args.from.to_string(), "to": unresolved.service()},
            "frontend": null,
            "remarks": [remark],
            "rules": [],
            "ends": [],
        }))?;
    }
    if !unresolved.is_answer() {
        return Err(error);
    }
    if args.output == ExplainForm::Text {
        print(&text::describe_unresolved(&args.from, &unresolved.service(), &remark))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(answer: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(answer);
    print(&format!("{}\n", json.context("cannot write the explanation as JSON")?))
}

fn explain(args: &ExplainArgs, found: &Inputs) -> Result<Explanation> {
    let cluster = found.cluster.as_ref();
    let from = destination::source(args, cluster)?;
    let family = IpFamily::of(from);
    let plan = cluster.map(|cluster| plan(&cluster.snapshot, &found.config, family));
    let rules = match (args.live, &plan) {
        (true, _) => {
            let table = &args.proxy.nftables.nftables_table;
            ExplainedRules::Actual(actual(&args.kernel, table, found.config.mode, family)?)
        }
        (false, Some(plan)) => ExplainedRules::desired(args, found.config.mode, plan),
        (false, None) => {
            let message = "no rules to follow: use -f or --kubeconfig for objects, or --live for the rules in this kernel";
            return Err(WrongUsage(message.to_owned()).into());
        }
    };
    let local = match cluster.filter(|_| !args.live) {
        Some(cluster) => cluster.snapshot.node.addresses(family).local.clone(),
        None => input::host().addresses,
    };
    let (destination, protocol) = destination::of(args, family, &rules, cluster)?;
    let is_own = from.is_loopback() || local.contains(&from);
    let mut remark = None;
    let origin = match (&args.interface, cluster.filter(|_| !args.live)) {
        (Some(interface), _) if is_own && interface != "lo" => {
            let message = format!(
                "--interface {interface} does not apply to packets from {from}: it is an address of this node, \
                 which sends them itself"
            );
            return Err(WrongUsage(message).into());
        }
        _ if is_own => Origin::Host,
        (Some(interface), _) => {
            let input = rules.input(interface)?;
            remark = input.remark;
            Origin::Interface(input.interface)
        }
        (None, Some(Cluster { objects, snapshot })) => {
            let pods = plan.as_ref().and_then(|plan| plan.pod_traffic.as_ref());
            let facts = object_facts(found, objects, snapshot);
            origin_by_input(from, &facts, &snapshot.node, pods)
        }
        (None, None) => rules.origin(from, destination.ip()),
    };
    let packet = Packet { origin, source: from, destination, protocol };
    let mut explanation = rules.explain(&local, &packet, plan.as_ref(), |explanation| {
        if let Some(no_port) = args.to.no_port() {
            explanation.without_port(no_port);
        }
        if let Some(cluster) = cluster {
            let facts = object_facts(found, &cluster.objects, &cluster.snapshot);
            explanation.add_objects(&facts, family);
        }
    });
    explanation.remarks.splice(..0, remark);
    Ok(explanation)
}

fn object_facts(found: &Inputs, objects: &Objects, snapshot: &Snapshot) -> ObjectFacts {
    ObjectFacts::of(objects, snapshot, found.known_nodes(), &input::host().addresses)
}
