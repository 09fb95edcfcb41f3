//! Runs all checks.

use std::collections::{HashMap, HashSet};

use rulegen_config::ProxyConfig;
use rulegen_model::{
    Host, IfEmpty, ObjectName, Objects, Problem, ProblemCode, Severity, Snapshot, Source,
    node_problems, read_manifest, snapshot,
};

use crate::documents::{self, LintDocument};
use crate::fields::{self, CheckedDocument};
use crate::finding::LintFinding;
use crate::ignores::Ignores;
use crate::lint_file::{LintFile, UnreadableFile};
use crate::object_index::locate;
use crate::placeholders;
use crate::references;
use crate::services::ServiceIndex;

/// What was found in files.
#[derive(Debug, Clone, Default)]
pub struct LintReport {
    /// All findings, ordered by file and line, without those that are ignored.
    pub findings: Vec<LintFinding>,
    /// Number of objects that were checked.
    pub objects: usize,
}

/// Checks all objects of files.
pub fn lint(files: &[LintFile], config: &ProxyConfig) -> LintReport {
    let documents: Vec<LintDocument> = files.iter().flat_map(documents::of_file).collect();
    let (mut ignores, mut findings) = Ignores::of_comments(&documents);
    let LintInput { objects, snapshot, problems, outside } = read(files, &documents, config);
    let invalid: HashSet<(Source, ObjectName)> = problems.iter().filter_map(invalid).collect();
    findings.extend(problems.into_iter().map(of_problem).chain(outside));
    findings.extend(ServiceIndex::of(&objects).findings(&objects, &snapshot, config));
    findings.extend(references::unknown_services(&objects));
    findings.extend(references::unknown_nodes(&objects));
    let unreadable = unreadable_documents(&findings);
    let mut checked = 0;
    let mut generated = HashSet::new();
    for document in documents.iter().filter(|of| !unreadable.contains(&of.source)) {
        let CheckedDocument { findings: of_fields, objects, generated: names } =
            fields::check(document, &mut ignores);
        checked += objects;
        generated.extend(names.into_iter().map(|name| (document.source.clone(), name)));
        let of_fields = of_fields.into_iter();
        // Reading reports a wrong type too, if it is of a field that it uses.
        findings.extend(of_fields.filter(|finding| {
            let place = finding.source.clone().zip(finding.object.clone());
            finding.code != ProblemCode::InvalidObject
                || place.is_none_or(|place| !invalid.contains(&place))
        }));
    }
    if checked == 0 && findings.is_empty() && !documents.is_empty() {
        let what = "nothing to check: no Service, EndpointSlice, Endpoints, Node or ServiceCIDR";
        findings.push(LintFinding::new(ProblemCode::EmptyInput, what));
    }
    findings.retain(|finding| !ignores.contain(finding) && !is_generated(finding, &generated));
    locate(&mut findings, &documents, &unreadable);
    LintReport { findings: sorted(findings, files), objects: checked }
}

/// Whether a name is missing that the API server generates.
fn is_generated(finding: &LintFinding, generated: &HashSet<(Source, ObjectName)>) -> bool {
    let place = finding.source.clone().zip(finding.object.clone());
    finding.code == ProblemCode::InvalidName
        && finding.field.as_deref() == Some("metadata.name")
        && place.is_some_and(|place| generated.contains(&place))
}

struct LintInput {
    /// The objects, each Service with a cluster IP.
    objects: Objects,
    snapshot: Snapshot,
    problems: Vec<Problem>,
    /// The cluster IPs that are in no ServiceCIDR.
    outside: Vec<LintFinding>,
}

