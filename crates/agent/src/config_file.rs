//! Detects changes of the configuration file.
//!
//! The file may be a link in a ConfigMap volume that kubelet swaps, may be edited in place or
//! replaced, or may be reached through links into other folders. So the content behind its path is
//! compared; inotify only shortens the polling interval.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rulegen_os::FolderWatcher;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::options::ConfigFile;
use crate::threads;

/// How long new content must stay the same: an editor may still be writing.
const SETTLED: Duration = Duration::from_millis(200);

/// The polling interval.
const PERIOD: Duration = Duration::from_secs(1);

/// The maximum number of bytes compared. Configurations have a few kilobytes.
const COMPARED: u64 = 1 << 20;

/// Signals once the content of the file differs from what was parsed.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn watch(file: Option<&ConfigFile>) -> Result<oneshot::Receiver<()>> {
    let (changed, receiver) = oneshot::channel();
    let Some(ConfigFile { path: file, content }) = file.cloned() else { return Ok(receiver) };
    let name = file.display().to_string();
    let mut settling = Settling::new(content);
    let mut watcher = FolderWatcher::open(&folder_of(&file), |_| true);
    if let Some(refusal) = watcher.refusal() {
        tracing::warn!(
            file = name,
            refusal,
            "inotify not available, polling the configuration every second"
        );
    }
    threads::start("configuration", move || {
        let mut patience = PERIOD;
        loop {
            if let Err(error) = watcher.wait(Some(patience)) {
                tracing::debug!(%error, "cannot watch the configuration folder");
                std::thread::sleep(patience);
            }
            match settling.compare(read(&file).ok(), Instant::now()) {
                FileState::Same => patience = PERIOD,
                FileState::Settles => patience = SETTLED,
                FileState::Changed => {
                    let _ = changed.send(());
                    return;
                }
            }
        }
    })?;
    Ok(receiver)
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?.take(COMPARED).read_to_end(&mut content)?;
    Ok(content)
}

/// The state of the comparison.
struct Settling {
    /// The content that the agent runs with.
    content: Vec<u8>,
    /// Different content, and since when it has been there.
    other: Option<(Vec<u8>, Instant)>,
}

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
enum FileState {
    Same,
    /// The content differs but may be incomplete.
    Settles,
    Changed,
}

impl Settling {
    fn new(mut content: Vec<u8>) -> Self {
        content.truncate(usize::try_from(COMPARED).unwrap_or(usize::MAX));
        Self { content, other: None }
    }

    /// Compares the current content; `None` if the file cannot be read, for example while it is
    /// replaced.
    fn compare(&mut self, content: Option<Vec<u8>>, now: Instant) -> FileState {
        let Some(content) = content else { return FileState::Same };
        if content == self.content {
            self.other = None;
            return FileState::Same;
        }
        match &self.other {
            Some((other, since)) if *other == content => {
                if now.saturating_duration_since(*since) >= SETTLED {
                    return FileState::Changed;
                }
            }
            _ => self.other = Some((content, now)),
        }
        FileState::Settles
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::thread;

    use super::*;

    #[test]
    fn changed_content_counts_after_it_has_settled() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let compare = |reads: &[(u64, Option<&str>)]| {
            let mut settling = Settling::new(b"one".to_vec());
            let compare = |(when, text): &(u64, Option<&str>)| {
                settling.compare(text.map(|text| text.as_bytes().to_vec()), at(*when))
            };
            reads.iter().map(compare).collect::<Vec<_>>()
        };
        use FileState::{Changed, Same, Settles};
        assert_eq!(compare(&[(0, Some("one")), (1, None), (2, Some("one"))]), [Same, Same, Same]);
        assert_eq!(compare(&[(0, Some("two")), (200, Some("two"))]), [Settles, Changed]);
        assert_eq!(
            compare(&[(0, Some("")), (100, Some("two")), (250, Some("two")), (300, Some("two"))]),
            [Settles, Settles, Settles, Changed]
        );
        // Changed back, then changed again.
        assert_eq!(
            compare(&[
                (0, Some("two")),
                (100, Some("one")),
                (250, Some("two")),
                (449, Some("two"))
            ]),
            [Settles, Same, Settles, Settles]
        );
        // Unreadable for a moment.
        assert_eq!(
            compare(&[(0, Some("two")), (100, None), (200, Some("two"))]),
            [Settles, Same, Changed]
        );
    }

    /// A ConfigMap volume as kubelet makes it.
    struct Volume(PathBuf);

    impl Volume {
        fn new(label: &str) -> Self {
            let name = format!("rulegen-config-{}-{label}", std::process::id());
            let root = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("other-folder")).unwrap();
            let volume = Self(root);
            volume.data("..1", "one");
            symlink("..1", volume.0.join("..data")).unwrap();
            symlink("..data/config.conf", volume.file()).unwrap();
            volume
        }

