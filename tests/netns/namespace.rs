//! A network namespace that goes with its test.

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
        let made = made.expect("iproute2 is needed (apt-get install iproute2)");
        assert!(
            made.status.success(),
            "a network namespace is needed (are you root?): {}",
            stderr(&made)
        );
        let ports_used = AtomicU16::new(0);
        let namespace = Self { scratch: Scratch::new(&name), name, ports_used };
        namespace.run("ip link set lo up");
        namespace
    }

    /// A command line in the namespace; it must succeed.
    pub(crate) fn run(&self, command: &str) -> String {
        let output = self.shell(command);
        assert!(output.status.success(), "{}: {command}: {}", self.name, stderr(&output));
        stdout(&output)
    }

    /// A command line in the namespace, whatever comes of it. The lock of iptables is the
    /// namespace's own, so that neither other tests nor the machine are in the way.
    pub(crate) fn shell(&self, command: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.name, "sh", "-c", command])
            .env("XTABLES_LOCKFILE", self.lock_file())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The program, in the namespace.
    pub(crate) fn rulegen(&self, arguments: &str) -> Output {
        self.shell(&format!("{} {arguments}", env!("CARGO_BIN_EXE_rulegen")))
    }

    pub(crate) fn lock_file(&self) -> String {
        self.scratch.0.join("xtables.lock").to_str().unwrap().to_owned()
    }

    /// A file that goes with the namespace.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        self.scratch.write(name, content)
    }

    /// A folder that goes with it, still empty.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.0.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// The port of the namespace's clients that was not used for longest. The kernel chooses at random,
    /// also one whose last connection conntrack still knows: that one then gets what the last one
    /// got, whatever the rules are by now.
    pub(crate) fn next_port(&self) -> u16 {
        const FIRST: u16 = 33_000;
        FIRST + self.ports_used.fetch_add(1, Ordering::Relaxed) % (u16::MAX - FIRST)
    }

    /// Runs code in the namespace. Sockets made in it stay there, wherever they are used.
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
    /// Ends what still runs in it: without the name, nothing finds these processes.
    fn drop(&mut self) {
        let end =
            "for pid in $(ip netns pids \"$0\"); do kill -9 \"$pid\"; done; ip netns del \"$0\"";
        let _ = Command::new("sh").args(["-c", end, &self.name]).output();
    }
}

/// Names a namespace to a process that waits for the end of this one, and then ends what still runs
/// in the namespace and removes it: also after a kill, which no destructor sees.
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

/// Sets a flag at the end of its scope, also when an assertion fails there: `thread::scope` waits
/// for its threads, so a thread that runs until it is stopped would hang the test.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
