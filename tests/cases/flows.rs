//! The expectations of kube-proxy's own unit tests, stored as data in `tests/flows`. `rulegen
//! explain` has to agree in both modes. See the README there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::Value;

use crate::common::{root, rulegen, stderr, stdout};
use crate::{entries, stem};

pub(crate) fn cases() -> Vec<Trial> {
    let folders = entries(&root().join("tests/flows")).into_iter().filter(|path| path.is_dir());
    let tests = folders.flat_map(|folder| {
        ["iptables", "nftables"].map(|mode| {
            let folder = folder.clone();
            let name = format!("flows::{}::{mode}", stem(&folder));
            crate::test(name, move || Case::new(folder, mode).mismatch())
        })
    });
    tests.collect()
}

struct Case {
    folder: PathBuf,
    mode: &'static str,
    flows: Vec<Flow>,
}

/// A packet and its expected fate.
#[derive(Debug, Deserialize)]
struct Flow {
    name: String,
    from: String,
    to: String,
    port: u16,
    protocol: String,
    /// Why this flow is skipped, if it is.
    #[serde(default)]
    skip: Option<String>,
    #[serde(flatten)]
    fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Fate {
    /// `forward`, `reject`, `drop`, `accept` (by a rule), or `none` (no rule matches).
    outcome: String,
    #[serde(default)]
    endpoints: BTreeSet<String>,
    #[serde(default)]
    masquerade: bool,
}

/// The fate in nftables mode, for flows for which the modes differ intentionally.
#[derive(Debug, Deserialize)]
struct Difference {
    #[serde(flatten)]
    fate: Fate,
    #[allow(dead_code, reason = "for readers of the file")]
    because: String,
}

impl Case {
    fn new(folder: PathBuf, mode: &'static str) -> Self {
        let mut flows: Vec<Flow> = json(&folder.join("flows.json"));
        let differences = folder.join("nftables.json");
        if mode == "nftables" && differences.exists() {
            let mut differences: BTreeMap<String, Difference> = json(&differences);
            for flow in &mut flows {
                if let Some(difference) = differences.remove(&flow.name) {
                    assert_ne!(flow.fate, difference.fate, "{}: not a difference", flow.name);
                    flow.fate = difference.fate;
                }
            }
            assert!(differences.is_empty(), "unknown flows: {differences:?}");
        }
        Self { folder, mode, flows }
    }

    fn mismatch(&self) -> Option<String> {
        let asked = self.flows.iter().filter(|flow| flow.skip.is_none());
        let wrong: Vec<String> = asked.filter_map(|flow| self.wrong(flow)).collect();
        (!wrong.is_empty()).then(|| wrong.join("\n"))
    }

    fn wrong(&self, flow: &Flow) -> Option<String> {
        let Flow { name, from, to, port, protocol, fate, .. } = flow;
        let to = if to.contains(':') { format!("[{to}]") } else { to.clone() };
        let to = format!("{to}:{port}/{protocol}");
        let args = fs::read_to_string(self.folder.join("args")).unwrap();
        let fixed = ["explain", "-f", "cluster.yaml", "--config", "config.yaml", "-o", "json"];
        let packet = ["--proxy-mode", self.mode, "--from", from, "--to", &to];
        let arguments: Vec<&str> =
            fixed.into_iter().chain(packet).chain(args.split_whitespace()).collect();
        let output = rulegen(&self.folder, &arguments);
        if !output.status.success() {
            return Some(format!("{name}: {}: {}", output.status, stderr(&output)));
        }
        let found = Fate::read_from(&serde_json::from_str(&stdout(&output)).unwrap());
        (found != *fate).then(|| format!("{name}\n  expected {fate:?}\n  found    {found:?}"))
    }
}

impl Fate {
    /// Reads the fate from an explanation. Several outcomes of one packet are joined by `|`.
    fn read_from(explanation: &Value) -> Self {
        let (mut outcomes, mut masquerade) = (BTreeSet::new(), BTreeSet::new());
        let mut endpoints = BTreeSet::new();
        for end in explanation["ends"].as_array().unwrap() {
            outcomes.insert(match end["outcome"].as_str().unwrap() {
                "endpoint" => "forward",
                // Accepted by a rule, or only by the policy of the chain.
                "passes" if is_accepted(explanation, end) => "accept",
                "passes" => "none",
                "rejected" => "reject",
                "dropped" => "drop",
                other => other,
            });
            endpoints.extend(end["endpoint"].as_str().map(str::to_owned));
            masquerade.insert(end["masqueraded"].as_bool().unwrap_or_default());
        }
        assert!(masquerade.len() == 1, "only partly masqueraded: {explanation}");
        let outcome = outcomes.into_iter().collect::<Vec<_>>().join("|");
        Self { outcome, endpoints, masquerade: masquerade.contains(&true) }
    }
}

fn is_accepted(explanation: &Value, end: &Value) -> bool {
    let lists = [&explanation["rules"], &end["rules"], &explanation["behind"]];
    let mut rules = lists.into_iter().filter_map(Value::as_array).flatten();
    rules.any(|rule| {
        let rule = rule["rule"].as_str().unwrap();
        rule == "ACCEPT" || rule.ends_with("-j ACCEPT")
    })
}

fn json<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    let text = fs::read_to_string(file).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
