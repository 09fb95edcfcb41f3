//! Hears of changes to the files of a folder (inotify).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// Waits for changes to a folder.
pub struct FolderWatcher {
    folder: PathBuf,
    /// Whether a file is one of those that are read. Others may be half written for as long as
    /// they like: an editor keeps its swap file open.
    is_read: fn(&Path) -> bool,
    inotify: Inotify,
    watch: Option<WatchDescriptor>,
    /// Whether something changed that nobody was told of.
    has_changed: bool,
    /// How often files that are read were written to.
    writes: u64,
    /// Files that somebody has written to and not closed yet.
    unfinished: BTreeSet<OsString>,
    /// What tells of such a file that is on its way to another name.
    moving: Option<u32>,
}

/// How often a folder that is gone is looked for.
const LOOK: Duration = Duration::from_secs(1);

impl FolderWatcher {
    /// Watches a folder from now on, whose files are read as far as they are said to be.
    ///
    /// # Errors
    /// There is no such folder, or the kernel has no watch to spare (fs.inotify.max_user_watches).
    pub fn open(folder: &Path, is_read: fn(&Path) -> bool) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watcher = Self {
            folder: folder.to_owned(),
            is_read,
            inotify,
            watch: None,
            has_changed: false,
            writes: 0,
            unfinished: BTreeSet::new(),
            moving: None,
        };
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
            if self.watch.is_none() && self.add().is_ok() {
                self.has_changed = true;
            }
            if std::mem::take(&mut self.has_changed) {
                return Ok(true);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left =
                if self.watch.is_some() { left } else { Some(left.unwrap_or(LOOK).min(LOOK)) };
            let heard = self.hear(left)?;
            if !heard && end.is_some_and(|end| Instant::now() >= end) {
                return Ok(false);
            }
        }
    }

    /// Whether a file that is read is being written right now, as far as was heard.
    pub fn is_being_written(&self) -> bool {
        self.unfinished.iter().any(|name| (self.is_read)(Path::new(name)))
    }

    /// How often files that are read were written to until now. As long as it is the same, and
    /// none is being written, what was read between is whole.
    ///
    /// # Errors
    /// The kernel tells nothing any more.
    pub fn writes(&mut self) -> io::Result<u64> {
        while self.hear(Some(Duration::ZERO))? {}
        Ok(self.writes)
    }

    fn add(&mut self) -> io::Result<()> {
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
        self.watch = Some(self.inotify.add_watch(&self.folder, flags)?);
        self.unfinished.clear();
        Ok(())
    }

    /// Takes in some of what there is to hear, and says whether there was anything.
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
                events.iter().for_each(|event| self.take_in(event));
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_in(&mut self, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Who closed a file meanwhile is not known: nobody is waited for in vain.
            self.unfinished.clear();
            self.has_changed = true;
        } else if self.watch == Some(event.wd) {
            match &event.name {
                Some(name) => self.file(name, event),
                None => self.itself(event.mask),
            }
        }
    }

    /// Something became of the folder.
    fn itself(&mut self, mask: AddWatchFlags) {
        let gone = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        if mask.intersects(gone)
            && let Some(watch) = self.watch.take()
        {
            // It lives on under another name. If it does not, there is nothing to remove.
            let _ = self.inotify.rm_watch(watch);
        }
        self.has_changed = true;
    }

    /// Something became of a file in it.
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

/// A file comes into being empty, and is closed after it was written; a link is whole.
fn is_whole(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_symlink() || file.len() > 0)
}
