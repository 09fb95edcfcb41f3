//! Hears of changes to the files of a folder (inotify).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

/// Waits for changes to a folder.
pub struct FolderWatcher {
    folder: PathBuf,
    inotify: Inotify,
    is_watched: bool,
    /// Files that somebody has written to and not closed yet.
    unfinished: BTreeSet<OsString>,
}

/// How often a folder that is gone is looked for.
const LOOK: Duration = Duration::from_secs(1);

impl FolderWatcher {
    /// Watches a folder from now on.
    ///
    /// # Errors
    /// There is no such folder, or the kernel has no watch to spare (fs.inotify.max_user_watches).
    pub fn open(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let folder = folder.to_owned();
        let mut watcher = Self { folder, inotify, is_watched: false, unfinished: BTreeSet::new() };
        watcher.add()?;
        Ok(watcher)
    }

    /// Waits until something changed, at most so long; says whether something did. A file that is
    /// being written is no change until its writer closes it: half a file is not less of it.
    ///
    /// # Errors
    /// The kernel tells nothing any more.
    pub fn wait(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let end = patience.map(|patience| Instant::now() + patience);
        loop {
            if !self.is_watched && self.add().is_ok() {
                return Ok(true);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left = if self.is_watched { left } else { Some(left.unwrap_or(LOOK).min(LOOK)) };
            if self.hear(left)? {
                return Ok(true);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(false);
            }
        }
    }

    /// Whether a file is being written right now.
    pub fn is_being_written(&self) -> bool {
        !self.unfinished.is_empty()
    }

    fn add(&mut self) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(&self.folder, flags)?;
        self.is_watched = true;
        self.unfinished.clear();
        Ok(())
    }

    fn hear(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let timeout = match patience {
            Some(patience) => PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match self.inotify.read_events() {
            Ok(events) => {
                Ok(events.iter().map(|event| self.is_change(event)).fold(false, |a, b| a | b))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn is_change(&mut self, event: &InotifyEvent) -> bool {
        let gone = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        if event.mask.intersects(gone) {
            self.is_watched = false;
            return true;
        }
        let Some(name) = &event.name else { return true };
        if event.mask.contains(AddWatchFlags::IN_MODIFY) {
            self.unfinished.insert(name.clone());
            return false;
        }
        self.unfinished.remove(name);
        // A file comes into being empty, and is closed after it was written; a link is whole.
        let is_new = event.mask.contains(AddWatchFlags::IN_CREATE);
        !is_new || self.folder.join(name).is_symlink()
    }
}
