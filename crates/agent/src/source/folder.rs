//! Watches a folder of manifests.
//!
//! A file that cannot be read, or not as a whole, may be one that somebody is writing: then all stays
//! as it was until the folder changes again.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rulegen_kernel::{FolderWatcher, memory};
use rulegen_model::{Kind, Objects, Problem, Severity, StoreEvent, single_objects};

use super::Sink;
use super::api::trigger_time;
use crate::input::{Input, Told};

/// Reads all manifests of a folder: what the program does for its other commands too.
pub type ReadFolder = fn(&Path, &mut Objects) -> Vec<Problem>;

/// Files that change together mostly do so within this time.
const QUIET: Duration = Duration::from_millis(20);

/// Whoever changes something every moment is not waited for longer than this.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file that is written for longer than this is told of.
const LONG: Duration = Duration::from_secs(10);

/// Reads the folder, and again whenever it changes, until nobody listens.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch(folder: &Path, read: ReadFolder, sink: &Sink) -> io::Result<()> {
    let mut watcher = FolderWatcher::open(folder)?;
    let mut complaints: Vec<Problem> = Vec::new();
    loop {
        settle(&mut watcher)?;
        let mut objects = Objects::default();
        let problems = read(folder, &mut objects);
        let told = std::mem::replace(&mut complaints, problems);
        let new = complaints.iter().filter(|problem| !told.contains(problem));
        if new.map(|problem| send_problem(problem, sink)).any(|sent| sent.is_none()) {
            return Ok(());
        }
        if complaints.iter().any(|problem| problem.severity >= Severity::Unread) {
            tracing::warn!("the rules stay as they are until this is mended");
        } else if tell(&objects, sink).is_none() {
            return Ok(());
        }
        drop(objects);
        memory::give_back();
        while !watcher.wait(Some(LONG))? {}
    }
}

/// Waits until nobody writes.
fn settle(watcher: &mut FolderWatcher) -> io::Result<()> {
    let begun = Instant::now();
    let mut is_told = false;
    while (watcher.wait(Some(QUIET))? && begun.elapsed() < PATIENCE) || watcher.is_being_written() {
        if begun.elapsed() > LONG && !is_told {
            tracing::warn!(
                "a manifest is being written for long: the rules stay until it is closed"
            );
            is_told = true;
        }
    }
    Ok(())
}

fn send_problem(problem: &Problem, sink: &Sink) -> Option<()> {
    sink.send(Told::now(Input::Problem(Box::new(problem.clone())))).ok()
}

/// `None` once nobody listens.
fn tell(objects: &Objects, sink: &Sink) -> Option<()> {
    let (objects, twice) = single_objects(objects);
    let send = |input| sink.send(Told::now(input)).ok();
    for problem in &twice {
        send_problem(problem, sink)?;
    }
    for kind in Kind::ALL {
        send(Input::Object(StoreEvent::ListBegan(kind)))?;
    }
    for mut object in objects {
        trigger_time(&mut object);
        send(Input::Object(StoreEvent::Put(Box::new(object))))?;
    }
    for kind in Kind::ALL {
        send(Input::Object(StoreEvent::ListEnded(kind)))?;
    }
    Some(())
}
