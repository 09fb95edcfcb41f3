//! Tests of each kind of change to a folder, with and without inotify.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A folder with one file that is read, and a folder `beside` outside of it.
struct Lab {
    root: PathBuf,
    folder: PathBuf,
}

impl Lab {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rulegen-folder-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&root);
        let folder = root.join("folder");
        for part in ["folder/..1", "folder/..2", "other", "beside"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        fs::write(folder.join("..1/linked.yaml"), "one").unwrap();
        fs::write(folder.join("..2/linked.yaml"), "two").unwrap();
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/linked.yaml", folder.join("linked.yaml")).unwrap();
        fs::write(folder.join("plain.yaml"), "one").unwrap();
        fs::write(root.join("beside/target.yaml"), "one").unwrap();
        symlink(root.join("beside/target.yaml"), folder.join("away.yaml")).unwrap();
        fs::write(root.join("other/plain.yaml"), "two").unwrap();
        Self { root, folder }
    }

    fn swap(&self, to: &str) {
        let temporary = self.folder.join("..data_tmp");
        symlink(to, &temporary).unwrap();
        fs::rename(&temporary, self.folder.join("..data")).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml")
}

type FolderChange = (&'static str, fn(&Lab));

const CHANGES: [FolderChange; 13] = [
    ("edited in place", |lab| fs::write(lab.folder.join("plain.yaml"), "two").unwrap()),
    ("replaced by rename", |lab| {
        fs::write(lab.root.join("new"), "two").unwrap();
        fs::rename(lab.root.join("new"), lab.folder.join("plain.yaml")).unwrap();
    }),
    ("removed", |lab| fs::remove_file(lab.folder.join("plain.yaml")).unwrap()),
    ("removed and created", |lab| {
        fs::remove_file(lab.folder.join("plain.yaml")).unwrap();
        fs::write(lab.folder.join("plain.yaml"), "two").unwrap();
    }),
    ("added", |lab| fs::write(lab.folder.join("more.yaml"), "two").unwrap()),
    ("swapped as kubelet does", |lab| {
        lab.swap("..2");
        fs::remove_dir_all(lab.folder.join("..1")).unwrap();
    }),
    ("swapped twice", |lab| {
        lab.swap("..2");
        fs::create_dir(lab.folder.join("..3")).unwrap();
        fs::write(lab.folder.join("..3/linked.yaml"), "three").unwrap();
        lab.swap("..3");
        fs::remove_dir_all(lab.folder.join("..1")).unwrap();
        fs::remove_dir_all(lab.folder.join("..2")).unwrap();
    }),
    ("the target of a link edited", |lab| {
        fs::write(lab.root.join("beside/target.yaml"), "two").unwrap();
    }),
    ("the target of a link replaced", |lab| {
        fs::write(lab.root.join("new"), "two").unwrap();
        fs::rename(lab.root.join("new"), lab.root.join("beside/target.yaml")).unwrap();
    }),
    ("the folder removed", |lab| fs::remove_dir_all(&lab.folder).unwrap()),
    ("the folder removed and created", |lab| {
        fs::remove_dir_all(&lab.folder).unwrap();
        fs::create_dir(&lab.folder).unwrap();
        fs::write(lab.folder.join("plain.yaml"), "two").unwrap();
    }),
    ("the folder replaced by another", |lab| {
        fs::rename(&lab.folder, lab.root.join("old")).unwrap();
        fs::rename(lab.root.join("other"), &lab.folder).unwrap();
    }),
    ("the folder replaced by a link to another", |lab| {
        fs::rename(&lab.folder, lab.root.join("old")).unwrap();
        symlink(lab.root.join("other"), &lab.folder).unwrap();
    }),
];

/// A watcher without inotify, as on a machine with no free inotify instance.
fn without_inotify(folder: &Path) -> FolderWatcher {
    let mut watcher = FolderWatcher::open(folder, is_yaml);
    (watcher.inotify, watcher.watch) = (None, None);
    watcher.refusal = Some(Errno::EMFILE);
    watcher
}

const SOON: Option<Duration> = Some(Duration::from_secs(10));

#[test]
fn folder_change_of_each_kind_is_noticed_with_and_without_inotify() {
    thread::scope(|scope| {
        for (name, change) in CHANGES {
            for has_inotify in [true, false] {
                scope.spawn(move || {
                    let lab = Lab::new();
                    let mut watcher = match has_inotify {
                        true => FolderWatcher::open(&lab.folder, is_yaml),
                        false => without_inotify(&lab.folder),
                    };
                    change(&lab);
                    assert!(watcher.wait(SOON).unwrap(), "{name}, inotify: {has_inotify}");
                    // The watch still works afterwards.
                    while watcher.wait(Some(SCAN_INTERVAL * 2)).unwrap() {}
                    fs::create_dir_all(&lab.folder).unwrap();
                    fs::write(lab.folder.join("later.yaml"), "x").unwrap();
                    assert!(watcher.wait(SOON).unwrap(), "{name}, later, inotify: {has_inotify}");
                });
            }
        }
    });
}

#[test]
fn folder_may_be_created_later() {
    let lab = Lab::new();
    let folder = lab.root.join("none/at/all");
    let mut watcher = FolderWatcher::open(&folder, is_yaml);
    assert!(!watcher.wait(Some(Duration::ZERO)).unwrap());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.yaml"), "x").unwrap();
    assert!(watcher.wait(SOON).unwrap());
}

#[test]
fn folder_without_changes_reports_none() {
    thread::scope(|scope| {
        for open in [|folder: &Path| FolderWatcher::open(folder, is_yaml), without_inotify] {
            scope.spawn(move || {
                let lab = Lab::new();
                let mut watcher = open(&lab.folder);
                // Until the first scan is confirmed, and some time longer.
                let _ = watcher.wait(Some(SCAN_INTERVAL));
                assert!(!watcher.wait(Some(SCAN_INTERVAL * 2)).unwrap());
                // A scan ignores files that are not read.
                fs::write(lab.root.join("beside/swap"), "x").unwrap();
                assert!(!watcher.wait(Some(SCAN_INTERVAL * 2)).unwrap());
            });
        }
    });
}

/// A change is reported once, not by inotify and then by a scan again.
#[test]
fn folder_change_is_reported_once() {
    let lab = Lab::new();
    let mut watcher = FolderWatcher::open(&lab.folder, is_yaml);
    fs::write(lab.folder.join("plain.yaml"), "two").unwrap();
    assert!(watcher.wait(SOON).unwrap());
    assert!(!watcher.wait(Some(SCAN_INTERVAL * 3)).unwrap());
}

/// A writer that pauses is waited for, also without inotify.
#[test]
fn folder_scan_waits_for_a_growing_file_without_inotify() {
    let lab = Lab::new();
    let mut watcher = without_inotify(&lab.folder);
    while watcher.is_being_written() {
        let _ = watcher.wait(Some(SETTLE_TIME));
    }
    let file = lab.folder.join("plain.yaml");
    for part in 0..6 {
        fs::write(&file, "x".repeat(part + 10)).unwrap();
        assert!(!watcher.wait(Some(SETTLE_TIME * 2 / 3)).unwrap(), "part {part}");
        let _ = watcher.writes().unwrap();
        assert!(watcher.is_being_written(), "part {part}");
    }
    assert!(watcher.wait(SOON).unwrap());
    assert!(!watcher.is_being_written());
}

#[test]
fn folder_without_inotify_names_the_limit() {
    let lab = Lab::new();
    let refusal = without_inotify(&lab.folder).refusal();
    assert!(refusal.is_some_and(|text| text.contains("fs.inotify.max_user_instances")));
}
