//! Reads files, folders and standard input into a snapshot.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rulegen::has_errors;
use rulegen_config::ProxyConfig;
use rulegen_lint::{LintFile, UnreadableFile};
use rulegen_model::{
    Host, IfEmpty, Objects, Problem, ProblemCode, Severity, Snapshot, Source, is_manifest,
    read_manifest,
};

use crate::args::{InputArgs, ProxyArgs};
use crate::configuration;
use crate::problems;

/// The input of a command. It was read completely.
pub(crate) struct Input {
    pub(crate) snapshot: Snapshot,
    pub(crate) config: ProxyConfig,
    /// Whether it has any EndpointSlice.
    pub(crate) has_slices: bool,
    /// Whether there were warnings.
    pub(crate) has_warnings: bool,
}

/// Reads the input and prints its problems on standard error. Fails if a part could not be read;
/// `consequence` is part of the error message.
pub(crate) fn load(input: &InputArgs, proxy: &ProxyArgs, consequence: &str) -> Result<Input> {
    let (config, mut found) = configuration::load(proxy)?;
    let config = ProxyConfig::from(&config);
    let mut objects = Objects::default();
    for path in &input.filename {
        found.extend(read_path(path, &mut objects));
    }
    found.extend(completed(&mut objects, &found, input.empty.meaning()));
    let (snapshot, invalid) = rulegen::snapshot(&objects, &config, &host());
    found.extend(invalid);
    found.extend(warn_of_missing_node(&objects, &snapshot));
    for (kind, count) in &objects.ignored {
        tracing::info!(kind, count, "ignored objects of unsupported kind");
    }
    problems::print(&found);
    refuse_incomplete(&found, consequence)?;
    let has_slices = !objects.slices.is_empty();
    // The memory is reused: page faults slow down the parallel iptables-restore by a sixth at 10,000
    // Services on a virtual machine.
    drop(objects);
    let has_warnings = found.iter().any(|problem| problem.severity == Severity::Warning);
    Ok(Input { snapshot, config, has_slices, has_warnings })
}

/// Completes and checks the whole input. Does nothing if a part could not be read.
pub(crate) fn completed(
    objects: &mut Objects,
    found: &[Problem],
    if_empty: IfEmpty,
) -> Vec<Problem> {
    if has_errors(found) { Vec::new() } else { objects.complete(if_empty) }
}

/// Rejects an incomplete input or configuration: Services in the missing part would count as deleted.
pub(crate) fn refuse_incomplete(found: &[Problem], consequence: &str) -> Result<()> {
    if has_errors(found) {
        bail!("invalid input or configuration (see above): {consequence}");
    }
    Ok(())
}

/// Name and addresses of this host, for when there is no Node object.
pub(crate) fn host() -> Host {
    let addresses = rulegen_os::host::addresses().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read this host's addresses");
        Vec::new()
    });
    Host { name: rulegen_os::host::name(), addresses }
}

/// Notes that the input has Nodes, but not this node: usually --hostname-override is missing.
pub(crate) fn warn_of_missing_node(objects: &Objects, snapshot: &Snapshot) -> Option<Problem> {
    let name = &snapshot.node.name;
    let names: Vec<&str> =
        objects.nodes.iter().map(|node| node.object.metadata.name.as_str()).collect();
    let missing = !names.is_empty() && !names.contains(&name.as_str());
    missing.then(|| {
        let message = format!(
            "Node {name:?} not in the input: using this host's addresses, and no endpoint counts as \
             local (found {}; select one with --hostname-override)",
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

/// The name and content of each file of a path, or why it cannot be read.
pub(crate) fn read_contents(path: &Path) -> Vec<LintFile> {
    if path.as_os_str() == "-" {
        let mut content = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut content);
        let content = read.map(|_| content).map_err(UnreadableFile::from);
        return vec![LintFile { name: "-".to_owned(), content }];
    }
    let named = |path: &Path, content| LintFile { name: path.display().to_string(), content };
    let read = |path: &PathBuf| named(path, std::fs::read(path).map_err(UnreadableFile::from));
    if !path.is_dir() {
        return vec![read(&path.to_owned())];
    }
    match manifests_in(path) {
        Ok(files) if files.is_empty() => vec![named(path, Err(UnreadableFile::NoManifest))],
        Ok(files) => files.iter().map(read).collect(),
        Err(error) => vec![named(path, Err(error.into()))],
    }
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
            vec![problem(path, Severity::Incomplete, UnreadableFile::NoManifest.to_string())]
        }
        Ok(files) => files.iter().flat_map(|file| read_file(file, objects)).collect(),
        Err(error) => vec![unreadable(path, &error)],
    }
}

/// The manifests in a folder, sorted by name, without subfolders; same rule as kubectl.
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
    // Read now to report I/O errors as such.
    if let Err(error) = input.fill_buf() {
        return vec![unreadable(path, &error)];
    }
    let mut of_file = objects.emptied();
    let problems = read_manifest(&path.display().to_string(), input, &mut of_file);
    // For an incomplete file the agent keeps the last good version, so none of its objects are used.
    if !has_errors(&problems) {
        objects.append(of_file);
    }
    problems
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    problem(path, Severity::Error, format!("cannot read file: {error}"))
}

fn problem(path: &Path, severity: Severity, message: String) -> Problem {
    let source = Source { file: path.display().to_string().into(), document: 1 };
    Problem::new(severity, message).code(ProblemCode::UnreadableInput).at(&source)
}
