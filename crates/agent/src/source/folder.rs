//! Watches a folder of manifests.
//!
//! A file that cannot be read, or not as a whole, may be one that somebody is writing: then all stays
//! as it was until the folder changes again.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rulegen_kernel::{FolderWatcher, memory};
use rulegen_model::{
    Kind, Object, Objects, Problem, Severity, StoreEvent, is_manifest, single_objects,
};

use super::Sink;
use super::api::trigger_time;
use crate::input::{Input, Told, Trouble};

/// Reads all manifests of a folder: what the program does for its other commands too.
pub type ReadFolder = fn(&Path, &mut Objects) -> Vec<Problem>;

/// Files that change together mostly do so within this time.
const QUIET: Duration = Duration::from_millis(20);

/// Whoever changes something every moment is not waited for longer than this.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file that is written for longer than this is told of. What cannot be read is tried again after
/// it: not all that mends it is seen, such as a change of what a link leads to.
const LONG: Duration = Duration::from_secs(10);

/// Reads the folder, and again whenever it changes, until nobody listens.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch(folder: &Path, read: ReadFolder, sink: &Sink) -> io::Result<()> {
    let mut watcher = FolderWatcher::open(folder, is_manifest)?;
    let mut complaints: Vec<Problem> = Vec::new();
    loop {
        let (objects, problems) = read_whole(&mut watcher, folder, read)?;
        let told = std::mem::replace(&mut complaints, problems);
        let new: Vec<&Problem> =
            complaints.iter().filter(|problem| !told.contains(problem)).collect();
        if new.iter().map(|problem| send_problem(problem, sink)).any(|sent| sent.is_none()) {
            return Ok(());
        }
        let is_unread = |problem: &Problem| problem.severity >= Severity::Unread;
        let all_stays = complaints.iter().any(is_unread);
        let trouble = complaints.iter().find(|problem| is_unread(problem));
        if send_trouble(trouble, sink).is_none() {
            return Ok(());
        }
        if all_stays {
            if new.iter().any(|problem| is_unread(problem)) {
                tracing::warn!("the rules stay as they are until this is mended");
            }
        } else if tell(objects, sink).is_none() {
            return Ok(());
        }
        memory::give_back();
        while !watcher.wait(Some(LONG))? && !all_stays {}
    }
}

/// Reads once nobody writes, and again if somebody began to meanwhile: it may have been half a file
/// that was read, and what is missing from it would be taken for gone.
fn read_whole(
    watcher: &mut FolderWatcher,
    folder: &Path,
    read: ReadFolder,
) -> io::Result<(Vec<Object>, Vec<Problem>)> {
    let mut delay = Delay { begun: Instant::now(), is_told: false };
    loop {
        settle(watcher, &mut delay)?;
        let before = watcher.writes()?;
        let mut objects = Objects::default();
        let mut problems = read(folder, &mut objects);
        if watcher.writes()? == before && !watcher.is_being_written() {
            let (objects, twice) = single_objects(&objects);
            problems.extend(twice);
            return Ok((objects, problems));
        }
        delay.tell();
    }
}

/// Waits until nobody writes.
fn settle(watcher: &mut FolderWatcher, delay: &mut Delay) -> io::Result<()> {
    let begun = Instant::now();
    while (watcher.wait(Some(QUIET))? && begun.elapsed() < PATIENCE) || watcher.is_being_written() {
        delay.tell();
    }
    Ok(())
}

/// How long writers are waited for.
struct Delay {
    begun: Instant,
    is_told: bool,
}

impl Delay {
    /// Tells of it once, when it is long.
    fn tell(&mut self) {
        if self.begun.elapsed() > LONG && !self.is_told {
            tracing::warn!(
                "a manifest is being written for long: the rules stay until it is closed"
            );
            self.is_told = true;
        }
    }
}

fn send_problem(problem: &Problem, sink: &Sink) -> Option<()> {
    sink.send(Told::now(Input::Problem(Box::new(problem.clone())))).ok()
}

/// `None` once nobody listens.
fn send_trouble(trouble: Option<&Problem>, sink: &Sink) -> Option<()> {
    let trouble = trouble.map(|problem| Trouble { why: problem.to_string(), until: None });
    sink.send(Told::now(Input::Source("the manifests", trouble))).ok()
}

/// `None` once nobody listens.
fn tell(objects: Vec<Object>, sink: &Sink) -> Option<()> {
    let put = |mut object| {
        trigger_time(&mut object);
        StoreEvent::Put(Box::new(object))
    };
    let events = Kind::ALL.map(StoreEvent::ListBegan).into_iter();
    let events = events.chain(objects.into_iter().map(put));
    let events = events.chain(Kind::ALL.map(StoreEvent::ListEnded)).collect();
    sink.send(Told::now(Input::Objects(events))).ok()
}
