//! Runs the cases of a test file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{EndCondition, Explanation};
use rulegen_model::{Objects, Problem, Severity};
use serde::Serialize;

use crate::certainty::{conditions, conditions_refused, unknown_rules};
use crate::change::apply;
use crate::check::{ExpectationChecks, Mismatch};
use crate::file::{Case, ClusterChange, Modes, TestFile};
use crate::flexible::ListOr;
use crate::inputs::CaseInputs;
use crate::live::{LiveRules, check_node};
use crate::node_rules::NodeRules;
use crate::packet::packets;
use crate::problem::FileProblem;

/// A case in one mode.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// The name of the case.
    pub name: String,
    /// The proxy mode whose rules were tested.
    pub mode: ProxyMode,
    /// What the packets of the case did, against what it expects.
    pub verdict: CaseVerdict,
    /// What the verdict does not say.
    pub notes: Vec<CaseNote>,
}

/// A fact about a case that does not change its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CaseNote {
    /// The packets of these senders were not followed: they pass the rules of another node.
    NotChecked {
        /// The node of the senders.
        node: String,
        /// Their number.
        senders: usize,
    },
    /// The changes of the case cause a problem of the input, with which it was run.
    Problem(String),
}

impl fmt::Display for CaseNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotChecked { node, senders } => {
                let senders = match senders {
                    1 => "1 sender".to_owned(),
                    several => format!("{several} senders"),
                };
                write!(f, "not checked: {senders} on node {node}. Run the test there too")
            }
            Self::Problem(text) => write!(f, "the changes cause a problem: {text}"),
        }
    }
}

/// The verdict of a case.
#[derive(Debug, Clone)]
pub enum CaseVerdict {
    /// All expectations hold.
    Passed,
    /// All expectations hold unless one of these conditions does, which cannot be evaluated. At least
    /// one; only with the rules in the kernel.
    Conditional(Vec<EndCondition>),
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

/// What a case with conditions is, if its expectations hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConditions {
    /// [`CaseVerdict::Conditional`].
    Report,
    /// [`CaseVerdict::Failed`].
    Fail,
}

/// Runs all cases, each in its modes. Cases with equal changes share the changed input and its rules.
pub fn run(file: &TestFile, inputs: &CaseInputs) -> Vec<CaseReport> {
    run_with_cost(file, inputs).0
}

/// What a run costs, without regard to the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunCost {
    /// Changed copies of the input.
    pub(crate) changed_inputs: usize,
    /// Times that the rules of one node in one mode were compiled.
    pub(crate) compiled: usize,
}

pub(crate) fn run_with_cost(file: &TestFile, inputs: &CaseInputs) -> (Vec<CaseReport>, RunCost) {
    let mut run = Run::new(file, inputs, None);
    let mut cost = RunCost::default();
    let mut reports: Vec<Vec<CaseReport>> = vec![Vec::new(); file.cases.len()];
    for cases in with_equal_changes(&file.cases) {
        let Some((_, first)) = cases.first() else { continue };
        let mut changed = changed(first, inputs);
        for (n, case) in cases {
            let of_modes = modes(case.mode.unwrap_or(file.mode)).iter().map(|mode| {
                let verdict = run.verdict(case, *mode, &mut changed);
                CaseReport::of(case, *mode, verdict)
            });
            let of_modes: Vec<CaseReport> = of_modes.collect();
            if let Some(place) = reports.get_mut(n) {
                *place = of_modes;
            }
        }
        // Dropped before the next ones: a cluster can be large.
        if let Ok(Some(changed)) = changed {
            cost.changed_inputs += 1;
            cost.compiled += changed.rules.len();
        }
    }
    cost.compiled += run.unchanged.rules.len();
    (reports.into_iter().flatten().collect(), cost)
}

/// The cases with their positions, in groups that change the input in the same way.
fn with_equal_changes(cases: &[Case]) -> Vec<Vec<(usize, &Case)>> {
    let mut groups: Vec<Vec<(usize, &Case)>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (n, case) in cases.iter().enumerate() {
        // Only to find equal ones: a patch is a JSON object, which has no hash.
        let key = serde_json::to_string(&case.when).unwrap_or_default();
        let group = *known.entry(key).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push((n, case)),
            None => groups.push(vec![(n, case)]),
        }
    }
    groups
}

/// Runs all cases with the rules in the kernel of the node that the file names. What-if cases, those
/// of other nodes and modes, and those with senders on other nodes are ignored.
pub fn run_live(
    file: &TestFile,
    inputs: &CaseInputs,
    live: &dyn LiveRules,
    on_conditions: OnConditions,
) -> Vec<CaseReport> {
    let mut run = Run::new(file, inputs, Some((live, on_conditions)));
    let mode = live.mode();
    let report = |case: &Case| {
        let verdict = match run.ignored(case, mode) {
            Ok(Some(reason)) => Ok((CaseVerdict::Ignored(reason), Vec::new())),
            Ok(None) => run.verdict(case, mode, &mut Ok(None)),
            Err(problem) => Err(problem),
        };
        CaseReport::of(case, mode, verdict)
    };
    file.cases.iter().map(report).collect()
}

