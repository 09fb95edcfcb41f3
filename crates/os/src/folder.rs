//! Watches the files of a folder for changes.
//!
//! There are two sources: inotify, which is fast and knows whether a file is still being written,
//! and a scan of the folder by path each second, which needs nothing and misses nothing. inotify
//! watches inodes. It does not notice another file system mounted over the folder, a changed link
//! in the folder's path, or a change of a link's target. A process may also get no inotify instance
//! at all (fs.inotify.max_user_instances). The scans cover all of these cases.

mod fingerprint;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use fingerprint::Fingerprint;

/// Waits for changes to a folder.
pub struct FolderWatcher {
    folder: PathBuf,
    /// Filter for the files that are read. Other files may stay half written for any time: an
    /// editor keeps its swap file open.
    is_read: fn(&Path) -> bool,
    /// `None` if the kernel grants no instance or no watch; then there are only scans.
    inotify: Option<Inotify>,
    watch: Option<WatchDescriptor>,
    /// Error of inotify, if it is not used.
    refusal: Option<Errno>,
    /// State of the folder at the last scan.
    seen: Fingerprint,
    next_scan: Instant,
    /// Time of the last scan that found a change without an inotify event. The change may be
    /// incomplete.
    unsettled: Option<Instant>,
    /// True if there is a change that was not returned to the caller yet.
    has_changed: bool,
    /// Number of writes to files that are read.
    writes: u64,
    /// Files that were written to and are not closed yet.
    unfinished: BTreeSet<OsString>,
    /// inotify cookie of such a file that is being renamed.
    moving: Option<u32>,
}

const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after a scan, as a multiple of its duration: scanning a folder of 10,000 files takes about
/// 20 ms, which each second would be 2 % of a CPU.
const PAUSE_FACTOR: u32 = 100;

/// The longest pause. A single scan may take long because the machine is busy.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A scan cannot detect whether a file is still being written. A file without changes for this long
/// counts as complete.
const SETTLE_TIME: Duration = Duration::from_millis(500);

