//! Checks whether both iptables variants are in use. Each variant cannot see the rules of the other,
//! and the kernel runs both.

use crate::error::FactResult;
use rulegen_kernel::iptables::Variant;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{ActualIptables, NodeFacts};

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let facts = |actual: &ActualIptables| VariantFacts {
        variant: actual.variant,
        holds_services: actual.holds_services(),
        is_kubelets: actual.is_kubelets(),
    };
    let facts: Vec<VariantFacts> = node.iptables()?.iter().map(facts).collect();
    node.found_in_iptables(check(&facts))
}

/// Facts of one variant and IP family.
#[derive(Clone, Copy)]
struct VariantFacts {
    variant: Variant,
    holds_services: bool,
    is_kubelets: bool,
}

fn check(facts: &[VariantFacts]) -> Vec<Finding> {
    let those = |of: fn(&VariantFacts) -> bool| -> Vec<Variant> {
        let is_one = |variant: &Variant| facts.iter().any(|f| f.variant == *variant && of(f));
        Variant::ALL.into_iter().filter(is_one).collect()
    };
    let services = those(|facts| facts.holds_services);
    let kubelets = those(|facts| facts.is_kubelets);
    match (services.as_slice(), kubelets.as_slice()) {
        ([_, _, ..], _) => vec![Finding::error(
            FindingCode::BothVariantsInUse,
            "iptables-nft and iptables-legacy both have KUBE-* chains: the older rules still \
             translate and reject traffic",
            "rulegen cleanup, then apply again; the agent removes the rules of the unused variant when \
             it starts",
        )],
        ([ours], [theirs]) if ours != theirs => vec![Finding::warning(
            FindingCode::KubeletUsesOtherVariant,
            format!(
                "kubelet uses iptables-{theirs}, but the rules for Services are in iptables-{ours}"
            ),
            format!(
                "rulegen cleanup, then restart the agent or apply again with --iptables-variant {theirs}"
            ),
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingSeverity;

    #[test]
    fn doctor_services_in_both_iptables_variants_are_an_error() {
        let nft = VariantFacts { variant: Variant::Nft, holds_services: true, is_kubelets: false };
        let legacy = VariantFacts { variant: Variant::Legacy, ..nft };
        let worst =
            |facts: &[VariantFacts]| check(facts).iter().map(|finding| finding.severity).max();
        assert_eq!(worst(&[nft, nft]), None);
        assert_eq!(worst(&[nft, VariantFacts { holds_services: false, ..legacy }]), None);
        assert_eq!(worst(&[nft, legacy]), Some(FindingSeverity::Error));
        let kubelet = VariantFacts { holds_services: false, is_kubelets: true, ..legacy };
        assert_eq!(worst(&[nft, kubelet]), Some(FindingSeverity::Warning));
        assert_eq!(worst(&[VariantFacts { is_kubelets: true, ..nft }]), None);
        assert_eq!(worst(&[kubelet]), None);
    }
}
