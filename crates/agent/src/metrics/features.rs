//! `kubernetes_feature_enabled`: kube-proxy's feature gates that rulegen has an equivalent of.

use prometheus::{IntGaugeVec, Opts, Result};

use super::register::Registration;

/// The gates of kube-proxy 1.36 with their stages (pkg/features/kube_features.go); a stage is empty
/// once a feature is generally available.
const FEATURES: [(&str, &str); 6] = [
    ("AllowServiceExternalIPs", "DEPRECATED"),
    ("ComponentFlagz", "BETA"),
    ("ComponentStatusz", "BETA"),
    ("MultiCIDRServiceAllocator", ""),
    ("NFTablesProxyMode", ""),
    ("PreferSameTrafficDistribution", ""),
];

pub(super) fn register(register: &Registration<'_>) -> Result<()> {
    let help = "Whether a feature of Kubernetes is enabled, by its stage";
    let opts = Opts::new("kubernetes_feature_enabled", help);
    let features = register.register(IntGaugeVec::new(opts, &["name", "stage"])?)?;
    for (name, stage) in FEATURES {
        features.get_metric_with_label_values(&[name, stage])?.set(1);
    }
    Ok(())
}