impl FolderWatcher {
    /// Watches a folder from now on; `is_read` selects the files that are read. The folder need not
    /// exist yet.
    pub fn open(folder: &Path, is_read: fn(&Path) -> bool) -> Self {
        let mut watcher = Self {
            folder: folder.to_owned(),
            is_read,
            inotify: None,
            watch: None,
            refusal: None,
            seen: Fingerprint::default(),
            next_scan: Instant::now(),
            unsettled: None,
            has_changed: false,
            writes: 0,
            unfinished: BTreeSet::new(),
            moving: None,
        };
        match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => watcher.inotify = Some(inotify),
            Err(errno) => watcher.refusal = Some(errno),
        }
        watcher.add();
        watcher.scan();
        if watcher.inotify.is_some() {
            watcher.unsettled = None;
        }
        watcher.has_changed = false;
        watcher
    }

    /// The error and its remedy if inotify is not used and the folder is only scanned each second.
    pub fn refusal(&self) -> Option<String> {
        let errno = self.refusal?;
        let remedy = match errno {
            Errno::EMFILE => ": raise fs.inotify.max_user_instances",
            Errno::ENOSPC => ": raise fs.inotify.max_user_watches",
            _ => "",
        };
        Some(format!("{}{remedy}", errno.desc()))
    }

    /// Waits at most `patience` for a change; returns true if there was one. A file counts as
    /// changed once its writer closes it: a half-written file must not be read.
    ///
    /// # Errors
    /// Waiting failed.
    pub fn wait(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let end = patience.map(|patience| Instant::now() + patience);
        loop {
            let now = Instant::now();
            if now >= self.next_scan {
                self.scan();
            }
            if std::mem::take(&mut self.has_changed) {
                if self.inotify.is_some() {
                    // The caller reads the current state. The next scan finds later changes.
                    self.seen = self.fingerprint();
                    self.unsettled = None;
                }
                return Ok(true);
            }
            if end.is_some_and(|end| now >= end) {
                return Ok(false);
            }
            let until = end.map_or(self.next_scan, |end| end.min(self.next_scan));
            self.handle_events(until.saturating_duration_since(now))?;
        }
    }

    /// True if a file that is read is being written, as far as known.
    pub fn is_being_written(&self) -> bool {
        self.unsettled.is_some()
            || self.unfinished.iter().any(|name| (self.is_read)(Path::new(name)))
    }

    /// Number of writes to files that are read. If it does not change and no file is being written,
    /// everything read in between is complete.
    ///
    /// # Errors
    /// Waiting failed.
    pub fn writes(&mut self) -> io::Result<u64> {
        while self.handle_events(Duration::ZERO)? {}
        if self.inotify.is_none() {
            self.scan();
        }
        Ok(self.writes)
    }

    /// Compares the folder with the last scan.
    fn scan(&mut self) {
        let begun = Instant::now();
        if self.watch.is_none() {
            self.add();
        }
        let now = self.fingerprint();
        if now.folder() != self.seen.folder() {
            // The path now leads to another folder than the watched one.
            self.forget();
            self.add();
        }
        if now != self.seen {
            self.seen = now;
            self.unsettled = Some(begun);
            self.writes += 1;
        } else if self.unsettled.is_some_and(|changed| changed.elapsed() >= SETTLE_TIME) {
            self.unsettled = None;
            self.has_changed = true;
        }
        let pause = if self.unsettled.is_some() { SETTLE_TIME } else { SCAN_INTERVAL };
        self.next_scan =
            Instant::now() + pause.max((begun.elapsed() * PAUSE_FACTOR).min(LONGEST_PAUSE));
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.folder, self.is_read)
    }

    fn add(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            // A file that was unreadable may be readable now.
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(&self.folder, flags) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.has_changed = true;
            }
            Err(errno @ Errno::ENOSPC) => {
                self.refusal = Some(errno);
                self.inotify = None;
            }
            // The folder does not exist at the moment.
            Err(_) => {}
        }
    }

    fn forget(&mut self) {
        if let (Some(inotify), Some(watch)) = (&self.inotify, self.watch.take()) {
            // A deleted folder has no watch to remove.
            let _ = inotify.rm_watch(watch);
        }
        self.unfinished.clear();
    }

    /// Handles some of the pending events; returns true if there were any.
    fn handle_events(&mut self, patience: Duration) -> io::Result<bool> {
        let Some(inotify) = &self.inotify else {
            thread::sleep(patience);
            return Ok(false);
        };
        // Rounded up: a wait of less than a millisecond would not wait at all.
        let timeout = PollTimeout::try_from(patience + Duration::from_micros(999));
        let timeout = timeout.unwrap_or(PollTimeout::MAX);
        let timeout = if patience.is_zero() { PollTimeout::ZERO } else { timeout };
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match inotify.read_events() {
            Ok(events) => {
                events.iter().for_each(|event| self.take_in(event));
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_in(&mut self, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // It is unknown which files were closed in the meantime, so none is waited for.
            self.unfinished.clear();
            self.has_changed = true;
        } else if self.watch == Some(event.wd) {
            match &event.name {
                Some(name) => self.file_event(name, event),
                None => self.folder_event(event.mask),
            }
        }
    }

    /// Handles a change of the folder itself.
    fn folder_event(&mut self, mask: AddWatchFlags) {
        let gone = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        if mask.intersects(gone) && self.watch.is_some() {
            self.forget();
            // Another folder may already exist at the path.
            self.add();
        }
        self.has_changed = true;
    }

    /// Handles a change of a file.
    fn file_event(&mut self, name: &OsString, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_MODIFY) {
            self.unfinished.insert(name.clone());
            self.writes += u64::from((self.is_read)(Path::new(name)));
            return;
        }
        if event.mask.contains(AddWatchFlags::IN_CREATE) {
            self.has_changed |= is_complete(&self.folder.join(name));
            return;
        }
        self.has_changed = true;
        if event.mask.contains(AddWatchFlags::IN_ATTRIB) {
            return;
        }
        let was_unfinished = self.unfinished.remove(name);
        if event.mask.contains(AddWatchFlags::IN_MOVED_FROM) {
            self.moving = was_unfinished.then_some(event.cookie);
        } else if event.mask.contains(AddWatchFlags::IN_MOVED_TO)
            && self.moving.take() == Some(event.cookie)
        {
            self.unfinished.insert(name.clone());
        }
    }
}

/// A new file is empty and is closed after it was written; a link is complete at once.
fn is_complete(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_symlink() || file.len() > 0)
}
