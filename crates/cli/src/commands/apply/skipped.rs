//! Services that were skipped because their rules were rejected.

use anyhow::{Result, bail};
use rulegen_model::ObjectKey;
use rulegen_ruleset::Bisection;

use crate::problems::say;

/// Prints the skipped Services and returns them.
pub(super) fn left_out(found: Bisection<ObjectKey>, by: &str) -> Vec<ObjectKey> {
    let name = |ObjectKey { namespace, name }: &ObjectKey, why: &str| {
        say(&format!("warning: Service {namespace}/{name}: skipped: {why}"));
    };
    let refused = format!("{by} refused its rules");
    found.refused.iter().for_each(|service| name(service, &refused));
    let untried = format!("not tried, because {by} rejected too many other Services");
    found.untried.iter().for_each(|service| name(service, &untried));
    [found.refused, found.untried].concat()
}

/// Fails if Services were skipped.
pub(super) fn end_with(left_out: usize, by: &str) -> Result<()> {
    match left_out {
        0 => Ok(()),
        1 => bail!("{by} rejected one Service (see above); all others are applied"),
        more => bail!("{by} rejected {more} Services (see above); all others are applied"),
    }
}
