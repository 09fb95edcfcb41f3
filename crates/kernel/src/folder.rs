//! Notices changes to the files of a folder.
//!
//! Two sources: inotify, which is quick and knows whether a file is still being written, and a look
//! at the folder by its path each second, which needs nothing and misses nothing. inotify watches
//! inodes. It does not see that another file system was mounted over the folder, that a link in
//! its path leads elsewhere, or that the target of a link in it changed. A process may also get no inotify
//! instance at all (fs.inotify.max_user_instances). The looks make up for all of that.

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
    /// Whether a file is one of those that are read. Others may be half written for as long as
    /// they like: an editor keeps its swap file open.
    is_read: fn(&Path) -> bool,
    /// None if the kernel gives no instance or no watch: then there are only looks.
    inotify: Option<Inotify>,
    watch: Option<WatchDescriptor>,
    /// Why there is no inotify.
    refusal: Option<Errno>,
    /// The folder as it was at the last look.
    seen: Fingerprint,
    next_look: Instant,
    /// When a look last found a change that inotify had not announced. It may not be complete.
    unsettled: Option<Instant>,
    /// Whether something changed that no caller knows of.
    has_changed: bool,
    /// How often files that are read were written to.
    writes: u64,
    /// Files that somebody has written to and not closed yet.
    unfinished: BTreeSet<OsString>,
    /// The cookie of such a file that is on its way to another name.
    moving: Option<u32>,
}

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A look rests for so many times as long as it took: a folder of 10,000 files takes about 20 ms,
/// which each second would be 2 % of a processor.
const REST: u32 = 100;

/// A look cannot tell whether a file is still being written. Where nothing changed for this long it
/// is taken for whole.
const SETTLED: Duration = Duration::from_millis(500);

impl FolderWatcher {
    /// Watches a folder from now on, of which the files are read that `is_read` says. The folder
    /// need not be there yet.
    pub fn open(folder: &Path, is_read: fn(&Path) -> bool) -> Self {
        let mut watcher = Self {
            folder: folder.to_owned(),
            is_read,
            inotify: None,
            watch: None,
            refusal: None,
            seen: Fingerprint::default(),
            next_look: Instant::now(),
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
        watcher.look();
        if watcher.inotify.is_some() {
            watcher.unsettled = None;
        }
        watcher.has_changed = false;
        watcher
    }

    /// Why the folder is only looked at each second, if that is so, and what to do about it.
    pub fn refusal(&self) -> Option<String> {
        let errno = self.refusal?;
        let remedy = match errno {
            Errno::EMFILE => ": raise fs.inotify.max_user_instances",
            Errno::ENOSPC => ": raise fs.inotify.max_user_watches",
            _ => "",
        };
        Some(format!("{}{remedy}", errno.desc()))
    }

    /// Waits until something changed, at most for `patience`; returns whether something did. A file
    /// that is being written counts as a change once its writer closes it: half a file is not a smaller
    /// file.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn wait(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let end = patience.map(|patience| Instant::now() + patience);
        loop {
            let now = Instant::now();
            if now >= self.next_look {
                self.look();
            }
            if std::mem::take(&mut self.has_changed) {
                if self.inotify.is_some() {
                    // The caller reads what is there now. The next look finds what comes later.
                    self.seen = self.fingerprint();
                    self.unsettled = None;
                }
                return Ok(true);
            }
            if end.is_some_and(|end| now >= end) {
                return Ok(false);
            }
            let until = end.map_or(self.next_look, |end| end.min(self.next_look));
            self.hear(until.saturating_duration_since(now))?;
        }
    }

    /// Whether a file that is read is being written right now, as far as can be known.
    pub fn is_being_written(&self) -> bool {
        self.unsettled.is_some()
            || self.unfinished.iter().any(|name| (self.is_read)(Path::new(name)))
    }

    /// How often files that are read were written to until now. As long as it is the same, and
    /// none is being written, what was read between is whole.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn writes(&mut self) -> io::Result<u64> {
        while self.hear(Duration::ZERO)? {}
        if self.inotify.is_none() {
            self.look();
        }
        Ok(self.writes)
    }

    /// Compares the folder with what it was at the last look.
    fn look(&mut self) {
        let begun = Instant::now();
        if self.watch.is_none() {
            self.add();
        }
        let now = self.fingerprint();
        if now.folder() != self.seen.folder() {
            // The path leads to another folder than the one with the watch.
            self.forget();
            self.add();
        }
        if now != self.seen {
            self.seen = now;
            self.unsettled = Some(begun);
            self.writes += 1;
        } else if self.unsettled.is_some_and(|changed| changed.elapsed() >= SETTLED) {
            self.unsettled = None;
            self.has_changed = true;
        }
        let rest = if self.unsettled.is_some() { SETTLED } else { LOOK };
        self.next_look = Instant::now() + rest.max(begun.elapsed() * REST);
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.folder, self.is_read)
    }

    fn add(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            // A file that could not be read may be readable now.
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
            // There is no such folder, for now.
            Err(_) => {}
        }
    }

    fn forget(&mut self) {
        if let (Some(inotify), Some(watch)) = (&self.inotify, self.watch.take()) {
            // Without the folder there is nothing to remove.
            let _ = inotify.rm_watch(watch);
        }
        self.unfinished.clear();
    }

    /// Takes in some of the events that wait, and returns whether there were any.
    fn hear(&mut self, patience: Duration) -> io::Result<bool> {
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
            // Which files were closed meanwhile is not known: none is waited for.
            self.unfinished.clear();
            self.has_changed = true;
        } else if self.watch == Some(event.wd) {
            match &event.name {
                Some(name) => self.file(name, event),
                None => self.itself(event.mask),
            }
        }
    }

    /// The folder itself changed.
    fn itself(&mut self, mask: AddWatchFlags) {
        let gone = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        if mask.intersects(gone) && self.watch.is_some() {
            self.forget();
            // There may be another one by the same name already.
            self.add();
        }
        self.has_changed = true;
    }

    /// A file in it changed.
    fn file(&mut self, name: &OsString, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_MODIFY) {
            self.unfinished.insert(name.clone());
            self.writes += u64::from((self.is_read)(Path::new(name)));
            return;
        }
        if event.mask.contains(AddWatchFlags::IN_CREATE) {
            self.has_changed |= is_whole(&self.folder.join(name));
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

/// A file is empty when it is created, and closed after it was written; a link is whole.
fn is_whole(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_symlink() || file.len() > 0)
}
