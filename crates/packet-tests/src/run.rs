//! Runs the cases of a test file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rulegen_config::ProxyMode;
use rulegen_inspect::explain::Explanation;
use rulegen_model::Objects;

use crate::change::apply;
use crate::check::{ExpectationChecks, Mismatch};
use crate::file::{Case, Modes, TestFile};
use crate::flexible::ListOr;
use crate::inputs::CaseInputs;
use crate::node_rules::NodeRules;
use crate::packet::packets;
use crate::problem::FileProblem;

/// A case in one mode.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// The name of the case.
    pub name: String,
    /// The mode.
    pub mode: ProxyMode,
    /// The verdict.
    pub verdict: CaseVerdict,
}

/// The verdict of a case.
#[derive(Debug, Clone)]
pub enum CaseVerdict {
    /// All expectations hold.
    Passed,
    /// Some do not, one item per packet.
    Failed(Vec<Failure>),
    /// The case does not fit the input.
    Wrong(FileProblem),
}

/// A packet for which an expectation does not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What does not hold, at least one.
    pub mismatches: Vec<Mismatch>,
    /// What happens to the packet, and why.
    pub explanation: Explanation,
}

/// Runs all cases, each in its modes.
pub fn run(file: &TestFile, inputs: &CaseInputs) -> Vec<CaseReport> {
    let mut run = Run { file, inputs, compiled: BTreeMap::new() };
    let mut reports = Vec::new();
    for case in &file.cases {
        for mode in modes(case.mode.unwrap_or(file.mode)) {
            let verdict = run.verdict(case, *mode);
            let verdict =
                verdict.unwrap_or_else(|problem| CaseVerdict::Wrong(problem.in_case(&case.name)));
            reports.push(CaseReport { name: case.name.clone(), mode: *mode, verdict });
        }
    }
    reports
}

fn modes(of: Modes) -> &'static [ProxyMode] {
    match of {
        Modes::Both => &[ProxyMode::Iptables, ProxyMode::Nftables],
        Modes::Iptables => &[ProxyMode::Iptables],
        Modes::Nftables => &[ProxyMode::Nftables],
    }
}

struct Run<'a> {
    file: &'a TestFile,
    inputs: &'a CaseInputs,
    /// The rules of the unchanged input, by mode and node. Most cases use the same.
    compiled: BTreeMap<(&'static str, String), NodeRules>,
}

impl Run<'_> {
    fn verdict(&mut self, case: &Case, mode: ProxyMode) -> Result<CaseVerdict, FileProblem> {
        let inputs = self.inputs;
        let checks = ExpectationChecks::of(&case.expect, &inputs.objects)?;
        let node = inputs.node(case.node.as_deref(), &self.file.inputs)?;
        let objects = changed(case, &inputs.objects)?;
        let changed_rules;
        let node_rules = match &objects {
            Cow::Borrowed(objects) => {
                let new = || NodeRules::new(objects, &inputs.config, mode, &node);
                self.compiled.entry((mode.word(), node.clone())).or_insert_with(new)
            }
            Cow::Owned(objects) => {
                if !objects.nodes.iter().any(|of| of.object.metadata.name == node)
                    && !inputs.objects.nodes.is_empty()
                {
                    let message = format!("removes node {node:?}, whose rules are tested");
                    return Err(FileProblem::of("when", message));
                }
                changed_rules = NodeRules::new(objects, &inputs.config, mode, &node);
                &changed_rules
            }
        };
        let mut failures = Vec::new();
        for sent in packets(case, &objects, node_rules)? {
            let explanation = node_rules.explain(&objects, &sent);
            let mismatches = checks.mismatches(&explanation, node_rules);
            if !mismatches.is_empty() {
                failures.push(Failure { mismatches, explanation });
            }
        }
        Ok(if failures.is_empty() { CaseVerdict::Passed } else { CaseVerdict::Failed(failures) })
    }
}

/// The input after the changes of a case.
fn changed<'a>(case: &Case, objects: &'a Objects) -> Result<Cow<'a, Objects>, FileProblem> {
    let changes = match &case.when {
        None => return Ok(Cow::Borrowed(objects)),
        Some(ListOr::List(changes)) => changes.as_slice(),
        Some(ListOr::Fields(change)) => std::slice::from_ref(change),
    };
    let mut objects = objects.clone();
    for (n, change) in changes.iter().enumerate() {
        let field = match &case.when {
            Some(ListOr::List(_)) => format!("when[{n}]"),
            _ => "when".to_owned(),
        };
        apply(change, &field, &mut objects)?;
    }
    Ok(Cow::Owned(objects))
}
