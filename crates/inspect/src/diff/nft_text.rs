//! The changes between two texts of nftables tables, such as files that `rulegen golden` keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rulegen_net::{Protocol, ServicePortName};
use rulegen_ruleset::nftables::Name;

use super::report::{ByOwner, CHANGED, DiffAction, DiffReport, ServiceDiff, Summary};
use crate::listing::owner_of_object;

/// The objects of a text: name and lines.
type TextObjects<'a> = BTreeMap<String, Vec<&'a str>>;

/// The changes from one text to another. Both are in the layout of `Table::write_text`: one object,
/// rule or element per line. Elements belong to the Service in their comment.
pub fn diff_nft_text(before: &str, after: &str) -> DiffReport {
    let (before, after) = (objects(before), objects(after));
    let mut changes = ByOwner::default();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (held, wanted) = (before.get(name), after.get(name));
        let what = match (held, wanted) {
            (None, _) => "new",
            (_, None) => "deleted",
            _ => CHANGED,
        };
        let held = held.map(Vec::as_slice).unwrap_or_default();
        let wanted = wanted.map(Vec::as_slice).unwrap_or_default();
        let (removed, added) = (surplus(held, wanted), surplus(wanted, held));
        if removed.is_empty() && added.is_empty() && (held != wanted || what != CHANGED) {
            let what = if what == CHANGED { "other order" } else { what };
            changes.note(owner_of(name), name.clone(), what);
        }
        for (lines, comes) in [(removed, false), (added, true)] {
            for line in lines {
                changes.line(owner_in(name, line), (name.clone(), what), comes, line.to_owned());
            }
        }
    }
    report(changes, &before, &after)
}

fn report(mut changes: ByOwner, before: &TextObjects<'_>, after: &TextObjects<'_>) -> DiffReport {
    let owners = |of: &TextObjects<'_>| -> BTreeSet<ServicePortName> {
        let lines = of.iter().flat_map(|(name, lines)| lines.iter().map(move |line| (name, line)));
        lines.filter_map(|(name, line)| owner_in(name, line)).collect()
    };
    let (held, wanted) = (owners(before), owners(after));
    let action = |is_held, is_wanted| match (is_held, is_wanted) {
        (false, _) => DiffAction::Add,
        (_, false) => DiffAction::Remove,
        _ => DiffAction::Change,
    };
    let services = |of: &BTreeSet<ServicePortName>| -> BTreeSet<_> {
        of.iter().map(|name| (name.namespace.clone(), name.service.clone())).collect()
    };
    let (held_services, wanted_services) = (services(&held), services(&wanted));
    let changed: BTreeSet<ServicePortName> = changes.owners().cloned().collect();
    let mut summary = Summary::default();
    for service in &services(&changed) {
        match action(held_services.contains(service), wanted_services.contains(service)) {
            DiffAction::Add => summary.add += 1,
            DiffAction::Change => summary.change += 1,
            DiffAction::Remove => summary.remove += 1,
        }
    }
    let service = |name: ServicePortName| ServiceDiff {
        namespace: name.namespace.clone(),
        name: name.service.clone(),
        port: Some(name.port.clone()).filter(|port| !port.is_empty()),
        protocol: name.protocol.api_name().to_owned(),
        action: action(held.contains(&name), wanted.contains(&name)),
        frontends: Vec::new(),
        objects: changes.take(Some(&name)),
    };
    let services = changed.into_iter().map(service).collect();
    DiffReport { mode: "nftables", services, shared: changes.take(None), summary }
}

/// The sets, maps and chains of a text, with their lines.
fn objects(text: &str) -> TextObjects<'_> {
    let mut objects = TextObjects::new();
    let (mut table, mut name) = (String::new(), String::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let depth = line.len() - line.trim_start_matches('\t').len();
        let words = line.trim();
        match depth {
            0 => {
                if let Some(name) = words.strip_prefix("table ") {
                    table = name.trim_end_matches(" {").to_owned();
                }
            }
            1 if words.ends_with('{') => {
                let (kind, of) = words.trim_end_matches(" {").split_once(' ').unwrap_or_default();
                name = format!("{kind} {table} {of}");
                objects.entry(name.clone()).or_default();
            }
            2.. if words != "elements = {" && words != "}" => {
                objects.entry(name.clone()).or_default().push(words.trim_end_matches(','));
            }
            _ => {}
        }
    }
    objects
}

/// The Service of an object, if it belongs to one alone.
fn owner_of(object: &str) -> Option<ServicePortName> {
    owner_of_object(&Name::from(object.rsplit(' ').next()?))
}

/// The Service of a line of an object.
fn owner_in(object: &str, line: &str) -> Option<ServicePortName> {
    owner_of(object).or_else(|| owner(line))
}

/// The Service in the comment of an element.
fn owner(line: &str) -> Option<ServicePortName> {
    let (key, rest) = line.split_once(" comment \"")?;
    let comment = rest.split('"').next()?;
    let protocol = key.split(" . ").find_map(|word| Protocol::from_name(word.trim()));
    let name = ServicePortName::from_comment(comment, protocol.unwrap_or(Protocol::Tcp))?;
    // Comments of rules are sentences.
    (!comment.contains(' ')).then_some(name)
}

/// The lines that are in the first list but not in the second; duplicates count.
fn surplus<'a>(lines: &[&'a str], others: &[&str]) -> Vec<&'a str> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for other in others {
        *count.entry(other).or_default() += 1;
    }
    let is_more = |line: &&str| match count.get_mut(*line) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    };
    lines.iter().copied().filter(is_more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# a header\ntable ip rulegen {\n\tcomment \"x\"\n\n\tmap services {\n\t\ttype a\n\t\t\
                          elements = {\n\t\t\t10.96.0.1 . udp . 53 comment \"kube-system/dns:dns\" \
                          : goto endpoints-1,\n\t\t\t10.96.0.2 . tcp . 80 comment \"default/web\" : \
                          goto endpoints-1,\n\t\t}\n\t}\n\n\tchain services {\n\t\tjump x comment \
                          \"a rule\"\n\t}\n}\n";

    #[test]
    fn nft_text_diff_is_by_service_in_comments_of_elements() {
        assert!(diff_nft_text(BEFORE, BEFORE).is_empty());
        let after = BEFORE
            .replace(
                "10.96.0.2 . tcp . 80 comment \"default/web\" : goto endpoints-1",
                "10.96.0.2 . tcp . 80 comment \"default/web\" : goto endpoints-2",
            )
            .replace("kube-system/dns:dns", "kube-system/dns:new")
            .replace("jump x", "jump y");
        let report = diff_nft_text(BEFORE, &after);
        let names = report.services.iter().map(|of| {
            let port = of.port.as_deref().unwrap_or_default();
            format!("{}/{}:{port} {} {:?}", of.namespace, of.name, of.protocol, of.action)
        });
        let names: Vec<String> = names.collect();
        assert_eq!(
            names,
            [
                "default/web: TCP Change",
                "kube-system/dns:dns UDP Remove",
                "kube-system/dns:new UDP Add",
            ]
        );
        let web = &report.services[0].objects[0];
        assert_eq!(web.object, "map ip rulegen services");
        assert!(web.removed[0].ends_with("endpoints-1") && web.added[0].ends_with("endpoints-2"));
        assert_eq!(report.shared.len(), 1);
        assert_eq!(report.shared[0].object, "chain ip rulegen services");
        assert_eq!(report.summary, Summary { add: 0, change: 2, remove: 0 });
    }
}
