//! Watches a folder of manifests.
//!
//! A file that cannot be read completely keeps its last good state: the other files are applied,
//! and nothing is removed until all files can be read, because a Service may have moved to that
//! file. The same holds while the folder has no Service at all.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rulegen_model::{
    IfEmpty, Kind, Object, Objects, Problem, Severity, StoreEvent, is_manifest, single_objects,
};
use rulegen_os::{FolderWatcher, memory};

use super::Sink;
use super::event_forwarder::trigger_time;
use crate::input::{ReconcilerInput, SourceError};
use crate::queue::Ended;

/// The function that reads all manifests of a folder, shared with other commands.
pub type ReadFolder = fn(&Path, &mut Objects) -> Vec<Problem>;

/// Files that change together usually do so within this time.
const QUIET: Duration = Duration::from_millis(20);

/// The maximum delay if files change continuously.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file that is being written for longer than this is logged. After this time, files that could
/// not be read are retried, because not every fix causes an event, for example a change behind a
/// link.
const LONG: Duration = Duration::from_secs(10);

/// The interval of reminders in the log.
const REMINDER: Duration = Duration::from_secs(60);

/// Reads the folder, and again after each change, until the receiver is gone.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch(
    folder: &Path,
    read: ReadFolder,
    if_empty: IfEmpty,
    sink: &Sink,
) -> io::Result<()> {
    let mut watcher = FolderWatcher::open(folder, is_manifest);
    if let Some(refusal) = watcher.refusal() {
        let folder = folder.display();
        tracing::warn!(%folder, refusal, "inotify not available, polling manifests every second");
    }
    let mut reminded = Instant::now();
    let mut complaints: Vec<Problem> = Vec::new();
    let mut was_complete = false;
    loop {
        let (objects, problems) = read_complete(&mut watcher, folder, read, if_empty)?;
        let known = std::mem::replace(&mut complaints, problems);
        let new: Vec<&Problem> =
            complaints.iter().filter(|problem| !known.contains(problem)).collect();
        if new.iter().map(|problem| send_problem(problem, sink)).any(|sent| sent.is_err()) {
            return Ok(());
        }
        let is_incomplete = |problem: &Problem| problem.severity >= Severity::Incomplete;
        let is_partial = complaints.iter().any(is_incomplete);
        let trouble = complaints.iter().find(|problem| is_incomplete(problem));
        if send_trouble(trouble, sink).is_err() {
            return Ok(());
        }
        let is_new = new.iter().any(|problem| is_incomplete(problem));
        if let Some(problem) = trouble
            && (is_new || reminded.elapsed() >= REMINDER)
        {
            warn_of_partial_input(folder, problem, was_complete);
            reminded = Instant::now();
        }
        let sent = match (is_partial, was_complete) {
            (false, _) => replace_all(objects, sink),
            (true, true) => add(objects, sink),
            // The previous content of the file is unknown, so all rules stay.
            (true, false) => Ok(()),
        };
        if sent.is_err() {
            return Ok(());
        }
        was_complete |= !is_partial;
        memory::release_free_pages();
        while !watcher.wait(Some(LONG))? && !is_partial {}
    }
}

/// Reads while no file is being written, and again if a write began meanwhile: objects missing from
/// a half-written file would look deleted.
fn read_complete(
    watcher: &mut FolderWatcher,
    folder: &Path,
    read: ReadFolder,
    if_empty: IfEmpty,
) -> io::Result<(Vec<Object>, Vec<Problem>)> {
    let mut delay = Delay { begun: Instant::now(), is_logged: false };
    loop {
        settle(watcher, &mut delay)?;
        let before = watcher.writes()?;
        let mut objects = Objects::default();
        let mut problems = read(folder, &mut objects);
        if problems.iter().all(|problem| problem.severity < Severity::Incomplete) {
            problems.extend(objects.complete(if_empty));
        }
        if watcher.writes()? == before && !watcher.is_being_written() {
            let (objects, twice) = single_objects(&objects);
            problems.extend(twice);
            return Ok((objects, problems));
        }
        delay.log();
    }
}

/// Waits until no file is being written.
fn settle(watcher: &mut FolderWatcher, delay: &mut Delay) -> io::Result<()> {
    let begun = Instant::now();
    while (watcher.wait(Some(QUIET))? && begun.elapsed() < PATIENCE) || watcher.is_being_written() {
        delay.log();
    }
    Ok(())
}

/// The delay of a read by files that are still being written.
struct Delay {
    begun: Instant,
    is_logged: bool,
}

impl Delay {
    /// Logs a long delay once.
    fn log(&mut self) {
        if self.begun.elapsed() > LONG && !self.is_logged {
            tracing::warn!(
                "manifest still open for writing, keeping current rules until it is closed"
            );
            self.is_logged = true;
        }
    }
}

fn send_problem(problem: &Problem, sink: &Sink) -> Result<(), Ended> {
    sink.send_blocking(ReconcilerInput::Problem(Box::new(problem.clone())), 1)
}

fn send_trouble(trouble: Option<&Problem>, sink: &Sink) -> Result<(), Ended> {
    let trouble = trouble.map(|problem| SourceError { why: problem.to_string(), until: None });
    sink.send_blocking(ReconcilerInput::Source("the manifests", trouble), 1)
}

fn warn_of_partial_input(folder: &Path, error: &Problem, was_complete: bool) {
    let folder = folder.display();
    if was_complete {
        tracing::warn!(
            %folder,
            %error,
            "cannot read all manifests; keeping the last good state and removing nothing until \
             this is fixed"
        );
    } else {
        tracing::warn!(
            %folder,
            %error,
            "cannot read all manifests; keeping current rules until this is fixed"
        );
    }
}

/// Sends a complete list of objects, which removes all others.
fn replace_all(objects: Vec<Object>, sink: &Sink) -> Result<(), Ended> {
    let events = Kind::ALL.map(StoreEvent::ListBegan).into_iter();
    let events = events.chain(objects.into_iter().map(put));
    let events: Vec<_> = events.chain(Kind::ALL.map(StoreEvent::ListEnded)).collect();
    let weight = events.len();
    sink.send_blocking(ReconcilerInput::Objects(events), weight)
}

/// Adds objects without removing any.
fn add(objects: Vec<Object>, sink: &Sink) -> Result<(), Ended> {
    let events: Vec<_> = objects.into_iter().map(put).collect();
    let weight = events.len();
    sink.send_blocking(ReconcilerInput::Objects(events), weight)
}

fn put(mut object: Object) -> StoreEvent {
    trigger_time(&mut object);
    StoreEvent::Put(Box::new(object))
}
