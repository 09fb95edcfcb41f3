//! Asks before Services lose their rules.

use anyhow::{Result, bail};
use rulegen_inspect::listing::{Listing, Loss, loss};

use crate::args::ApplyArgs;
use crate::input::Input;
use crate::problems::say;
use crate::question::{Reply, ask};

/// Maximum number of Services to list.
const NAMED: usize = 10;

/// Asks about removed Services, once per set of Services.
pub(super) struct Removal<'a> {
    args: &'a ApplyArgs,
    has_slices: bool,
    allowed: Option<Loss>,
}

impl<'a> Removal<'a> {
    pub(super) fn new(args: &'a ApplyArgs, input: &Input) -> Self {
        Self { args, has_slices: input.has_slices, allowed: None }
    }

    /// Fails if Services would lose their rules and the user did not agree.
    pub(super) fn check(&mut self, actual: &Listing, desired: &Listing) -> Result<()> {
        let mut lost = loss(actual, desired);
        if self.has_slices {
            // With slices in the input, a Service without endpoints is scaled to zero.
            lost.endpoints.clear();
        }
        if lost.is_empty() || self.allowed.as_ref() == Some(&lost) {
            return Ok(());
        }
        say(&describe(&lost));
        if !self.args.prune {
            match ask("Remove them?", &self.args.yes) {
                Reply::Yes => {}
                Reply::No => bail!("not confirmed, nothing is applied"),
                Reply::NoTerminal => {
                    bail!("nothing is applied: use --prune to remove Services not in the input")
                }
            }
        }
        self.allowed = Some(lost);
        Ok(())
    }
}

fn describe(lost: &Loss) -> String {
    let parts = [
        ("in the kernel but not in the input, which would be removed", &lost.services),
        (
            "that would lose all endpoints and reject traffic, because the input has no \
             EndpointSlice",
            &lost.endpoints,
        ),
    ];
    let lines = parts.into_iter().filter(|(_, services)| !services.is_empty());
    let lines: Vec<String> = lines
        .map(|(what, services)| {
            format!("Services {what} ({}): {}", services.len(), some_of(services))
        })
        .collect();
    format!("The input is the complete desired state.\n{}", lines.join("\n"))
}

fn some_of(services: &[String]) -> String {
    let named: Vec<&str> = services.iter().take(NAMED).map(String::as_str).collect();
    match services.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apply_removal_prompt_lists_at_most_ten_services() {
        let services = (0..12).map(|n| format!("shop/s{n}")).collect();
        let text = describe(&Loss { services, endpoints: vec!["shop/x".to_owned()] });
        assert!(text.contains("(12): shop/s0, shop/s1, "), "{text}");
        assert!(text.contains("shop/s9 and 2 more\n") && !text.contains("s10"), "{text}");
        assert!(text.ends_with("no EndpointSlice (1): shop/x"), "{text}");
    }
}
