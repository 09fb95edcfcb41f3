//! Reads a test file and what it names.

use std::path::{Path, PathBuf};

use rulegen::has_errors;
use rulegen_agent::ConfigFile;
use rulegen_config::{KubeProxyConfiguration, Overrides, ProxyConfig, ProxyMode, to_configz};
use rulegen_model::{Host, IfEmpty, Objects, Problem, ProblemCode, Severity, nearest};
use rulegen_packet_tests::{CaseInputs, FileProblem, InputFiles, TestFile, read_test_file};
use rulegen_ruleset::nftables::Name;
use serde_json::{Map, Value};

use crate::configuration;
use crate::input::{completed, read_path};

/// A test file, with its inputs or what is wrong.
pub(super) struct LoadedFile {
    pub(super) path: PathBuf,
    /// The files and folders that were read.
    pub(super) read: Vec<PathBuf>,
    /// Warnings and notes about the inputs.
    pub(super) warnings: Vec<Problem>,
    pub(super) tests: Result<(TestFile, CaseInputs), Vec<FileProblem>>,
}

pub(super) fn load(path: &Path) -> LoadedFile {
    let mut inputs = InputReader { read: vec![path.to_owned()], warnings: Vec::new() };
    let tests = inputs.load_tests(path);
    let InputReader { read, warnings } = inputs;
    LoadedFile { path: path.to_owned(), read, warnings, tests }
}

/// The field of a configuration in the test file itself.
const CONFIGURATION: &str = "inputs.configuration";

/// Reads the inputs of one test file.
#[derive(Default)]
pub(crate) struct InputReader {
    read: Vec<PathBuf>,
    pub(crate) warnings: Vec<Problem>,
}

impl InputReader {
    fn load_tests(&mut self, path: &Path) -> Result<(TestFile, CaseInputs), Vec<FileProblem>> {
        let tests = read_test_file(&text_of(path).map_err(|problem| vec![problem])?)?;
        let inputs = self.load(&tests.inputs, path.parent().unwrap_or(Path::new("")))?;
        Ok((tests, inputs))
    }

    /// Reads inputs, with paths relative to a folder.
    pub(crate) fn load(
        &mut self,
        files: &InputFiles,
        folder: &Path,
    ) -> Result<CaseInputs, Vec<FileProblem>> {
        let (config, in_config) = self.load_config(files, folder)?;
        let mut objects = Objects::with_details();
        let mut in_manifests = Vec::new();
        for manifest in &files.manifests {
            let path = folder.join(manifest);
            in_manifests.extend(read_path(&path, &mut objects));
            self.read.push(path);
        }
        // Tests may be about a node without Services.
        in_manifests.extend(completed(&mut objects, &in_manifests, IfEmpty::RefuseWithoutNode));
        let wrong = [
            config_errors(files, &in_config),
            unknown_fields(files, &in_config),
            errors("inputs.manifests", &in_manifests),
        ];
        let wrong = wrong.concat();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (_, invalid) =
            rulegen_model::snapshot(&objects, &config.snapshot_options(), &Host::default());
        self.warnings.extend(in_config.into_iter().chain(in_manifests).chain(invalid));
        Ok(CaseInputs { objects, config })
    }

    fn load_config(
        &mut self,
        files: &InputFiles,
        folder: &Path,
    ) -> Result<(ProxyConfig, Vec<Problem>), Vec<FileProblem>> {
        let file = match (&files.config, &files.configuration) {
            (None, None) => None,
            (Some(config), _) => {
                let path = folder.join(config);
                self.read.push(path.clone());
                let content = std::fs::read(&path).map_err(|error| {
                    let message = format!("{}: cannot read file: {error}", path.display());
                    vec![FileProblem::of("inputs.config", message)]
                })?;
                Some(ConfigFile { path, content })
            }
            (None, Some(fields)) => {
                let content = with_type(fields).to_string().into_bytes();
                Some(ConfigFile { path: CONFIGURATION.into(), content })
            }
        };
        // Cases run in both modes, and must not depend on the rules of this machine.
        let flags = Overrides { proxy_mode: Some(ProxyMode::default()), ..Overrides::default() };
        let (config, problems) =
            configuration::effective(file.as_ref(), flags, &Name::from("rulegen"));
        Ok((ProxyConfig::from(&config), problems))
    }
}

fn text_of(path: &Path) -> Result<String, FileProblem> {
    if path.is_dir() {
        let files = path.join("*.yaml");
        let message =
            format!("is a folder: name the test files in it, such as {}", files.display());
        return Err(FileProblem::of("", message));
    }
    std::fs::read_to_string(path)
        .map_err(|error| FileProblem::of("", format!("cannot read file: {error}")))
}

/// Unknown fields of a configuration in the test file itself are wrong, as all its unknown fields.
/// A file for kube-proxy may have those of another version.
fn unknown_fields(files: &InputFiles, found: &[Problem]) -> Vec<FileProblem> {
    let is_inline = files.config.is_none() && files.configuration.is_some();
    let unknown = found.iter().filter(|of| is_inline && of.code == Some(ProblemCode::UnknownField));
    let wrong = unknown.map(|of| {
        let field = of.field.as_deref().unwrap_or_default();
        let (section, name) = field.rsplit_once('.').unwrap_or(("", field));
        let known = known_fields(section);
        let message = match nearest(name, known.iter().map(String::as_str)) {
            Some(known) => format!("{field}: unknown field, did you mean {known:?}?"),
            None => format!("{field}: unknown field, use one of {}", known.join(", ")),
        };
        FileProblem::of(CONFIGURATION, message)
    });
    wrong.collect()
}

/// The fields of the configuration, or of one of its sections.
fn known_fields(section: &str) -> Vec<String> {
    let all = to_configz(&KubeProxyConfiguration::default());
    let mut sections = section.split('.').filter(|name| !name.is_empty());
    let section = sections.try_fold(&all, |fields, name| fields.get(name));
    let fields = section.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    fields.cloned().collect()
}

fn with_type(fields: &Map<String, Value>) -> Value {
    let mut fields = fields.clone();
    for (key, value) in
        [("apiVersion", "kubeproxy.config.k8s.io/v1alpha1"), ("kind", "KubeProxyConfiguration")]
    {
        fields.entry(key).or_insert_with(|| value.into());
    }
    Value::Object(fields)
}

/// The problems that make the input unusable.
fn errors(field: &str, found: &[Problem]) -> Vec<FileProblem> {
    if !has_errors(found) {
        return Vec::new();
    }
    let wrong = found.iter().filter(|problem| problem.severity >= Severity::Incomplete);
    wrong.map(|of| FileProblem::of(field, of.to_string())).collect()
}

/// Errors of the configuration. One in the test file itself has no file of its own.
fn config_errors(files: &InputFiles, found: &[Problem]) -> Vec<FileProblem> {
    if files.config.is_some() {
        return errors("inputs.config", found);
    }
    let without_source: Vec<Problem> =
        found.iter().map(|of| Problem { source: None, object: None, ..of.clone() }).collect();
    errors(CONFIGURATION, &without_source)
}
