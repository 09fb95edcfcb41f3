//! Checks whether packets reach the rules of Services at all.

use std::collections::HashSet;

use rulegen_compiler::iptables::SERVICES;
use rulegen_compiler::nftables::FrontendMaps;
use rulegen_ruleset::iptables::{self, Ruleset};
use rulegen_ruleset::nftables::{ChainKind, Hook, Name, Statement, Table, Verdict};

use super::ruleset::walk;
use crate::kube_proxy::Layout;

/// The hooks of DNAT: for received packets, and for packets that the node sends.
const HOOKS: [(Hook, &str); 2] = [(Hook::Prerouting, "PREROUTING"), (Hook::Output, "OUTPUT")];

/// The hooks that do not lead to the Services of a table. Nothing is translated there, whatever the
/// listing shows.
pub fn closed_hooks_of_table(table: &Table) -> Vec<&'static str> {
    let services = Layout::of(table).services(FrontendMaps::Address);
    let is_open = |hook: Hook| {
        let here = table.chains.iter().filter(|(_, chain)| {
            chain.base.is_some_and(|base| base.kind == ChainKind::Nat && base.hook == hook)
        });
        let mut waiting: Vec<&Name> = here.map(|(name, _)| name).collect();
        let mut seen: HashSet<&Name> = HashSet::new();
        while let Some(name) = waiting.pop() {
            let chain = table.chains.get(name).filter(|_| seen.insert(name));
            for rule in chain.into_iter().flat_map(|chain| &chain.rules) {
                for statement in &rule.statements {
                    match statement {
                        Statement::VerdictMap { map, .. } if map.as_str() == services => {
                            return true;
                        }
                        Statement::Verdict(Verdict::Goto(to) | Verdict::Jump(to)) => {
                            waiting.push(to);
                        }
                        _ => {}
                    }
                }
            }
        }
        false
    };
    closed(is_open)
}

/// The hooks that do not lead to the Services of iptables rules.
pub fn closed_hooks_of_ruleset(ruleset: &Ruleset) -> Vec<&'static str> {
    let services = iptables::ChainName::from(SERVICES);
    closed(|hook| {
        let chain = HOOKS.iter().find(|(of, _)| *of == hook).map(|(_, name)| *name);
        let mut is_open = false;
        walk(ruleset, &chain.unwrap_or_default().into(), |_, rule, whose| {
            is_open |= rule.target_chain() == Some(&services);
            (!is_open).then_some(whose)
        });
        is_open
    })
}

fn closed(is_open: impl Fn(Hook) -> bool) -> Vec<&'static str> {
    HOOKS.iter().filter(|(hook, _)| !is_open(*hook)).map(|(_, name)| *name).collect()
}
