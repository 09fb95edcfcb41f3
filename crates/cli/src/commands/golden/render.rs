//! The rules of each node, configuration and mode.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::Result;
use rulegen_compiler::iptables::ruleset;
use rulegen_compiler::nftables::table;
use rulegen_compiler::{FrontendConflict, Plan, conflicts};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_lint::frontend_conflict;
use rulegen_model::{
    Host, ObjectName, Objects, Problem, ProblemCode, Severity, Snapshot, snapshot,
};
use rulegen_net::IpFamily;
use rulegen_packet_tests::{CaseInputs, FileProblem, InputFiles, no_node};
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::{Name, Table};

use super::settings::{NamedConfiguration, Settings, check_name, in_file};
use crate::commands::test::inputs::InputReader;

/// The start of the first line of each file.
pub(super) const HEADER: &str = "# Written by rulegen golden --update";

/// The table's name.
const TABLE: &str = "rulegen";

/// A file with rules.
pub(super) struct RulesFile {
    pub(super) rules: FileRules,
    /// The plan of each family that the file has.
    pub(super) plans: Vec<Plan>,
    pub(super) text: String,
}

/// The rules of a file.
pub(super) enum FileRules {
    Iptables(Ruleset),
    /// One table per family.
    Nftables(Vec<Table>),
}

impl fmt::Display for FileRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iptables(ruleset) => f.write_str(&ruleset.to_text()),
            Self::Nftables(tables) => {
                tables.iter().try_for_each(|table| f.write_str(&table.to_text()))
            }
        }
    }
}

/// The files of all nodes, configurations and modes.
pub(super) struct RenderedFiles {
    /// By path.
    pub(super) files: BTreeMap<String, RulesFile>,
    /// What is wrong with the inputs, each problem once: nodes and configurations mostly have the same.
    pub(super) problems: BTreeSet<Problem>,
}

pub(super) fn all(settings: &Settings, folder: &Path) -> Result<RenderedFiles> {
    let mut rendered = RenderedFiles { files: BTreeMap::new(), problems: BTreeSet::new() };
    for (n, named) in settings.configurations.iter().enumerate() {
        let wrong = |problems: &[FileProblem]| in_file(folder, &of_golden_yaml(problems, n));
        let (inputs, found) = inputs(settings, named, folder).map_err(|found| wrong(&found))?;
        rendered.problems.extend(found);
        for node in nodes(settings, &inputs.objects).map_err(|problem| wrong(&[problem]))? {
            rendered.add(settings, named, &inputs, &node);
        }
    }
    Ok(rendered)
}

impl RenderedFiles {
    /// Adds the files of a node.
    fn add(
        &mut self,
        settings: &Settings,
        named: &NamedConfiguration,
        inputs: &CaseInputs,
        node: &str,
    ) {
        for (n, mode) in settings.modes.iter().enumerate() {
            let input = NodeInput::new(inputs, node, (*mode).into());
            self.problems.extend(input.problems.iter().cloned());
            // They are the same in both modes.
            if n == 0 {
                self.problems.extend(input.conflicts(&inputs.objects));
            }
            let header = format!("{HEADER}: node {node}, configuration {}\n", named.name);
            for (end, rules, plans) in input.rules() {
                let text = format!("{header}{rules}");
                let path = format!("{}/{node}.{end}", named.name);
                self.files.insert(path, RulesFile { rules, plans, text });
            }
        }
    }
}

/// Problems of a configuration's inputs, with the fields of golden.yaml.
fn of_golden_yaml(problems: &[FileProblem], configuration: usize) -> Vec<FileProblem> {
    let field = |of: &str| match of.strip_prefix("inputs.") {
        Some(name @ ("config" | "configuration")) => {
            format!("configurations[{configuration}].{name}")
        }
        Some(name) => name.to_owned(),
        None => of.to_owned(),
    };
    problems.iter().map(|of| FileProblem::of(field(&of.field), &*of.message)).collect()
}

fn inputs(
    settings: &Settings,
    named: &NamedConfiguration,
    folder: &Path,
) -> Result<(CaseInputs, Vec<Problem>), Vec<FileProblem>> {
    let files = InputFiles {
        manifests: settings.manifests.clone(),
        config: named.config.clone(),
        configuration: named.configuration.clone(),
        node: None,
    };
    let mut reader = InputReader::default();
    let inputs = reader.load(&files, folder)?;
    Ok((inputs, reader.warnings))
}

fn nodes(settings: &Settings, objects: &Objects) -> Result<Vec<String>, FileProblem> {
    let wrong = |message: String| FileProblem::of("nodes", message);
    let mut known = objects.nodes.iter().map(|of| &of.object.metadata.name);
    let unknown = settings.nodes.iter().find(|node| !known.clone().any(|of| of == *node));
    if let Some(unknown) = unknown.filter(|_| !objects.nodes.is_empty()) {
        return Err(wrong(no_node(unknown, objects)));
    }
    let nodes: Vec<String> = match settings.nodes.as_slice() {
        [] => known.by_ref().cloned().collect(),
        named => named.to_vec(),
    };
    if nodes.is_empty() {
        return Err(wrong("missing: the manifests have no Node, name the nodes".to_owned()));
    }
    nodes.iter().try_for_each(|node| check_name(node)).map_err(wrong)?;
    Ok(nodes)
}

/// The input of one node in one mode.
struct NodeInput {
    config: ProxyConfig,
    snapshot: Snapshot,
    problems: Vec<Problem>,
}

impl NodeInput {
    fn new(inputs: &CaseInputs, node: &str, mode: ProxyMode) -> Self {
        let hostname_override = Some(node.to_owned());
        let config = ProxyConfig { mode, hostname_override, ..inputs.config.clone() };
        let (snapshot, problems) =
            snapshot(&inputs.objects, &config.snapshot_options(), &Host::default());
        Self { config, snapshot, problems }
    }

    /// A warning for each frontend that several Services claim, at one that does not get it.
    fn conflicts(&self, objects: &Objects) -> Vec<Problem> {
        let warning = |conflict: &FrontendConflict| {
            let loser = &conflict.contenders.get(1)?.port;
            let what = frontend_conflict(conflict, true)?.what;
            let (namespace, name) = (loser.namespace.to_string(), loser.service.to_string());
            let service = objects.services.iter().find(|of| {
                let metadata = &of.object.metadata;
                metadata.namespace() == namespace && metadata.name == name
            })?;
            let problem = Problem::new(Severity::Warning, what).code(ProblemCode::FrontendConflict);
            Some(problem.of(&service.source, &ObjectName { kind: "Service", namespace, name }))
        };
        conflicts(&self.snapshot, &self.config).iter().filter_map(warning).collect()
    }

    /// The extension, rules and plans of each file.
    fn rules(&self) -> Vec<(&'static str, FileRules, Vec<Plan>)> {
        let plan = |family| rulegen::plan(&self.snapshot, &self.config, family);
        let iptables = |end, family| {
            let plan = plan(family);
            (end, FileRules::Iptables(ruleset(&plan)), vec![plan])
        };
        match self.config.mode {
            ProxyMode::Iptables => {
                let mut files = vec![iptables("iptables-save", IpFamily::Ipv4)];
                if !self.snapshot.ipv6.is_empty() {
                    files.push(iptables("ip6tables-save", IpFamily::Ipv6));
                }
                files
            }
            ProxyMode::Nftables => {
                let plans = IpFamily::BOTH.map(plan);
                let tables = plans.iter().map(|plan| table(plan, &Name::from(TABLE))).collect();
                vec![("nft", FileRules::Nftables(tables), plans.into())]
            }
        }
    }
}
