//! `rulegen --dry-run`: prints the rules.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use rulegen_config::ProxyMode;
use rulegen_ruleset::iptables::Ruleset;
use serde::Serialize;

use super::{compile, exit_code, print_with, tables};
use crate::WrongUsage;
use crate::args::{ApplyArgs, FamilyChoice, OutputForm};
use crate::families;
use crate::input::{self, Input};

pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode> {
    let input = input::load(&args.input, &args.proxy, "nothing is printed")?;
    let choice = args.family.ip_family;
    match input.config.mode {
        ProxyMode::Iptables => print_iptables(&input, args.output, choice)?,
        ProxyMode::Nftables => print_nftables(&input, args)?,
    }
    let code = exit_code(&input, args.input.strict);
    // Skip destructors: freeing a large cluster took a tenth of the run time.
    std::mem::forget(input);
    Ok(code)
}

fn print_iptables(
    input: &Input,
    form: Option<OutputForm>,
    choice: Option<FamilyChoice>,
) -> Result<()> {
    let is_json = match form {
        Some(OutputForm::Nft) => return Err(misfit("nft", "iptables")),
        Some(OutputForm::Json) => true,
        Some(OutputForm::IptablesSave) | None => false,
    };
    let choice = match choice {
        Some(FamilyChoice::Dual) if !is_json => {
            let message = "iptables-save format holds only one family: use --ip-family ipv4 or \
                           ipv6, or -o json";
            return Err(WrongUsage(message.to_owned()).into());
        }
        None if !is_json => FamilyChoice::Ipv4,
        choice => choice.unwrap_or(FamilyChoice::Dual),
    };
    let rulesets: Vec<Ruleset> =
        families::chosen(choice).iter().map(|family| compile(input, *family)).collect();
    let printed = match is_json {
        true => print_json(&rulesets),
        false => print_with(|out| rulesets.iter().try_for_each(|rules| rules.write_text(out))),
    };
    std::mem::forget(rulesets);
    printed
}

fn print_nftables(input: &Input, args: &ApplyArgs) -> Result<()> {
    let choice = args.family.ip_family.unwrap_or(FamilyChoice::Dual);
    let name = &args.proxy.nftables.nftables_table;
    let tables = tables(input, name, families::chosen(choice));
    let printed = match args.output {
        Some(OutputForm::IptablesSave) => return Err(misfit("iptables-save", "nftables")),
        Some(OutputForm::Json) => print_json(&tables),
        Some(OutputForm::Nft) | None => {
            print_with(|out| tables.iter().try_for_each(|table| table.write_text(out)))
        }
    };
    std::mem::forget(tables);
    printed
}

fn print_json<T: Serialize>(tables: &[T]) -> Result<()> {
    print_with(|out| {
        serde_json::to_writer_pretty(&mut *out, tables).map_err(io::Error::from)?;
        writeln!(out)
    })
}

fn misfit(form: &str, mode: &str) -> anyhow::Error {
    let message = format!("-o {form} does not fit proxy mode {mode}: omit it, or set --proxy-mode");
    WrongUsage(message).into()
}
