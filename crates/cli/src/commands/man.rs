//! `rulegen man`: manual pages, one per command.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::Cli;

const SOURCE: &str = concat!("rulegen ", env!("CARGO_PKG_VERSION"));

pub(crate) fn run(folder: &Path) -> Result<ExitCode> {
    let mut rulegen = Cli::command().disable_help_subcommand(true);
    rulegen.build();
    for command in std::iter::once(&rulegen).chain(rulegen.get_subcommands()) {
        if !command.is_hide_set() {
            write(command, folder)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(command: &Command, folder: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let file = folder.join(format!("{name}.1"));
    page(command.clone())
        .and_then(|text| fs::write(&file, text))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let after_help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone()).source(SOURCE).manual("rulegen manual");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    text.write_all(sections(&after_help).to_roff().as_bytes())?;
    Ok(text)
}

/// The text after the options, with a section for each line `Title: text`. Indented lines are
/// examples and tables and stay as they are. clap_mangen would join them to one paragraph.
fn sections(after_help: &str) -> Roff {
    let mut roff = Roff::new();
    for line in after_help.lines() {
        match line.split_once(':') {
            _ if line.is_empty() => drop(roff.control("PP", [])),
            _ if line.starts_with(' ') => {
                roff.control("nf", []).text([roman(line)]).control("fi", []);
            }
            Some((title, text)) if is_title(title) => {
                roff.control("SH", [title.to_uppercase().as_str()]).text([roman(text.trim())]);
            }
            _ => drop(roff.text([roman(line)])),
        }
    }
    roff
}

fn is_title(text: &str) -> bool {
    text.starts_with(|first: char| first.is_uppercase()) && text.split(' ').count() <= 2
}
