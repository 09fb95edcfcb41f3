//! `rulegen explain`: the way of one packet through the rules of the manifests.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use rulegen_model::IpFamily;
use rulegen_ruleset::iptables::{Branch, Origin, Packet, Verdict, trace};

use super::{compile, exit_code, print, refuse_nftables};
use crate::WrongUsage;
use crate::args::ExplainArgs;
use crate::input;

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let destination = args.to.address;
    if args.from.is_ipv4() != destination.is_ipv4() {
        return Err(WrongUsage("--from and --to are of different families".to_owned()).into());
    }
    let input = input::load(&args.input, &args.proxy, &args.ignored)?;
    refuse_nftables(&input)?;
    let family = IpFamily::of(destination.ip());
    let local = &input.snapshot.node.addresses(family).local;
    let origin = match local.contains(&args.from) {
        true => Origin::Host,
        false => Origin::Interface(args.interface.clone()),
    };
    let packet = Packet { origin, source: args.from, destination, protocol: args.to.protocol };
    let ruleset = compile(&input, family);
    let mut branches = trace(&ruleset, local, &packet).branches;
    branches.sort_by_key(|branch| branch.verdict);
    print(&describe(&branches))?;
    Ok(exit_code(&input, args.input.strict))
}

fn describe(branches: &[Branch<'_>]) -> String {
    let mut text = String::new();
    for branch in branches {
        // Writing into a String cannot fail.
        let _ = describe_branch(&mut text, branch);
    }
    text
}

fn describe_branch(text: &mut String, branch: &Branch<'_>) -> std::fmt::Result {
    writeln!(text, "{:.4} {}", branch.chance.to_f64(), ending(branch.verdict))?;
    for step in &branch.path {
        writeln!(text, "    {} {}:{}", step.table, step.chain, step.rule)?;
    }
    Ok(())
}

fn ending(verdict: Verdict) -> String {
    match verdict {
        Verdict::Delivered { translated: false, .. } => {
            "passes: no Service has this address and port".to_owned()
        }
        Verdict::Delivered { destination, masqueraded: true, .. } => {
            format!("goes to {destination}, which sees the node's address as its source")
        }
        Verdict::Delivered { destination, .. } => {
            format!("goes to {destination}, which sees its source as it is")
        }
        Verdict::Rejected => "is rejected: the sender is told port unreachable".to_owned(),
        Verdict::Dropped => "is dropped: the sender is not told".to_owned(),
    }
}