type VerdictWithNotes = (CaseVerdict, Vec<CaseNote>);

impl CaseReport {
    fn of(case: &Case, mode: ProxyMode, evaluated: Result<VerdictWithNotes, FileProblem>) -> Self {
        let wrong =
            |problem: FileProblem| (CaseVerdict::Wrong(problem.in_case(&case.name)), Vec::new());
        let (verdict, notes) = evaluated.unwrap_or_else(wrong);
        Self { name: case.name.clone(), mode, verdict, notes }
    }
}

fn modes(of: Modes) -> &'static [ProxyMode] {
    match of {
        Modes::Both => &[ProxyMode::Iptables, ProxyMode::Nftables],
        Modes::Iptables => &[ProxyMode::Iptables],
        Modes::Nftables => &[ProxyMode::Nftables],
    }
}

/// An input, and the rules that were compiled from it.
struct CompiledInput<'a> {
    objects: Cow<'a, Objects>,
    config: &'a ProxyConfig,
    /// By mode and node. Most cases use the same.
    rules: BTreeMap<(&'static str, String), Rc<NodeRules>>,
}

impl<'a> CompiledInput<'a> {
    fn new(objects: Cow<'a, Objects>, config: &'a ProxyConfig) -> Self {
        Self { objects, config, rules: BTreeMap::new() }
    }

    fn of(&mut self, node: &str, mode: ProxyMode) -> Rc<NodeRules> {
        let new = || Rc::new(NodeRules::new(&self.objects, self.config, mode, node));
        self.rules.entry((mode.word(), node.to_owned())).or_insert_with(new).clone()
    }
}

/// The input after the changes of a case; `None` if it has none.
type ChangedInput<'a> = Result<Option<CompiledInput<'a>>, FileProblem>;

struct Run<'a> {
    file: &'a TestFile,
    inputs: &'a CaseInputs,
    unchanged: CompiledInput<'a>,
    live: Option<(&'a dyn LiveRules, OnConditions)>,
}

impl<'a> Run<'a> {
    fn new(
        file: &'a TestFile,
        inputs: &'a CaseInputs,
        live: Option<(&'a dyn LiveRules, OnConditions)>,
    ) -> Self {
        let unchanged = CompiledInput::new(Cow::Borrowed(&inputs.objects), &inputs.config);
        Self { file, inputs, unchanged, live }
    }
}

impl<'a> Run<'a> {
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

    fn verdict(
        &mut self,
        case: &Case,
        mode: ProxyMode,
        changed: &mut ChangedInput<'a>,
    ) -> Result<VerdictWithNotes, FileProblem> {
        let inputs = self.inputs;
        let checks = ExpectationChecks::of(&case.expect, &inputs.objects)?;
        let node = inputs.node(case.node.as_deref(), &self.file.inputs)?;
        let changed = changed.as_mut().map_err(|problem| problem.clone())?.as_mut();
        if let Some(changed) = &changed {
            check_node_is_left(&node, &changed.objects, inputs)?;
        }
        let mut problems = Vec::new();
        let input = match changed {
            Some(changed) if has_patch(case) => {
                let unchanged = self.unchanged.of(&node, mode);
                problems = changed.of(&node, mode).new_problems(&unchanged);
                changed
            }
            Some(changed) => changed,
            None => &mut self.unchanged,
        };
        let node_rules = input.of(&node, mode);
        if problems.iter().any(|problem| problem.severity > Severity::Warning) {
            let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
            return Err(FileProblem::of("when", texts.join("; ")));
        }
        if let Some((live, _)) = self.live {
            let is_node = check_node(live.host(), &node_rules.snapshot.node);
            let field = if case.node.is_some() { "node" } else { "inputs.node" };
            is_node.map_err(|message| FileProblem::of(field, message))?;
        }
        let sent = packets(case, &input.objects, &node_rules)
            .map_err(|problem| removed_by_changes(case, inputs, &node, mode, problem))?;
        let mut verdict = TestVerdict::default();
        for sent in &sent {
            let other = sent.other_node(&node_rules.snapshot.node);
            let (explanation, node_rules) = match (self.live, other) {
                (Some(_), Some(other)) => {
                    *verdict.elsewhere.entry(other.to_owned()).or_default() += 1;
                    continue;
                }
                (Some((live, _)), None) => {
                    let explained = node_rules.explain_live(sent, live);
                    let explained = explained.map_err(|message| FileProblem::of("", message))?;
                    (explained, node_rules.clone())
                }
                (None, other) => {
                    let rules = match other {
                        Some(other) => {
                            other_node(other, &input.objects)?;
                            input.of(other, mode)
                        }
                        None => node_rules.clone(),
                    };
                    (rules.explain(sent), rules)
                }
            };
            checks.check_source(&node_rules.snapshot.node)?;
            let mismatches = checks.mismatches(&explanation, &node_rules);
            let on_conditions = self.live.map(|(_, on_conditions)| on_conditions);
            verdict.add(explanation, mismatches, on_conditions);
        }
        let problems = problems.into_iter().map(|of| CaseNote::Problem(of.to_string()));
        let (verdict, not_checked) = verdict.finish();
        Ok((verdict, problems.chain(not_checked).collect()))
    }
}

/// The verdict of the packets so far.
#[derive(Default)]
struct TestVerdict {
    packets: usize,
    failures: Vec<Failure>,
    conditions: Vec<EndCondition>,
    /// The number of packets that were not followed, by the node of their sender.
    elsewhere: BTreeMap<String, usize>,
}

impl TestVerdict {
    /// Adds a packet. Compiled rules have no conditions.
    fn add(
        &mut self,
        explanation: Explanation,
        mut mismatches: Vec<Mismatch>,
        on_conditions: Option<OnConditions>,
    ) {
        self.packets += 1;
        if let Some(on_conditions) = on_conditions {
            mismatches.extend(unknown_rules(&explanation));
            let conditions = conditions(&explanation);
            match on_conditions {
                OnConditions::Fail => mismatches.extend(conditions_refused(&conditions)),
                OnConditions::Report => {
                    let new = conditions.into_iter().filter(|of| !self.conditions.contains(of));
                    let new: Vec<EndCondition> = new.collect();
                    self.conditions.extend(new);
                }
            }
        }
        if !mismatches.is_empty() {
            self.failures.push(Failure { mismatches, explanation });
        }
    }

