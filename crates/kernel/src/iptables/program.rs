//! Runs one of iptables' programs.

use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::process::{Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rulegen_ruleset::Family;
use rulegen_ruleset::iptables::Transaction;

use super::{Error, Variant};

pub(super) struct Program {
    name: String,
}

impl Program {
    pub(super) fn new(family: Family, variant: Variant, what: &str) -> Self {
        let start = match family {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        };
        Self { name: format!("{start}-{variant}-{what}") }
    }

    /// Runs it to its end, with a transaction's text as its input; returns what it printed.
    pub(super) fn run(
        &self,
        arguments: &[&str],
        input: Option<&Transaction<'_>>,
    ) -> Result<String, Error> {
        tracing::debug!(program = self.name, ?arguments, "runs");
        let stdin = match input {
            Some(transaction) => {
                text_file(transaction).map_err(|source| self.run_error(source))?.into()
            }
            None => Stdio::null(),
        };
        let child = Command::new(&self.name)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.spawn_error(source))?;
        let output = child.wait_with_output().map_err(|source| self.run_error(source))?;
        if output.status.success() {
            return Ok(text(output.stdout));
        }
        let input = input.map(Transaction::to_text).unwrap_or_default();
        let message = explain(text(output.stderr).trim(), &input);
        Err(Error::Refused { program: self.name.clone(), message })
    }

    fn spawn_error(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotInstalled { program: self.name.clone() },
            _ => self.run_error(source),
        }
    }

    fn run_error(&self, source: io::Error) -> Error {
        Error::Run { program: self.name.clone(), source }
    }
}

/// The text in a file of memory. Through a pipe, iptables-restore reads 4 KiB at a time and
/// wakes us for each: on a virtual machine that cost 0.3 s of 1.8 s for 10,000 Services.
fn text_file(transaction: &Transaction<'_>) -> io::Result<File> {
    let file = File::from(memfd_create(c"rulegen", MFdFlags::MFD_CLOEXEC)?);
    let mut out = BufWriter::with_capacity(1 << 16, file);
    transaction.write_text(&mut out)?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// iptables-restore names lines by their numbers only: quotes them too.
fn explain(complaint: &str, input: &str) -> String {
    let complaint = if complaint.is_empty() { "it gave no reason" } else { complaint };
    let number = |rest: &str| {
        let digits = rest.trim_start_matches([' ', ':']);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits.get(..end).and_then(|digits| digits.parse::<usize>().ok())
    };
    let mut numbers: Vec<usize> = complaint.split("line").skip(1).filter_map(number).collect();
    numbers.dedup();
    let quoted = numbers.iter().filter_map(|number| {
        let line = input.lines().nth(number.checked_sub(1)?)?;
        Some(format!("; line {number} is: {line}"))
    });
    quoted.fold(complaint.to_owned(), |message, line| message + &line)
}
