//! The changes in nftables mode.

use anyhow::Result;
use rulegen_compiler::plan;
use rulegen_inspect::listing::{Listing, Owners, of_plan, of_table, owner_of_object};
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::{
    Actual, Edit, EditAction, EditedObject, Name, Table, Transaction, diff,
};

use super::report::{ByOwner, CHANGED, Report};
use super::services::report;
use crate::args::DiffArgs;
use crate::commands::tables;
use crate::families;
use crate::input::Input;

pub(super) fn compare(args: &DiffArgs, input: &Input) -> Result<Report> {
    let families = families::of_nftables(args.family.ip_family);
    let wanted = tables(input, &args.proxy.nftables.nftables_table, families);
    let names: Vec<(IpFamily, &Name)> =
        wanted.iter().map(|table| (table.family, &table.name)).collect();
    let (_, held) = NfTables::open()?.read(&names)?;
    let both: Vec<(&Option<Actual>, &Table)> = held.iter().zip(&wanted).collect();
    let transactions: Vec<Transaction<'_>> =
        both.iter().map(|(held, wanted)| diff(held.as_ref(), wanted)).collect();
    let (mut of_held, mut of_wanted) = (Listing::default(), Listing::default());
    let mut objects = ByOwner::default();
    if transactions.iter().any(|transaction| !transaction.is_empty()) {
        for (held, table) in both {
            let delinearized = held.clone().map(|held| held.delinearize(table.family, &table.name));
            of_held.append(
                delinearized.map(|delinearized| of_table(&delinearized.table)).unwrap_or_default(),
            );
            of_wanted.append(of_table(table));
        }
        for family in families {
            let known = of_plan(&plan(&input.snapshot, &input.config, *family));
            of_held.complete(&known);
            of_wanted.complete(&known);
        }
        let owners = Owners::of([&of_held, &of_wanted]);
        for transaction in &transactions {
            transaction.edits().for_each(|edit| take(transaction, &edit, &owners, &mut objects));
        }
    }
    let report = report("nftables", &of_held, &of_wanted, objects);
    drop(transactions);
    // Skip destructors: freeing a large cluster takes longer than comparing it.
    std::mem::forget((held, wanted, of_held, of_wanted));
    Ok(report)
}

fn take(transaction: &Transaction<'_>, edit: &Edit<'_>, owners: &Owners, objects: &mut ByOwner) {
    let owner = owner(edit, owners);
    let object = transaction.object(edit);
    let change = match (&edit.action, edit.object) {
        (EditAction::Created, None) => "new table",
        (EditAction::Created, Some(EditedObject::Set(_))) => "new set",
        (EditAction::Created, Some(EditedObject::Chain(_))) => "new chain",
        (EditAction::Deleted, _) => "deleted",
        (EditAction::Flushed, _) => "emptied",
        _ => CHANGED,
    };
    let added = match edit.action {
        EditAction::Element { added, .. } => added,
        EditAction::RuleAdded(_) => true,
        _ => false,
    };
    match edit.text(transaction.family) {
        Some(text) => objects.line(owner, (object, change), added, text),
        None => objects.note(owner, object, change),
    }
}

fn owner(edit: &Edit<'_>, owners: &Owners) -> Option<ServicePortName> {
    let (EditedObject::Set(name) | EditedObject::Chain(name)) = edit.object?;
    owner_of_object(name).or_else(|| match edit.action {
        EditAction::Element { key, element, .. } => owners.of_element(key, element),
        _ => None,
    })
}
