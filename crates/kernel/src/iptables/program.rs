//! Runs the iptables programs.

use std::io::{self, BufWriter, Write};
use std::process::{Command, Output, Stdio};
use std::thread;

use nix::fcntl::{FcntlArg, fcntl};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Transaction;

use super::{IptablesError, Variant};
use crate::nftables::ChainInUse;

/// Result of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Process ID of iptables-restore, or port ID of the netlink socket.
    pub id: u32,
    /// Size of the text or of the netlink messages in bytes.
    pub bytes: usize,
    /// Number of commits to nf_tables.
    pub commits: usize,
    /// Chains that were emptied but not deleted; always empty with programs.
    pub in_use: Vec<ChainInUse>,
}

pub(super) struct Program {
    name: String,
}

impl Program {
    /// The program that changes or lists single chains.
    pub(super) fn of_chains(family: IpFamily, variant: Variant) -> Self {
        let Self { name } = Self::new(family, variant, "");
        Self { name: name.trim_end_matches('-').to_owned() }
    }

    pub(super) fn new(family: IpFamily, variant: Variant, what: &str) -> Self {
        let start = match family {
            IpFamily::Ipv4 => "iptables",
            IpFamily::Ipv6 => "ip6tables",
        };
        Self { name: format!("{start}-{variant}-{what}") }
    }

    /// Runs the program to its end and returns its output.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String, IptablesError> {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|source| self.spawn_error(source))?;
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(self.refused(output, ""))
        }
    }

    /// Runs the program to its end with the text of a transaction as input. It parses while the
    /// text is still being written.
    pub(super) fn feed(
        &self,
        arguments: &[&str],
        input: &Transaction<'_>,
    ) -> Result<Restored, IptablesError> {
        let (reader, writer) = io::pipe().map_err(|source| self.run_error(source))?;
        widen(&writer);
        let mut command = self.command(arguments);
        let child = command.stdin(reader).spawn().map_err(|source| self.spawn_error(source))?;
        // Closes our copy of the read end, without which the writer would not notice the program's
        // death.
        command.stdin(Stdio::null());
        let pid = child.id();
        let (output, written) = thread::scope(|scope| {
            let writing = thread::Builder::new().spawn_scoped(scope, || write(input, writer))?;
            Ok((child.wait_with_output()?, writing.join()))
        })
        .map_err(|source| self.run_error(source))?;
        match written {
            // The program's own message says why it stopped reading.
            _ if !output.status.success() => Err(self.refused(output, &input.to_text())),
            Ok(Ok(bytes)) => {
                Ok(Restored { id: pid, bytes, commits: input.tables.len(), in_use: Vec::new() })
            }
            Ok(Err(source)) => Err(self.run_error(source)),
            // The program accepts a text that ends early between two tables.
            Err(_) => Err(self.run_error(io::Error::other("writing the input failed"))),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        tracing::debug!(program = self.name, ?arguments, "running iptables");
        let mut command = Command::new(&self.name);
        command.args(arguments).env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn refused(&self, output: Output, input: &str) -> IptablesError {
        let status = output.status.code();
        let message = explain(text(output.stderr).trim(), input);
        IptablesError::Refused { program: self.name.clone(), status, message }
    }

    fn spawn_error(&self, source: io::Error) -> IptablesError {
        match source.kind() {
            io::ErrorKind::NotFound => IptablesError::NotInstalled { program: self.name.clone() },
            _ => self.run_error(source),
        }
    }

    fn run_error(&self, source: io::Error) -> IptablesError {
        IptablesError::Run { program: self.name.clone(), source }
    }
}

fn write(transaction: &Transaction<'_>, pipe: io::PipeWriter) -> io::Result<usize> {
    let mut out = BufWriter::with_capacity(1 << 16, CountingPipe { pipe, bytes: 0 });
    transaction.write_text(&mut out)?;
    Ok(out.into_inner()?.bytes)
}

/// A pipe with the number of bytes written.
struct CountingPipe {
    pipe: io::PipeWriter,
    bytes: usize,
}

impl Write for CountingPipe {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let bytes = self.pipe.write(text)?;
        self.bytes += bytes;
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// Increases a pipe's capacity as far as allowed. iptables-restore reads 4 KiB at a time, and each
/// read from a full pipe wakes its writer: on a virtual machine that cost 0.3 s of 1.8 s for 10,000
/// Services. More than 1 MiB requires CAP_SYS_RESOURCE (pipe(7)); a smaller pipe is only slower.
fn widen(pipe: &io::PipeWriter) {
    let widest = [1 << 28, 1 << 20].into_iter();
    widest.map(|size| fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size))).find(Result::is_ok);
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Quotes the lines that iptables-restore refers to by number.
fn explain(complaint: &str, input: &str) -> String {
    let complaint = if complaint.is_empty() { "no error message" } else { complaint };
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
