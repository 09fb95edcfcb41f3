//! golden.yaml.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rulegen_config::ProxyMode;
use rulegen_packet_tests::{FileProblem, SettingsText};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The name of the file.
const FILE: &str = "golden.yaml";

/// The nodes, modes and configurations whose rules `rulegen golden` keeps as files.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    /// Files or folders, relative to golden.yaml.
    #[cfg_attr(test, schemars(extend("minItems" = 1)))]
    pub(super) manifests: Vec<String>,
    /// Names of nodes; all Nodes of the manifests if empty.
    #[serde(default)]
    pub(super) nodes: Vec<String>,
    /// The modes, at least one; both by default.
    #[serde(default = "both_modes")]
    #[cfg_attr(test, schemars(extend("minItems" = 1)))]
    pub(super) modes: Vec<ModeName>,
    /// The configurations, at least one. By default one, named `default`, of kube-proxy's defaults.
    #[serde(default = "one_configuration")]
    #[cfg_attr(test, schemars(extend("minItems" = 1)))]
    pub(super) configurations: Vec<NamedConfiguration>,
}

/// A mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeName {
    /// Rules of iptables.
    Iptables,
    /// Rules of nftables.
    Nftables,
}

impl From<ModeName> for ProxyMode {
    fn from(mode: ModeName) -> Self {
        match mode {
            ModeName::Iptables => Self::Iptables,
            ModeName::Nftables => Self::Nftables,
        }
    }
}

/// A configuration, from a file or written out.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(rename_all = "camelCase")]
pub(super) struct NamedConfiguration {
    /// The name of the folder with its files.
    pub(super) name: String,
    /// kube-proxy's configuration: a file, relative to golden.yaml.
    pub(super) config: Option<String>,
    /// kube-proxy's configuration itself, in place of `config`. `apiVersion` and `kind` may be absent.
    pub(super) configuration: Option<Map<String, Value>>,
}

fn both_modes() -> Vec<ModeName> {
    vec![ModeName::Iptables, ModeName::Nftables]
}

fn one_configuration() -> Vec<NamedConfiguration> {
    vec![NamedConfiguration { name: "default".to_owned(), config: None, configuration: None }]
}

impl Settings {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let name = path.display();
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("{name}: cannot read file (write one, such as `manifests: [cluster.yaml]`)")
        })?;
        let content =
            SettingsText::read(&text).map_err(|error| anyhow!("{name}: invalid YAML: {error}"))?;
        let settings: Result<Self, _> = content.parsed(&schema());
        let checked = settings.and_then(|settings| match settings.checked(&content) {
            problems if problems.is_empty() => Ok(settings),
            problems => Err(problems),
        });
        checked.map_err(|problems| in_file(folder, &problems))
    }

    /// What the types do not express.
    fn checked(&self, content: &SettingsText<'_>) -> Vec<FileProblem> {
        let mut problems = Vec::new();
        for (field, is_empty, what) in [
            ("manifests", self.manifests.is_empty(), "a file or folder"),
            ("modes", self.modes.is_empty(), "iptables or nftables"),
            ("configurations", self.configurations.is_empty(), "a configuration"),
        ] {
            if is_empty {
                problems.push(content.problem(field, format!("empty: name at least {what}")));
            }
        }
        let mut names = BTreeSet::new();
        for (n, named) in self.configurations.iter().enumerate() {
            let field = |field| format!("configurations[{n}].{field}");
            let NamedConfiguration { name, config, configuration } = named;
            if let Err(message) = check_name(name) {
                problems.push(content.problem(&field("name"), message));
            }
            if !names.insert(name) {
                let message = "another configuration has the same name";
                problems.push(content.problem(&field("name"), message));
            }
            if config.is_some() && configuration.is_some() {
                let message = "give either config or configuration";
                problems.push(content.problem(&field("configuration"), message));
            }
        }
        problems
    }
}

/// Problems of golden.yaml in a folder, one per line.
pub(super) fn in_file(folder: &Path, problems: &[FileProblem]) -> anyhow::Error {
    let name = folder.join(FILE).display().to_string();
    let lines: Vec<String> = problems.iter().map(|problem| problem.in_file(&name)).collect();
    anyhow!("{}", lines.join("\n"))
}

/// The JSON Schema of golden.yaml. A test compares it with the types.
fn schema() -> Value {
    let text = include_str!("../../../../../docs/golden.schema.json");
    serde_json::from_str(text).unwrap_or_default()
}

/// Names of files are made of these.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_valid) {
        return Err(format!("invalid name {name:?} (expected letters, digits, '-', '_' and '.')"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_of_golden_yaml_is_the_one_in_docs() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/golden.schema.json");
        let made = schemars::schema_for!(Settings).to_value();
        let made = format!("{made:#}\n");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(file, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), made, "write it with UPDATE_GOLDEN=1");
    }
}
