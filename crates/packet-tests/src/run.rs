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
use crate::live::LiveRules;
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
    /// The case does not fit the input, or the rules in the kernel cannot be read.
    Wrong(FileProblem),
    /// The case cannot run with the rules in the kernel. Holds the reason.
    Ignored(String),
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
    let mut run = Run { file, inputs, compiled: BTreeMap::new(), live: None };
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

/// Runs all cases with the rules in the kernel of the node that the file names. What-if cases, and
/// those of other nodes and modes, are ignored.
pub fn run_live(file: &TestFile, inputs: &CaseInputs, live: &dyn LiveRules) -> Vec<CaseReport> {
    let mut run = Run { file, inputs, compiled: BTreeMap::new(), live: Some(live) };
    let mode = live.mode();
    let report = |case: &Case| {
        let verdict = match run.ignored(case, mode) {
            Ok(Some(reason)) => Ok(CaseVerdict::Ignored(reason)),
            Ok(None) => run.verdict(case, mode),
            Err(problem) => Err(problem),
        };
        let verdict =
            verdict.unwrap_or_else(|problem| CaseVerdict::Wrong(problem.in_case(&case.name)));
        CaseReport { name: case.name.clone(), mode, verdict }
    };
    file.cases.iter().map(report).collect()
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
    live: Option<&'a dyn LiveRules>,
}

impl Run<'_> {
    /// Why a case cannot run with the rules in the kernel, if it cannot.
    fn ignored(&self, case: &Case, mode: ProxyMode) -> Result<Option<String>, FileProblem> {
        let node = self.inputs.node(None, &self.file.inputs)?;
        let is_other_node = case.node.as_ref().is_some_and(|of| *of != node);
        let is_other_mode = !modes(case.mode.unwrap_or(self.file.mode)).contains(&mode);
        Ok(match case.when {
            Some(_) => Some("it changes the input (when)".to_owned()),
            None if is_other_node => Some(format!("it is about another node than {node}")),
            None if is_other_mode => Some(format!("the kernel has rules of {}", mode.word())),
            None => None,
        })
    }

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
            let explanation = match self.live {
                Some(live) => node_rules
                    .explain_live(&objects, &sent, live)
                    .map_err(|message| FileProblem::of("", message))?,
                None => node_rules.explain(&objects, &sent),
            };
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
