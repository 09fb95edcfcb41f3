//! Network namespaces that are removed when dropped.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::{peak_of, scratch};

pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rulegen-bench-{}-{number}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(name)
    }

    /// Runs a command line. Panics if it fails.
    pub(crate) fn run(&self, command: &str) {
        let done = Command::new("ip")
            .args(["netns", "exec", &self.0, "sh", "-c", command])
            .env("XTABLES_LOCKFILE", scratch().join("lock"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Run time of a command line, in seconds.
    pub(crate) fn time(&self, command: &str) -> f64 {
        let begun = Instant::now();
        self.run(&format!("exec {command}"));
        begun.elapsed().as_secs_f64()
    }

    /// Peak memory of a command line in MB, read from /proc each millisecond until it exits.
    pub(crate) fn peak_megabytes(&self, command: &str) -> f64 {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0])
            .args(command.split(' '))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0.0_f64;
        while child.try_wait().unwrap().is_none() {
            peak = peak.max(peak_of(child.id()).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(1));
        }
        peak
    }

    /// Runs code in the namespace.
    pub(crate) fn inside<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let inside = || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                code()
            };
            scope.spawn(inside).join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}
