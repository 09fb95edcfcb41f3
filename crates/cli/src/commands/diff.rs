//! `rulegen diff`: what apply would change.

use std::collections::HashMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use rulegen_compiler::iptables::OURS;
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_model::{IpFamily, ProxyMode, Severity};
use rulegen_ruleset::Family;
use rulegen_ruleset::iptables::{Change, Ruleset, Table, Transaction, diff};
use rulegen_ruleset::nftables::{self, Line, Name};

use super::{compile, iptables, print, tables, variant};
use crate::args::DiffArgs;
use crate::families;
use crate::input::{self, Input};
use crate::paint::Paint;
use crate::problems::print_error;

/// As kubectl diff and diff(1): 0 nothing, 1 something, 2 it could not be found out.
pub(crate) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let found = compare(args).unwrap_or_else(|error| {
        print_error(&error);
        2
    });
    Ok(ExitCode::from(found))
}

fn compare(args: &DiffArgs) -> Result<u8> {
    let input = input::load(&args.input, &args.proxy, &args.ignored)?;
    let differs = match input.config.mode {
        ProxyMode::Iptables => compare_iptables(args, &input)?,
        ProxyMode::Nftables => compare_nftables(args, &input)?,
    };
    Ok(match input.worst {
        Some(Severity::Unread | Severity::Error) => 2,
        Some(Severity::Warning) if args.input.strict => 2,
        _ => u8::from(differs),
    })
}

fn compare_nftables(args: &DiffArgs, input: &Input) -> Result<bool> {
    let wanted = tables(
        input,
        &args.proxy.nftables.nftables_table,
        families::of_nftables(args.family.ip_family),
    );
    let names: Vec<(Family, &Name)> =
        wanted.iter().map(|table| (table.family, &table.name)).collect();
    let (_, held) = NfTables::open()?.read(&names)?;
    let mut differs = false;
    for (held, wanted) in held.iter().zip(&wanted) {
        let transaction = nftables::diff(held.as_ref(), wanted);
        differs |= !transaction.is_empty();
        print(&describe_lines(transaction.lines()))?;
    }
    Ok(differs)
}

/// One line a rule or element, each chain and set named once.
fn describe_lines(lines: impl Iterator<Item = Line>) -> String {
    let paint = Paint::for_stdout();
    let mut parts: Vec<String> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut at = 0;
    for line in lines {
        let line = match line {
            Line::Heading(heading) => {
                at = *known.entry(heading).or_insert_with_key(|heading| {
                    parts.push(format!("{}\n", paint.bold(heading)));
                    parts.len() - 1
                });
                continue;
            }
            Line::Gone(line) => paint.goes(&format!("  -{line}")),
            Line::New(line) => paint.comes(&format!("  +{line}")),
        };
        if let Some(part) = parts.get_mut(at) {
            part.push_str(&line);
            part.push('\n');
        }
    }
    parts.concat()
}

fn compare_iptables(args: &DiffArgs, input: &Input) -> Result<bool> {
    let variant = variant(&args.kernel)?;
    let mut differs = false;
    for family in families::on_this_host(args.family.ip_family, variant) {
        let held = iptables(*family, variant, &args.kernel).save()?;
        let wanted = compile(input, *family);
        let transaction = diff(&held, &wanted, &OURS);
        differs |= !transaction.is_empty();
        print(&describe(*family, &held, &transaction))?;
    }
    Ok(differs)
}

/// One line a rule: what goes, then what comes, chain by chain.
fn describe(family: IpFamily, held: &Ruleset, transaction: &Transaction<'_>) -> String {
    let paint = Paint::for_stdout();
    let mut text = String::new();
    for changes in &transaction.tables {
        for change in &changes.changes {
            // Writing into a String cannot fail.
            let _ = describe_change(&mut text, &paint, family, changes.table, held, change);
        }
    }
    text
}

fn describe_change(
    text: &mut String,
    paint: &Paint,
    family: IpFamily,
    table: Table,
    held: &Ruleset,
    change: &Change<'_>,
) -> std::fmt::Result {
    let (chain, what) = match change {
        Change::Fill { chain, .. } if held.chain(table, chain).is_none() => (chain, "new chain"),
        Change::Fill { chain, .. } => (chain, "changed"),
        Change::Prepend { chain, .. } | Change::Remove { chain, .. } => (chain, "shared chain"),
        Change::Delete { chain } => (chain, "deleted"),
    };
    writeln!(text, "{}", paint.bold(&format!("{} {table} {chain}: {what}", family.api_name())))?;
    let there = held.chain(table, chain).map(|chain| chain.rules.as_slice()).unwrap_or_default();
    match change {
        Change::Fill { rules, .. } => {
            for rule in there.iter().filter(|rule| !rules.contains(rule)) {
                writeln!(text, "{}", paint.goes(&format!("  -{rule}")))?;
            }
            for rule in rules.iter().filter(|rule| !there.contains(rule)) {
                writeln!(text, "{}", paint.comes(&format!("  +{rule}")))?;
            }
        }
        Change::Prepend { rule, .. } => writeln!(text, "{}", paint.comes(&format!("  +{rule}")))?,
        Change::Remove { rule, .. } => writeln!(text, "{}", paint.goes(&format!("  -{rule}")))?,
        Change::Delete { .. } => {
            for rule in there {
                writeln!(text, "{}", paint.goes(&format!("  -{rule}")))?;
            }
        }
    }
    Ok(())
}
