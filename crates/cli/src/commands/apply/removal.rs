//! Whether Services may lose their rules.

use anyhow::{Result, bail};
use rulegen_inspect::listing::{Listing, Loss, loss};

use crate::args::ApplyArgs;
use crate::input::Input;
use crate::problems::say;
use crate::question::{Answer, ask};

/// So many Services are named.
const NAMED: usize = 10;

/// Asks for what would be removed, each loss once.
pub(super) struct Removal<'a> {
    args: &'a ApplyArgs,
    has_slices: bool,
    allowed: Option<Loss>,
}

impl<'a> Removal<'a> {
    pub(super) fn new(args: &'a ApplyArgs, input: &Input) -> Self {
        Self { args, has_slices: input.has_slices, allowed: None }
    }

    /// Ends with an error if Services would go and nobody wants that.
    pub(super) fn check(&mut self, held: &Listing, wanted: &Listing) -> Result<()> {
        let mut lost = loss(held, wanted);
        if self.has_slices {
            // The slices say so: a Service may be scaled to zero.
            lost.endpoints.clear();
        }
        if lost.is_empty() || self.allowed.as_ref() == Some(&lost) {
            return Ok(());
        }
        say(&told(&lost));
        if !self.args.prune {
            match ask("Remove them?", &self.args.yes) {
                Answer::Yes => {}
                Answer::No => bail!("nothing is applied"),
                Answer::NobodyThere => {
                    bail!("nothing is applied: --prune removes what the input does not have")
                }
            }
        }
        self.allowed = Some(lost);
        Ok(())
    }
}

fn told(lost: &Loss) -> String {
    let parts = [
        ("are in the kernel and not in the input, and would be removed", &lost.services),
        (
            "would lose all endpoints and refuse traffic, as the input has no EndpointSlice",
            &lost.endpoints,
        ),
    ];
    let lines = parts.into_iter().filter(|(_, services)| !services.is_empty());
    let lines: Vec<String> = lines
        .map(|(what, services)| {
            format!("Services that {what} ({}): {}", services.len(), some_of(services))
        })
        .collect();
    format!("The input is the whole wanted state.\n{}", lines.join("\n"))
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
    fn ten_are_named() {
        let services = (0..12).map(|n| format!("shop/s{n}")).collect();
        let told = told(&Loss { services, endpoints: vec!["shop/x".to_owned()] });
        assert!(told.contains("(12): shop/s0, shop/s1, "), "{told}");
        assert!(told.contains("shop/s9 and 2 more\n") && !told.contains("s10"), "{told}");
        assert!(told.ends_with("no EndpointSlice (1): shop/x"), "{told}");
    }
}