    fn finish(self) -> VerdictWithNotes {
        if self.packets == 0 && !self.elsewhere.is_empty() {
            let nodes: Vec<String> = self.elsewhere.into_keys().collect();
            let reason = match nodes.as_slice() {
                [node] => format!("its sender is on another node, {node}"),
                nodes => format!("its senders are on other nodes: {}", nodes.join(", ")),
            };
            return (CaseVerdict::Ignored(reason), Vec::new());
        }
        let not_checked = self.elsewhere.into_iter();
        let not_checked =
            not_checked.map(|(node, senders)| CaseNote::NotChecked { node, senders }).collect();
        let verdict = match (self.failures.is_empty(), self.conditions.is_empty()) {
            (false, _) => CaseVerdict::Failed(self.failures),
            (true, false) => CaseVerdict::Conditional(self.conditions),
            (true, true) => CaseVerdict::Passed,
        };
        (verdict, not_checked)
    }
}

/// Checks that the changes of a case leave the node whose rules are tested.
fn check_node_is_left(node: &str, after: &Objects, inputs: &CaseInputs) -> Result<(), FileProblem> {
    let mut left = after.nodes.iter().map(|of| of.object.metadata.name.as_str()).peekable();
    let first = left.peek().copied();
    if inputs.objects.nodes.is_empty() || left.any(|of| of == node) {
        return Ok(());
    }
    let remedy = match first {
        Some(first) => format!("give the case another node, such as `node: {first}`"),
        None => "no other Node is left: add one to the manifests, and name it as the case's node"
            .to_owned(),
    };
    let message = format!("removes node {node:?}, whose rules are tested: {remedy}");
    Err(FileProblem::of("when", message))
}

/// The problem of a packet that cannot be sent. If it can be without the changes of the case, these
/// are the reason.
fn removed_by_changes(
    case: &Case,
    inputs: &CaseInputs,
    node: &str,
    mode: ProxyMode,
    problem: FileProblem,
) -> FileProblem {
    if case.when.is_none() {
        return problem;
    }
    let unchanged = NodeRules::new(&inputs.objects, &inputs.config, mode, node);
    match packets(case, &inputs.objects, &unchanged) {
        Ok(_) => {
            let message = format!("after the changes of `when`, {}", problem.message);
            FileProblem { message, ..problem }
        }
        Err(_) => problem,
    }
}

/// Checks that the node of a sender is in the input.
fn other_node(name: &str, objects: &Objects) -> Result<(), FileProblem> {
    let mut names = objects.nodes.iter().map(|node| &node.object.metadata.name);
    if objects.nodes.is_empty() || names.any(|of| of == name) {
        return Ok(());
    }
    let message = format!(
        "the sender is on node {name:?}, whose rules its packets pass, and the input has no such \
         Node: add it to the manifests"
    );
    Err(FileProblem::of("from", message))
}

fn changes(case: &Case) -> &[ClusterChange] {
    match &case.when {
        None => &[],
        Some(ListOr::List(changes)) => changes.as_slice(),
        Some(ListOr::Fields(change)) => std::slice::from_ref(change),
    }
}

fn has_patch(case: &Case) -> bool {
    changes(case).iter().any(|change| matches!(change, ClusterChange::Patch(_)))
}

fn changed<'a>(case: &Case, inputs: &'a CaseInputs) -> ChangedInput<'a> {
    let CaseInputs { objects, config } = inputs;
    let Some(when) = &case.when else { return Ok(None) };
    let mut objects = objects.clone();
    for (n, change) in changes(case).iter().enumerate() {
        let field = match when {
            ListOr::List(_) => format!("when[{n}]"),
            ListOr::Fields(_) => "when".to_owned(),
        };
        apply(change, &field, &mut objects, config)?;
    }
    Ok(Some(CompiledInput::new(Cow::Owned(objects), config)))
}
