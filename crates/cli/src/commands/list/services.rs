//! The actual Services, from the kernel, and the desired Services, from objects.

use anyhow::Result;
use rulegen_compiler::{iptables, nftables, plan};
use rulegen_config::ProxyMode;
use rulegen_inspect::listing::{Listing, of_plan, of_ruleset, of_table};
use rulegen_model::Cluster;
use rulegen_net::IpFamily;

use super::actual::{ActualServices, RuleSource, table_name};
use crate::args::ListArgs;
use crate::inputs::Inputs;

/// The actual Services; also the desired Services if there are objects.
pub(super) fn actual_and_desired(
    args: &ListArgs,
    found: &Inputs,
    cluster: Option<&Cluster>,
) -> Result<(ActualServices, Option<Listing>)> {
    let place = RuleSource::of(args, &found.config)?;
    let families = place.families(args);
    let mut actual = place.read(args, families)?;
    let Some(cluster) = cluster else {
        actual.listing.keep_what_both_modes_show();
        return Ok((actual, None));
    };
    let (desired, known) = desired(args, found, cluster, families);
    actual.listing.complete(&known);
    Ok((actual, Some(desired)))
}

/// The desired Services, as the rules of the mode show them and as the plan has them.
pub(super) fn desired(
    args: &ListArgs,
    found: &Inputs,
    cluster: &Cluster,
    families: &[IpFamily],
) -> (Listing, Listing) {
    let (mut desired, mut known) = (Listing::default(), Listing::default());
    for family in families {
        let plan = plan(&cluster.snapshot, &found.config, *family);
        known.append(of_plan(&plan));
        match found.config.mode {
            ProxyMode::Iptables => {
                let rules = iptables::ruleset(&plan);
                desired.append(of_ruleset(&rules));
                std::mem::forget(rules);
            }
            ProxyMode::Nftables => {
                let table = nftables::table(&plan, table_name(args));
                desired.append(of_table(&table));
                std::mem::forget(table);
            }
        }
    }
    desired.complete(&known);
    (desired, known)
}
