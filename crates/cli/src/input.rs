//! Files, folders and standard input to a snapshot.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rulegen_model::{
    Host, Objects, Problem, ProxyConfig, Severity, Snapshot, Source, is_manifest, read_manifest,
    snapshot,
};

use crate::args::{IgnoredArgs, InputArgs, ProxyArgs};
use crate::configuration;
use crate::problems;

/// What a command compiles.
pub(crate) struct Input {
    pub(crate) snapshot: Snapshot,
    pub(crate) config: ProxyConfig,
    /// The worst that was wrong with it.
    pub(crate) worst: Option<Severity>,
}

/// Reads everything, and tells on standard error what was wrong with it.
pub(crate) fn load(input: &InputArgs, proxy: &ProxyArgs, ignored: &IgnoredArgs) -> Result<Input> {
    let (config, mut found) = configuration::load(proxy)?;
    found.extend(configuration::notes(&ignored.given()));
    let mut objects = Objects::default();
    for path in &input.filename {
        found.extend(read_path(path, &mut objects));
    }
    let (snapshot, wrong) = snapshot(&objects, &config, &host());
    found.extend(wrong);
    found.extend(warn_of_missing_node(&objects, &snapshot));
    for (kind, count) in &objects.ignored {
        tracing::info!(kind, count, "objects of this kind make no rules");
    }
    problems::print(&found);
    // What follows uses their memory again: fresh pages cost iptables-restore, which runs next to
    // us, a sixth of its time at 10,000 Services on a virtual machine.
    drop(objects);
    let worst = found.iter().map(|problem| problem.severity).max();
    Ok(Input { snapshot, config, worst })
}

/// The machine's own name and addresses, for want of a Node object.
pub(crate) fn host() -> Host {
    let addresses = rulegen_kernel::host::addresses().unwrap_or_else(|error| {
        tracing::warn!(%error, "this host's addresses could not be read");
        Vec::new()
    });
    Host { name: rulegen_kernel::host::name(), addresses }
}

/// Nodes were given, but not the one that rules are made for: mostly a forgotten flag.
pub(crate) fn warn_of_missing_node(objects: &Objects, snapshot: &Snapshot) -> Option<Problem> {
    let name = &snapshot.node.name;
    let names: Vec<&str> =
        objects.nodes.iter().map(|node| node.object.metadata.name.as_str()).collect();
    let missing = !names.is_empty() && !names.contains(&name.as_str());
    missing.then(|| {
        let message = format!(
            "no Node is called {name:?}: this host's own addresses count, and no endpoint is \
             local; the Nodes given are {} (choose one with --hostname-override)",
            some_of(&names)
        );
        Problem::new(Severity::Note, message)
    })
}

fn some_of(names: &[&str]) -> String {
    const SOME: usize = 5;
    let more = names.len().saturating_sub(SOME);
    let some: Vec<&str> = names.iter().take(SOME).copied().collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", some.join(", "))
}

pub(crate) fn read_path(path: &Path, objects: &mut Objects) -> Vec<Problem> {
    if path.as_os_str() == "-" {
        return read_manifest("-", io::stdin().lock(), objects);
    }
    if !path.is_dir() {
        return read_file(path, objects);
    }
    match manifests_in(path) {
        Ok(files) if files.is_empty() => {
            vec![problem(path, Severity::Unread, "has no *.yaml, *.yml or *.json in it".to_owned())]
        }
        Ok(files) => files.iter().flat_map(|file| read_file(file, objects)).collect(),
        Err(error) => vec![unreadable(path, &error)],
    }
}

/// A folder's manifests by name, without those in folders below it, as kubectl takes it.
fn manifests_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<PathBuf>> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files = entries?;
    files.retain(|file| is_manifest(file) && !file.is_dir());
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, objects: &mut Objects) -> Vec<Problem> {
    let mut input = match File::open(path) {
        Ok(file) => BufReader::with_capacity(1 << 16, file),
        Err(error) => return vec![unreadable(path, &error)],
    };
    // Asked here so that a folder or a broken disk is told as what it is.
    match input.fill_buf() {
        Ok(_) => read_manifest(&path.display().to_string(), input, objects),
        Err(error) => vec![unreadable(path, &error)],
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    problem(path, Severity::Error, format!("cannot be read: {error}"))
}

fn problem(path: &Path, severity: Severity, message: String) -> Problem {
    let source = Source { file: path.display().to_string().into(), document: 1 };
    Problem::new(severity, message).at(&source)
}
