//! `rulegen list`: the Services in the kernel.

mod actual;
mod filter;
mod services;
mod table;
mod view;
mod watch;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use actual::ActualServices;
use anyhow::{Result, anyhow};
use filter::Filter;
use rulegen_inspect::listing::Listing;
use rulegen_model::{is_manifest, write_yaml};
use services::{actual_and_desired, desired};
use view::View;

use super::print_with;
use crate::WrongUsage;
use crate::args::{FamilyChoice, ListArgs, ListForm};
use crate::families;
use crate::inputs::{Inputs, find, find_with_labels};
use crate::paint::Paint;
use crate::plain::plain;
use crate::problems::{print_error, say};

pub(crate) fn run(args: &ListArgs) -> Result<ExitCode> {
    let found = match args.selector {
        Some(_) => find_with_labels(&args.objects, &args.proxy)?,
        None => find(&args.objects, &args.proxy)?,
    };
    refuse_without_objects(args, &found)?;
    let (actual, desired) = match &found.cluster {
        Some(cluster) if args.dry_run => {
            let choice = args.family.ip_family.unwrap_or(FamilyChoice::Dual);
            let (desired, _) = desired(args, &found, cluster, families::chosen(choice));
            (ActualServices::of(desired), None)
        }
        cluster => actual_and_desired(args, &found, cluster.as_ref())?,
    };
    actual.remarks.iter().for_each(|remark| say(&format!("note: {remark}")));
    let filter = Filter::of(args, &found);
    let view = View::of(args, &found, &actual, desired.as_ref());
    print_as(args, &view)?;
    let missing = say_missing(args, &found, &actual, desired.as_ref(), &filter);
    if args.watch && missing == 0 {
        watch::run(args, &found, table::of(&view, args.output.is_some()))?;
    }
    // Freeing a large cluster piece by piece takes longer than listing it.
    std::mem::forget(view);
    std::mem::forget((found, actual, desired));
    Ok(ExitCode::from(u8::from(missing > 0)))
}

/// Prints an error for each named Service that does not exist. Returns their number.
fn say_missing(
    args: &ListArgs,
    found: &Inputs,
    actual: &ActualServices,
    desired: Option<&Listing>,
    filter: &Filter<'_>,
) -> usize {
    let listings = [Some(&actual.listing), desired].into_iter().flatten();
    let names = listings.flat_map(|listing| listing.services.keys().flatten());
    let missing = filter.missing(names);
    let place = match args.dry_run {
        true => "the objects".to_owned(),
        false => format!("the rules of {} mode", found.config.mode.word()),
    };
    for service in &missing {
        let hint = match is_manifest(Path::new(&service.to_string())) {
            true => format!(" (to read a manifest, use -f {service})"),
            false => String::new(),
        };
        print_error(&anyhow!("Service {service} not found in {place}{hint}"));
    }
    missing.len()
}

fn refuse_without_objects(args: &ListArgs, found: &Inputs) -> Result<()> {
    if args.watch && !matches!(args.output, None | Some(ListForm::Wide)) {
        let message = "--watch prints a table: omit -o, or use -o wide";
        return Err(WrongUsage(message.to_owned()).into());
    }
    let what = match found.cluster {
        None if args.dry_run => "--dry-run lists the Services of objects",
        None if args.selector.is_some() => "--selector needs labels, which only objects have",
        None if args.differing => "--differing compares the kernel with objects",
        _ => return Ok(()),
    };
    let message = format!("{what}: give manifests (-f) or an API server (--kubeconfig)");
    Err(WrongUsage(message).into())
}

fn print_as(args: &ListArgs, view: &View<'_>) -> Result<()> {
    match args.output {
        Some(ListForm::Json) => print_with(|out| {
            serde_json::to_writer_pretty(&mut *out, view).map_err(io::Error::from)?;
            writeln!(out)
        }),
        Some(ListForm::Yaml) => print_with(|out| write_yaml(out, view)),
        Some(ListForm::Name) => print_with(|out| {
            let named = view
                .services
                .iter()
                .filter_map(|of| Some((of.namespace.as_ref()?, of.name.as_ref()?)));
            let names: BTreeSet<_> = named.collect();
            names.into_iter().try_for_each(|(namespace, name)| {
                writeln!(out, "{}/{}", plain(namespace), plain(name))
            })
        }),
        None | Some(ListForm::Wide) => {
            let table = table::of(view, args.output.is_some());
            if table.is_empty() && args.services.is_empty() {
                let none = if view.is_filtered { "No matching Services" } else { "No Services" };
                say(&format!("{none} found in the rules of {} mode.", view.mode));
            }
            let paint = Paint::for_stdout();
            print_with(|out| table.write(out, &paint, !args.no_headers))
        }
    }
}
