//! `rulegen --dry-run`: prints the rules.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::{compile, exit_code, print};
use crate::args::{ApplyArgs, FamilyChoice, OutputForm};
use crate::families;
use crate::input;

pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode> {
    let form = args.output.unwrap_or(OutputForm::IptablesSave);
    let choice = match (form, args.family.ip_family) {
        (OutputForm::IptablesSave, Some(FamilyChoice::Dual)) => {
            bail!(
                "the form of iptables-save holds one family: give --ip-family ipv4 or ipv6, or -o json"
            );
        }
        (_, Some(choice)) => choice,
        (OutputForm::IptablesSave, None) => FamilyChoice::Ipv4,
        (OutputForm::Json, None) => FamilyChoice::Dual,
    };
    let input = input::load(&args.input, &args.proxy)?;
    let mut rulesets = families::chosen(choice).iter().map(|family| compile(&input, *family));
    match form {
        OutputForm::IptablesSave => rulesets.try_for_each(|ruleset| print(&ruleset.to_text()))?,
        OutputForm::Json => {
            let mut text = serde_json::to_string_pretty(&rulesets.collect::<Vec<_>>())?;
            text.push('\n');
            print(&text)?;
        }
    }
    Ok(exit_code(&input, args.input.strict))
}
