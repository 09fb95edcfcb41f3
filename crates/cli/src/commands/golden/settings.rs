//! golden.yaml.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rulegen_config::ProxyMode;
use rulegen_model::yaml_value;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The name of the file.
const FILE: &str = "golden.yaml";

/// The content of golden.yaml.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    /// Files or folders, relative to golden.yaml.
    pub(super) manifests: Vec<String>,
    /// Names of nodes; all Nodes of the manifests if empty.
    #[serde(default)]
    pub(super) nodes: Vec<String>,
    #[serde(default = "both_modes")]
    pub(super) modes: Vec<ModeName>,
    #[serde(default = "one_configuration")]
    pub(super) configurations: Vec<NamedConfiguration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeName {
    Iptables,
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NamedConfiguration {
    /// The name of its folder.
    pub(super) name: String,
    pub(super) config: Option<String>,
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
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{name}: cannot read file"))?;
        let value = yaml_value(&text).map_err(|error| anyhow!("{name}: invalid YAML: {error}"))?;
        let settings: Self =
            serde_json::from_value(value).with_context(|| format!("{name}: invalid settings"))?;
        settings.check().with_context(|| format!("{name}: invalid settings"))?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        if self.modes.is_empty() || self.configurations.is_empty() || self.manifests.is_empty() {
            bail!("manifests, modes and configurations must not be empty");
        }
        let mut names = BTreeSet::new();
        for NamedConfiguration { name, config, configuration } in &self.configurations {
            check_name(name)?;
            if !names.insert(name) {
                bail!("two configurations have the name {name:?}");
            }
            if config.is_some() && configuration.is_some() {
                bail!("configuration {name:?}: give either config or configuration");
            }
        }
        Ok(())
    }
}

/// Names of files are made of these.
pub(super) fn check_name(name: &str) -> Result<()> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_valid) {
        bail!("invalid name {name:?} (expected letters, digits, '-', '_' and '.')");
    }
    Ok(())
}