        fn file(&self) -> PathBuf {
            self.0.join("config.conf")
        }

        /// The configuration of an agent that started with the first content.
        fn as_configured(&self) -> ConfigFile {
            ConfigFile { path: self.file(), content: b"one".to_vec() }
        }

        fn data(&self, folder: &str, content: &str) {
            fs::create_dir(self.0.join(folder)).unwrap();
            fs::write(self.0.join(folder).join("config.conf"), content).unwrap();
        }

        fn point_to(&self, folder: &str) {
            symlink(folder, self.0.join("..data_tmp")).unwrap();
            fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        }

        fn remove(&self, folder: &str) {
            fs::remove_dir_all(self.0.join(folder)).unwrap();
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    type ConfigEdit = fn(&Volume);

    /// Ways to change the content, in steps with any pause between them.
    const CHANGES: [(&str, &[ConfigEdit]); 9] = [
        ("kubelet", &[|v| v.data("..2", "two"), |v| v.point_to("..2"), |v| v.remove("..1")]),
        (
            "kubelet twice",
            &[
                |v| v.data("..2", "two"),
                |v| v.point_to("..2"),
                |v| v.data("..3", "three"),
                |v| v.point_to("..3"),
                |v| v.remove("..1"),
                |v| v.remove("..2"),
            ],
        ),
        ("in place", &[|v| fs::write(v.0.join("..1/config.conf"), "two").unwrap()]),
        (
            "renamed, and another file",
            &[
                |v| fs::write(v.0.join(".new"), "two").unwrap(),
                |v| fs::rename(v.0.join(".new"), v.file()).unwrap(),
                |v| fs::write(v.0.join("other.txt"), "x").unwrap(),
            ],
        ),
        (
            "removed and created",
            &[|v| fs::remove_file(v.file()).unwrap(), |v| fs::write(v.file(), "two").unwrap()],
        ),
        (
            "a link to another folder, edited there",
            &[
                |v| fs::write(v.0.join("other-folder/file"), "one").unwrap(),
                |v| fs::remove_file(v.file()).unwrap(),
                |v| symlink("other-folder/file", v.file()).unwrap(),
                |v| fs::write(v.0.join("other-folder/file"), "two").unwrap(),
            ],
        ),
        (
            "the folder replaced",
            &[
                |v| fs::rename(&v.0, v.0.with_extension("old")).unwrap(),
                |v| fs::create_dir(&v.0).unwrap(),
                |v| fs::write(v.file(), "two").unwrap(),
                |v| fs::remove_dir_all(v.0.with_extension("old")).unwrap(),
            ],
        ),
        (
            "written in parts",
            &[
                |v| fs::write(v.0.join("..1/config.conf"), "").unwrap(),
                |v| fs::write(v.0.join("..1/config.conf"), "tw").unwrap(),
                |v| fs::write(v.0.join("..1/config.conf"), "two").unwrap(),
            ],
        ),
        (
            "unreadable for a moment",
            &[
                |v| v.point_to("..none"),
                |v| v.data("..2", "two"),
                |v| v.point_to("..2"),
                |v| v.remove("..1"),
            ],
        ),
    ];

    #[test]
    fn content_changes_of_all_kinds_are_detected_at_any_pace() {
        thread::scope(|scope| {
            for (name, steps) in CHANGES {
                for pause in [0, 1, 30, 90, 150, 400] {
                    scope.spawn(move || {
                        let volume = Volume::new(&format!("{}-{pause}", name.replace(' ', "-")));
                        let mut changed = watch(Some(&volume.as_configured())).unwrap();
                        assert!(changed.try_recv().is_err());
                        for step in steps {
                            step(&volume);
                            thread::sleep(Duration::from_millis(pause));
                        }
                        let deadline = Instant::now() + Duration::from_secs(10);
                        while changed.try_recv().is_err() {
                            assert!(Instant::now() < deadline, "{name}, {pause} ms");
                            thread::sleep(Duration::from_millis(5));
                        }
                    });
                }
            }
        });
    }

    /// The content changes after the configuration was parsed and before the first comparison.
    #[test]
    fn content_change_during_startup_is_detected() {
        let volume = Volume::new("start");
        volume.data("..2", "two");
        volume.point_to("..2");
        let mut changed = watch(Some(&volume.as_configured())).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while changed.try_recv().is_err() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn same_content_in_a_new_file_does_not_count_as_a_change() {
        let volume = Volume::new("same");
        let mut changed = watch(Some(&volume.as_configured())).unwrap();
        volume.data("..2", "one");
        volume.point_to("..2");
        volume.remove("..1");
        thread::sleep(PERIOD * 2);
        assert!(matches!(changed.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    }
}
