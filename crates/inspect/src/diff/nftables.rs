//! The changes in nftables mode.

use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::{
    Actual, EditAction, EditedObject, ObjectEdit, Table, Transaction, diff,
};

use super::report::{ByOwner, CHANGED, DiffReport};
use super::services::report;
use crate::listing::{Listing, Owners, of_table, owner_of_object};

/// The changes from the actual to the desired table, one pair per family. `None` is a table that does not
/// exist. `known` completes the names and kinds of frontends that rules do not show, usually by
/// [`of_plan`](crate::listing::of_plan); an empty listing will do.
pub fn diff_nftables(
    both: &[(Option<&Actual>, &Table)],
    known: impl Fn(IpFamily) -> Listing,
) -> DiffReport {
    let transactions: Vec<Transaction<'_>> =
        both.iter().map(|(actual, desired)| diff(*actual, desired)).collect();
    let (mut of_actual, mut of_desired) = (Listing::default(), Listing::default());
    let mut objects = ByOwner::default();
    if transactions.iter().any(|transaction| !transaction.is_empty()) {
        for (actual, desired) in both {
            let actual =
                actual.cloned().map(|actual| actual.delinearize(desired.family, &desired.name));
            of_actual.append(actual.map(|actual| of_table(&actual.table)).unwrap_or_default());
            of_desired.append(of_table(desired));
        }
        for (_, desired) in both {
            let known = known(desired.family);
            of_actual.complete(&known);
            of_desired.complete(&known);
        }
        let owners = Owners::of([&of_actual, &of_desired]);
        for transaction in &transactions {
            transaction.edits().for_each(|edit| take(transaction, &edit, &owners, &mut objects));
        }
    }
    let report = report("nftables", &of_actual, &of_desired, objects);
    // Skip destructors: freeing a large cluster takes longer than comparing it.
    std::mem::forget((of_actual, of_desired));
    report
}

fn take(
    transaction: &Transaction<'_>,
    edit: &ObjectEdit<'_>,
    owners: &Owners,
    objects: &mut ByOwner,
) {
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

fn owner(edit: &ObjectEdit<'_>, owners: &Owners) -> Option<ServicePortName> {
    let (EditedObject::Set(name) | EditedObject::Chain(name)) = edit.object?;
    owner_of_object(name).or_else(|| match edit.action {
        EditAction::Element { key, element, .. } => owners.of_element(key, element),
        _ => None,
    })
}