fn read(files: &[LintFile], documents: &[LintDocument], config: &ProxyConfig) -> LintInput {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    for LintFile { name, content } in files {
        match content {
            Ok(content) => problems.extend(read_manifest(name, content.as_slice(), &mut objects)),
            Err(error) => problems.push(unreadable(name, error)),
        }
    }
    problems.extend(objects.complete(IfEmpty::Allow));
    let options = config.snapshot_options();
    let (mut of_objects, mut found) = snapshot(&objects, &options, &Host::default());
    let outside = references::cluster_ips_outside(&objects, &of_objects.service_cidrs);
    if objects.services.iter().any(|service| placeholders::is_unassigned(&service.object)) {
        let is_missing = |of: &Problem| of.code == Some(ProblemCode::ClusterIpMissing);
        let missing = found.into_iter().filter(is_missing);
        problems.extend(missing.map(|of| Problem { message: UNASSIGNED.to_owned(), ..of }));
        placeholders::assign(&mut objects, &placeholders::dual_stack(documents));
        (of_objects, found) = snapshot(&objects, &options, &Host::default());
    }
    // The snapshot has these too.
    found.retain(|problem| problem.code != Some(ProblemCode::ServiceTooLarge));
    problems.extend(found);
    problems.extend(objects.nodes.iter().flat_map(node_problems));
    LintInput { objects, snapshot: of_objects, problems, outside }
}

/// A Service without cluster IP is not skipped here.
const UNASSIGNED: &str = "missing: the API server assigns it";

fn unreadable(name: &str, error: &UnreadableFile) -> Problem {
    let source = Source { file: name.into(), document: 1 };
    let problem = Problem::new(Severity::Error, format!("cannot read file: {error}"));
    problem.code(ProblemCode::UnreadableInput).at(&source)
}

/// Documents that cannot be parsed. Trying again may take long: an expansion of aliases is limited,
/// but not short.
fn unreadable_documents(findings: &[LintFinding]) -> HashSet<Source> {
    let invalid = findings.iter().filter(|of| of.code == ProblemCode::InvalidDocument);
    invalid.filter_map(|finding| finding.source.clone()).collect()
}

/// The document and object of a problem, if the object has a value of a wrong type.
fn invalid(problem: &Problem) -> Option<(Source, ObjectName)> {
    let is_invalid = problem.code == Some(ProblemCode::InvalidObject);
    problem.source.clone().zip(problem.object.clone()).filter(|_| is_invalid)
}

/// The finding about a problem that reading found.
pub(crate) fn of_problem(problem: Problem) -> LintFinding {
    let Problem { source, line, object, field, message, code, .. } = problem;
    // All problems of manifests have a code.
    let code = code.unwrap_or(ProblemCode::InvalidDocument);
    LintFinding { source, line, object, field, ..LintFinding::new(code, message) }
}

/// Orders by file as given, then by line.
fn sorted(mut findings: Vec<LintFinding>, files: &[LintFile]) -> Vec<LintFinding> {
    let numbered = files.iter().enumerate();
    let numbers: HashMap<&str, usize> = numbered.map(|(n, file)| (&*file.name, n)).collect();
    findings.sort_by_cached_key(|finding| {
        let name = finding.source.as_ref().map(|source| &*source.file);
        let file = name.and_then(|name| numbers.get(name));
        (file, finding.line, finding.code, finding.field.clone(), finding.what.clone())
    });
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a code, a problem could neither be ignored nor explained.
    #[test]
    fn every_problem_of_reading_has_a_code() {
        let text = include_str!("../../../tests/bad-input.txt");
        // The expansion of aliases is limited, but takes seconds without optimisation.
        let is_quick = |manifest: &&str| !manifest.contains("[*a, *a");
        let manifests = text.split("<<< manifest\n").skip(1).filter(is_quick).enumerate();
        let files = manifests.map(|(n, rest)| LintFile {
            name: n.to_string(),
            content: Ok(rest.split("\n>>>").next().unwrap_or_default().as_bytes().to_vec()),
        });
        let files: Vec<LintFile> = files.collect();
        let LintInput { problems, .. } = read(&files, &[], &ProxyConfig::default());
        assert!(problems.len() > 20, "{problems:?}");
        let without: Vec<Problem> = problems.into_iter().filter(|of| of.code.is_none()).collect();
        assert_eq!(without, []);
    }
}
