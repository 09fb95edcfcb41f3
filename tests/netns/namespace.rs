//! A network namespace that is removed when dropped.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::sched::{CloneFlags, setns};

use crate::common::{Scratch, stderr, stdout};

pub(crate) struct Namespace {
    pub(crate) name: String,
    scratch: Scratch,
    ports_used: AtomicU16,
}

impl Namespace {
    pub(crate) fn new(label: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rulegen-{}-{number}-{label}", std::process::id());
        reap_at_exit(&name);
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let made = made.expect("requires iproute2 (apt-get install iproute2)");
        assert!(
            made.status.success(),
            "cannot create a network namespace (are you root?): {}",
            stderr(&made)
        );
        let ports_used = AtomicU16::new(0);
        let namespace = Self { scratch: Scratch::new(&name), name, ports_used };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Runs a command line in the namespace. Panics if it fails.
    pub(crate) fn run(&self, command: &str) -> String {
        let output = self.shell(command);
        assert!(output.status.success(), "{}: {command}: {}", self.name, stderr(&output));
        stdout(&output)
    }

    /// Runs a command line in the namespace. iptables uses a lock file of the namespace,
    /// independent of other tests and of the machine.
    pub(crate) fn shell(&self, command: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.name, "sh", "-c", command])
            .env("XTABLES_LOCKFILE", self.lock_file())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs the program in the namespace.
    pub(crate) fn rulegen(&self, arguments: &str) -> Output {
        self.shell(&format!("{} {arguments}", env!("CARGO_BIN_EXE_rulegen")))
    }

    pub(crate) fn lock_file(&self) -> String {
        self.scratch.0.join("xtables.lock").to_str().unwrap().to_owned()
    }

    /// Writes a file that is removed with the namespace.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        self.scratch.write(name, content)
    }

    /// Makes a folder that is removed with the namespace.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.0.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// The least recently used client port of the namespace. The kernel would choose at random, and
    /// conntrack may still have an entry for the previous connection of that port. That entry would
    /// decide where the new connection goes.
    pub(crate) fn next_port(&self) -> u16 {
        const FIRST: u16 = 33_000;
        FIRST + self.ports_used.fetch_add(1, Ordering::Relaxed) % (u16::MAX - FIRST)
    }

    /// Runs code in the namespace. Its sockets stay in the namespace.
    pub(crate) fn inside<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
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
    /// Kills all processes in the namespace, because they cannot be found without its name.
    fn drop(&mut self) {
        let end =
            "for pid in $(ip netns pids \"$0\"); do kill -9 \"$pid\"; done; ip netns del \"$0\"";
        let _ = Command::new("sh").args(["-c", end, &self.name]).output();
    }
}

/// Registers a namespace with a process that outlives this one, kills what runs in the namespace
/// and removes it. This also works after SIGKILL, when no destructor runs.
fn reap_at_exit(name: &str) {
    static REAPER: OnceLock<Mutex<(Child, ChildStdin)>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let script = "while read -r name; do names=\"$names $name\"; done\n\
                      for name in $names; do\n\
                      for pid in $(ip netns pids \"$name\" 2>/dev/null); do kill -9 \"$pid\"; done\n\
                      ip netns del \"$name\" 2>/dev/null; done";
        let mut child = Command::new("setsid")
            .args(["sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        Mutex::new((child, stdin))
    });
    writeln!(reaper.lock().unwrap().1, "{name}").unwrap();
}

/// Sets a flag at the end of its scope, even if an assertion fails. `thread::scope` waits for its
/// threads, so the test would hang if a thread waited for the flag.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
