//! Finds faults in the cluster's objects, with the checks of `rulegen lint`.

use std::collections::BTreeMap;

use rulegen_lint::{ClusterObjects, LintFinding, lint_cluster, rule};
use rulegen_model::ProblemCode;

use crate::code::FindingCode;
use crate::error::FactResult;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Number of objects that a finding names.
const NAMED: usize = 3;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_cluster(|cluster| {
        let findings = lint_cluster(ClusterObjects {
            objects: &cluster.objects,
            snapshot: &cluster.snapshot,
            problems: node.problems(),
            has_all_nodes: !node.is_from_api_server(),
        });
        Ok(CheckResult::Found(check(&findings)))
    })
}

/// One finding per code: a cluster may have the same fault in thousands of Services.
fn check(findings: &[LintFinding]) -> Vec<Finding> {
    let mut by_code: BTreeMap<ProblemCode, Vec<&LintFinding>> = BTreeMap::new();
    for finding in findings {
        by_code.entry(finding.code).or_default().push(finding);
    }
    by_code.into_iter().filter_map(|(code, of_code)| finding(code, &of_code)).collect()
}

fn finding(code: ProblemCode, findings: &[&LintFinding]) -> Option<Finding> {
    let severity = findings.iter().map(|of| of.severity).max()?;
    let (what, remedy) = match findings {
        [one] => (format!("{}: {}", place(one), one.what), one.remedy.clone()),
        [first, others @ ..] => {
            let has_same_remedy = others.iter().all(|of| of.remedy == first.remedy);
            let remedy = if has_same_remedy { &first.remedy } else { rule(code).remedy };
            (format!("{}: {}", rule(code).about, places(findings)), remedy.to_owned())
        }
        [] => return None,
    };
    Some(Finding::new(FindingCode::Object(code), severity, what, remedy))
}

/// The first places, and the number of others.
fn places(findings: &[&LintFinding]) -> String {
    let mut places: Vec<String> = findings.iter().take(NAMED).map(|of| place(of)).collect();
    let more = findings.len().saturating_sub(NAMED);
    if more > 0 {
        places.push(format!("and {more} more"));
    }
    places.join(", ")
}

/// The object and the field.
fn place(LintFinding { object, field, .. }: &LintFinding) -> String {
    let object = object.as_ref().map(ToString::to_string);
    let words: Vec<String> = object.into_iter().chain(field.clone()).collect();
    if words.is_empty() { "the input".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use rulegen_model::{Host, ObjectName, Objects, SnapshotOptions, read_manifest, snapshot};

    use super::*;
    use crate::finding::FindingSeverity;

    fn found(services: usize) -> Vec<Finding> {
        let service = |n: usize| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: s{n}}}, spec: {{type: LoadBalancer, \
                 clusterIP: 10.96.{}.{}, loadBalancerSourceRanges: [127.0.0.0/8], \
                 ports: [{{port: 80}}]}}}}\n",
                n / 250,
                n % 250 + 1
            )
        };
        let text: Vec<String> = (0..services).map(service).collect();
        let mut objects = Objects::default();
        let problems = read_manifest("objects", text.join("---\n").as_bytes(), &mut objects);
        assert_eq!(problems, []);
        let (snapshot, problems) =
            snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        let (objects, snapshot, problems) = (&objects, &snapshot, problems.as_slice());
        check(&lint_cluster(ClusterObjects { objects, snapshot, problems, has_all_nodes: true }))
    }

    #[test]
    fn objects_check_has_one_bounded_finding_per_code() {
        assert_eq!(check(&[]), []);
        let [one] = &found(1)[..] else { panic!("{:?}", found(1)) };
        assert_eq!(one.code, FindingCode::Object(ProblemCode::SourceRangesExcludeAll));
        assert_eq!(one.severity, FindingSeverity::Error);
        let start = "Service default/s0 spec.loadBalancerSourceRanges: no IPv4 client can have";
        assert!(one.what.starts_with(start), "{one:?}");
        assert_eq!(one.remedy, "list the networks of the clients");
        let [many] = &found(1000)[..] else { panic!("one per code") };
        assert!(many.what.contains(": Service default/s0 spec."), "{many:?}");
        assert!(many.what.ends_with(", and 997 more") && many.what.len() < 300, "{many:?}");
    }

    #[test]
    fn objects_check_of_different_remedies_has_that_of_the_rule() {
        let finding = |name: &str, remedy: &str| {
            let object =
                ObjectName { kind: "Service", namespace: "default".into(), name: name.into() };
            let code = ProblemCode::FieldWithoutEffect;
            LintFinding {
                code,
                severity: rule(code).severity,
                source: None,
                line: None,
                object: Some(object),
                field: None,
                what: "no effect".into(),
                remedy: remedy.into(),
            }
        };
        let (a, b) = (finding("a", "remove it"), finding("b", "set another"));
        let remedies = |of: &[LintFinding]| -> Vec<String> {
            check(of).into_iter().map(|finding| finding.remedy).collect()
        };
        assert_eq!(remedies(std::slice::from_ref(&b)), ["set another"]);
        assert_eq!(remedies(&[a, b]), [rule(ProblemCode::FieldWithoutEffect).remedy]);
    }
}
