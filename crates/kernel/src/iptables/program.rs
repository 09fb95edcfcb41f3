//! Runs one of iptables' programs.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;

use rulegen_ruleset::Family;

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

    /// Runs it to its end; returns what it printed.
    pub(super) fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String, Error> {
        tracing::debug!(program = self.name, ?arguments, bytes = input.map(str::len), "runs");
        let child = Command::new(&self.name)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.spawn_error(source))?;
        let (output, complaint, ended) = speak(child, input)
            .map_err(|source| Error::Run { program: self.name.clone(), source })?;
        if ended {
            return Ok(output);
        }
        let message = explain(complaint.trim(), input.unwrap_or_default());
        Err(Error::Refused { program: self.name.clone(), message })
    }

    fn spawn_error(&self, source: io::Error) -> Error {
        let program = self.name.clone();
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotInstalled { program },
            _ => Error::Run { program, source },
        }
    }
}

/// Writes and reads at once, since either pipe may fill up. Returns standard output, standard
/// error and whether the program succeeded.
fn speak(mut child: Child, input: Option<&str>) -> io::Result<(String, String, bool)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, complaint) = thread::scope(|scope| {
        let complaint = scope.spawn(|| read_all(stderr));
        let output = scope.spawn(|| read_all(stdout));
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that ends early closes its side; its exit status says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let text = |reader: thread::ScopedJoinHandle<'_, io::Result<String>>| {
            reader.join().unwrap_or_else(|_| Err(io::Error::other("reading it failed")))
        };
        (text(output), text(complaint))
    });
    Ok((output?, complaint?, child.wait()?.success()))
}

fn read_all(stream: Option<impl Read>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// iptables-restore names a line by its number only: quotes it too.
fn explain(complaint: &str, input: &str) -> String {
    let complaint = if complaint.is_empty() { "it gave no reason" } else { complaint };
    let number = complaint.split("line").nth(1).and_then(|rest| {
        let digits: String =
            rest.trim_start_matches([' ', ':']).chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().ok()
    });
    let line = number.and_then(|number| input.lines().nth(number.checked_sub(1)?));
    match line {
        Some(line) => format!("{complaint} (the line is: {line})"),
        None => complaint.to_owned(),
    }
}
