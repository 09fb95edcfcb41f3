//! `rulegen list`: Services as the kernel has them.

mod actual;
mod filter;
mod table;
mod view;

use std::io::{self, Write};
use std::process::ExitCode;

use actual::{ActualServices, RuleSource, table_name};
use anyhow::Result;
use filter::Filter;
use rulegen_compiler::{iptables, nftables, plan};
use rulegen_config::ProxyMode;
use rulegen_inspect::listing::{Listing, of_plan, of_ruleset, of_table};
use rulegen_model::Cluster;
use rulegen_model::write_yaml;
use rulegen_net::IpFamily;
use view::View;

use super::print_with;
use crate::WrongUsage;
use crate::args::{FamilyChoice, ListArgs, ListForm};
use crate::families;
use crate::inputs::{Inputs, find};
use crate::paint::Paint;
use crate::problems::say;

pub(crate) fn run(args: &ListArgs) -> Result<ExitCode> {
    let found = find(&args.objects, &args.proxy)?;
    refuse_without_objects(args, &found)?;
    let (held, wanted) = match &found.cluster {
        Some(cluster) if args.dry_run => {
            let choice = args.family.ip_family.unwrap_or(FamilyChoice::Dual);
            let (wanted, _) = wanted(args, &found, cluster, families::chosen(choice));
            (ActualServices::of(wanted), None)
        }
        cluster => held_and_wanted(args, &found, cluster.as_ref())?,
    };
    held.remarks.iter().for_each(|remark| say(&format!("note: {remark}")));
    let filter = Filter::of(args);
    let view = View::new(found.config.mode.word(), &held, wanted.as_ref(), &filter);
    print_as(args.output, &view)?;
    // Freeing a large cluster piece by piece takes longer than listing it.
    std::mem::forget(view);
    std::mem::forget((found, held, wanted));
    Ok(ExitCode::SUCCESS)
}

fn refuse_without_objects(args: &ListArgs, found: &Inputs) -> Result<()> {
    let what = match found.cluster {
        None if args.dry_run => "--dry-run lists what objects make",
        None if args.differing => "--differing compares with what objects want",
        _ => return Ok(()),
    };
    let message = format!("{what}: give manifests (-f) or an API server (--kubeconfig)");
    Err(WrongUsage(message).into())
}

fn held_and_wanted(
    args: &ListArgs,
    found: &Inputs,
    cluster: Option<&Cluster>,
) -> Result<(ActualServices, Option<Listing>)> {
    let place = RuleSource::of(args, &found.config)?;
    let families = place.families(args);
    let mut held = place.read(args, families)?;
    let Some(cluster) = cluster else { return Ok((held, None)) };
    let (wanted, known) = wanted(args, found, cluster, families);
    held.listing.complete(&known);
    Ok((held, Some(wanted)))
}

/// What the objects make, as the mode's rules tell it, and as the plan knows it.
fn wanted(
    args: &ListArgs,
    found: &Inputs,
    cluster: &Cluster,
    families: &[IpFamily],
) -> (Listing, Listing) {
    let (mut wanted, mut known) = (Listing::default(), Listing::default());
    for family in families {
        let plan = plan(&cluster.snapshot, &found.config, *family);
        known.append(of_plan(&plan));
        match found.config.mode {
            ProxyMode::Iptables => {
                let rules = iptables::ruleset(&plan);
                wanted.append(of_ruleset(&rules));
                std::mem::forget(rules);
            }
            ProxyMode::Nftables => {
                let table = nftables::table(&plan, table_name(args));
                wanted.append(of_table(&table));
                std::mem::forget(table);
            }
        }
    }
    wanted.complete(&known);
    (wanted, known)
}

fn print_as(form: Option<ListForm>, view: &View<'_>) -> Result<()> {
    match form {
        Some(ListForm::Json) => print_with(|out| {
            serde_json::to_writer_pretty(&mut *out, view).map_err(io::Error::from)?;
            writeln!(out)
        }),
        Some(ListForm::Yaml) => print_with(|out| write_yaml(out, view)),
        None | Some(ListForm::Wide) => {
            let table = table::of(view, form.is_some());
            if table.is_empty() {
                let but = if view.is_filtered { " that are asked for" } else { "" };
                say(&format!("No Services{but} found in the rules of {} mode.", view.mode));
            }
            let paint = Paint::for_stdout();
            print_with(|out| table.write(out, &paint))
        }
    }
}
