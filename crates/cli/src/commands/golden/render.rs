//! The rules of each node, configuration and mode.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use rulegen::types::Rules;
use rulegen::{iptables_rules, nftables_rules};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_model::{Host, Objects, snapshot};
use rulegen_net::IpFamily;
use rulegen_packet_tests::{CaseInputs, InputFiles};

use super::settings::{NamedConfiguration, Settings, check_name};
use crate::commands::test::inputs::InputReader;
use crate::problems;

/// The start of the first line of each file.
pub(super) const HEADER: &str = "# Written by rulegen golden --update";

/// The table's name.
const TABLE: &str = "rulegen";

/// A file with rules.
pub(super) struct RulesFile {
    /// The rules: one ruleset, or a table per family.
    pub(super) rules: Vec<Rules>,
    pub(super) text: String,
}

/// The files by their path.
pub(super) fn all(settings: &Settings, folder: &Path) -> Result<BTreeMap<String, RulesFile>> {
    let mut files = BTreeMap::new();
    for named in &settings.configurations {
        let inputs = inputs(settings, named, folder)?;
        for node in nodes(settings, &inputs.objects)? {
            for mode in &settings.modes {
                let of_node = of_node(&inputs, &node, (*mode).into());
                let path = |end: &str| format!("{}/{node}.{end}", named.name);
                let header = format!("{HEADER}: node {node}, configuration {}\n", named.name);
                files.extend(of_node.into_iter().map(|(end, rules)| {
                    let text: String = rules.iter().map(ToString::to_string).collect();
                    (path(end), RulesFile { rules, text: format!("{header}{text}") })
                }));
            }
        }
    }
    Ok(files)
}

fn inputs(settings: &Settings, named: &NamedConfiguration, folder: &Path) -> Result<CaseInputs> {
    let files = InputFiles {
        manifests: settings.manifests.clone(),
        config: named.config.clone(),
        configuration: named.configuration.clone(),
        node: None,
    };
    let mut reader = InputReader::default();
    match reader.load(&files, folder) {
        Ok(inputs) => {
            problems::print(&reader.warnings);
            Ok(inputs)
        }
        Err(wrong) => {
            let lines: Vec<String> = wrong.into_iter().map(|of| of.message).collect();
            bail!("{}", lines.join("\n"));
        }
    }
}

fn nodes(settings: &Settings, objects: &Objects) -> Result<Vec<String>> {
    let known: Vec<&String> = objects.nodes.iter().map(|of| &of.object.metadata.name).collect();
    let unknown = settings.nodes.iter().find(|node| !known.contains(node));
    if let Some(unknown) = unknown.filter(|_| !known.is_empty()) {
        bail!("the manifests have no Node {unknown:?}");
    }
    let nodes: Vec<String> = match settings.nodes.as_slice() {
        [] => known.into_iter().cloned().collect(),
        named => named.to_vec(),
    };
    if nodes.is_empty() {
        bail!("the manifests have no Node: name nodes in golden.yaml");
    }
    nodes.iter().try_for_each(|node| check_name(node))?;
    Ok(nodes)
}

/// The extensions and rules of the files of one node and mode.
fn of_node(inputs: &CaseInputs, node: &str, mode: ProxyMode) -> Vec<(&'static str, Vec<Rules>)> {
    let hostname_override = Some(node.to_owned());
    let config = ProxyConfig { mode, hostname_override, ..inputs.config.clone() };
    let (snapshot, _) = snapshot(&inputs.objects, &config.snapshot_options(), &Host::default());
    let plan = |family| rulegen::plan(&snapshot, &config, family);
    match mode {
        ProxyMode::Iptables => {
            let mut files = vec![("iptables-save", vec![iptables_rules(&plan(IpFamily::Ipv4))])];
            if !snapshot.ipv6.is_empty() {
                files.push(("ip6tables-save", vec![iptables_rules(&plan(IpFamily::Ipv6))]));
            }
            files
        }
        ProxyMode::Nftables => {
            let tables = IpFamily::BOTH.map(|family| nftables_rules(&plan(family), TABLE));
            vec![("nft", tables.into())]
        }
    }
}
