//! The host apart from rules: sysctls, addresses, and capabilities of the process.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rulegen_kernel::addresses::AddressWatcher;
use rulegen_kernel::nftables::NfTables;
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_os::privileges::{Capability, PrivilegeFailure, drop_to};
use rulegen_os::sysctl::{self, Applied, ConntrackSettings, Setting, Sysctl};
use rulegen_ruleset::nftables::Name;

use crate::common::{stderr, stdout};
use crate::namespace::Namespace;

/// Only sysctls that each namespace has for itself. The size of the conntrack table is global.
const NAMESPACE_SETTINGS: ConntrackSettings = ConntrackSettings {
    max_per_core: 0,
    min: 0,
    tcp_established: Duration::from_secs(4_711),
    tcp_close_wait: Duration::from_secs(815),
    tcp_be_liberal: true,
    udp_timeout: Duration::from_secs(31),
    udp_stream_timeout: Duration::from_secs(121),
};

fn messages(applied: &Applied) -> Vec<String> {
    let changed = applied.changed.iter().map(|change| format!("{change:?}"));
    changed.chain(applied.failed.iter().map(ToString::to_string)).collect()
}

#[test]
fn sysctls_are_set_in_own_namespace_only_and_written_once() {
    let namespace = Namespace::new("sysctl");
    let settings = NAMESPACE_SETTINGS.desired(1);
    let values = |settings: &[Setting]| -> Vec<u64> {
        settings.iter().map(|setting| setting.sysctl().read().unwrap()).collect()
    };
    let global_values = values(&settings);
    let global_route_localnet = Sysctl::ROUTE_LOCALNET.read().unwrap();
    namespace.inside(|| {
        let first = sysctl::apply(&settings);
        assert_eq!((first.changed.len(), first.failed.len()), (5, 0), "{:?}", messages(&first));
        let second = sysctl::apply(&settings);
        assert_eq!(messages(&second), Vec::<String>::new());
        let change = sysctl::set_route_localnet().unwrap().unwrap();
        assert_eq!((change.sysctl, change.old, change.new), (Sysctl::ROUTE_LOCALNET, 0, 1));
        assert_eq!(sysctl::set_route_localnet().unwrap(), None);
        assert!(host::routes_localnet());
    });
    let seen = namespace.run(
        "cd /proc/sys/net/netfilter; cat nf_conntrack_tcp_timeout_established \
         nf_conntrack_tcp_timeout_close_wait nf_conntrack_tcp_be_liberal nf_conntrack_udp_timeout \
         nf_conntrack_udp_timeout_stream",
    );
    assert_eq!(seen, "4711\n815\n1\n31\n121\n");
    assert_eq!(values(&settings), global_values);
    assert_eq!(Sysctl::ROUTE_LOCALNET.read().unwrap(), global_route_localnet);
}

/// As in an unprivileged container: values that an init container has set are accepted.
#[test]
fn sysctls_read_only_fail_only_for_wrong_values() {
    let namespace = Namespace::new("sysctl-read-only");
    namespace.inside(|| {
        let [close_wait, ..] = &sysctl::apply(&NAMESPACE_SETTINGS.desired(1)).changed[1..] else {
            panic!("no sysctl was set");
        };
        assert_eq!(close_wait.new, 815);
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let read_only = "mount --make-rprivate / && mount --bind /proc/sys /proc/sys && \
                         mount -o remount,bind,ro /proc/sys";
        succeed("sh", &["-c", read_only]);
        assert_eq!(messages(&sysctl::apply(&NAMESPACE_SETTINGS.desired(1))), Vec::<String>::new());
        let other =
            ConntrackSettings { tcp_close_wait: Duration::from_secs(816), ..NAMESPACE_SETTINGS };
        let [failure] = &messages(&sysctl::apply(&other.desired(1)))[..] else {
            panic!("not exactly one failure");
        };
        let start = "cannot set net.netfilter.nf_conntrack_tcp_timeout_close_wait to 816 (current \
                     value 815): Read-only file system";
        assert!(failure.starts_with(start), "{failure}");
        assert!(failure.contains("rulegen agent --init-only"), "{failure}");
        let failure = sysctl::set_route_localnet().unwrap_err();
        assert_eq!((failure.old, failure.new), (Some(0), 1));
    });
}

/// The size of the conntrack table is global. Other namespaces can read it but not change it.
#[test]
fn sysctl_conntrack_max_in_namespace_fails_without_stopping_others() {
    let namespace = Namespace::new("sysctl-max");
    namespace.inside(|| {
        let probe = ConntrackSettings { max_per_core: 1, min: 1, ..NAMESPACE_SETTINGS };
        let max = probe.desired(1)[0].sysctl();
        let before = max.read().unwrap();
        let one_more = u32::try_from(before + 1).unwrap();
        let applied = sysctl::apply(&ConntrackSettings { min: one_more, ..probe }.desired(1));
        assert_eq!(applied.changed.len(), 5, "{:?}", messages(&applied));
        assert_eq!(applied.failed[0].sysctl, max);
        assert_eq!(applied.failed[0].old, Some(before));
        assert_eq!(max.read().unwrap(), before);
    });
}

const SOON: Option<Duration> = Some(Duration::from_secs(10));

#[test]
fn address_watcher_reports_address_changes_of_both_families_only() {
    let namespace = Namespace::new("addresses");
    // Otherwise interfaces get addresses by themselves at some time.
    namespace.run(
        "ip link add one type veth peer name other && \
         ip link set one addrgenmode none up && ip link set other addrgenmode none up",
    );
    let mut watcher = namespace.inside(|| AddressWatcher::open().unwrap());
    drain(&mut watcher);
    for (address, options) in [("192.0.2.7/24", ""), ("2001:db8::7/64", "nodad")] {
        let ip = address.split('/').next().unwrap().parse().unwrap();
        let is_there = || namespace.inside(|| host::addresses().unwrap().contains(&ip));
        namespace.run(&format!("ip address add {address} dev one {options}"));
        assert!(watcher.next(SOON).unwrap(), "added {address}: no event");
        assert!(is_there());
        drain(&mut watcher);
        namespace.run(&format!("ip address del {address} dev one"));
        assert!(watcher.next(SOON).unwrap(), "deleted {address}: no event");
        assert!(!is_there());
        drain(&mut watcher);
    }
    // Other events than addresses are not reported, and neither are addresses of other namespaces.
    namespace.run("ip link set one mtu 1400 && ip route add 198.51.100.0/24 dev lo");
    Namespace::new("addresses-of-others").run("ip address add 192.0.2.8/24 dev lo");
    let start = Instant::now();
    let timeout = Duration::from_millis(200);
    assert!(!watcher.next(Some(timeout)).unwrap());
    assert!(start.elapsed() >= timeout);
}

#[test]
fn address_watcher_buffer_overflow_is_reported_once() {
    let namespace = Namespace::new("addresses-many");
    let mut watcher = namespace.inside(|| AddressWatcher::open().unwrap());
    let adds: String = (0..2_000)
        .map(|n| format!("address add 10.9.{}.{}/32 dev lo\n", n / 250, n % 250))
        .collect();
    let file = namespace.file("many", &adds);
    namespace.run(&format!("ip -batch {file}"));
    assert!(watcher.next(SOON).unwrap());
    assert!(!watcher.next(Some(Duration::ZERO)).unwrap());
    // The watcher still works after it lost events.
    namespace.run("ip address add 192.0.2.7/32 dev lo");
    assert!(watcher.next(SOON).unwrap());
}

/// Reads all pending events. One change may cause several.
fn drain(watcher: &mut AddressWatcher) {
    while watcher.next(Some(Duration::from_millis(100))).unwrap() {}
}

/// Capabilities belong to the thread, which ends with the test.
#[test]
fn capabilities_after_drop_suffice_for_nft_and_iptables() {
    let namespace = Namespace::new("drop");
    let table = (IpFamily::Ipv4, Name::from("rulegen"));
    for (keep, programs) in [
        (vec![Capability::CAP_NET_ADMIN], &["nft"][..]),
        (vec![Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW], &["nft", "legacy"]),
    ] {
        namespace.run("nft add table ip rulegen");
        namespace.inside(|| {
            let privileges = drop_to(&keep);
            assert_eq!(privileges.kept, keep, "{privileges:?}");
            assert!(privileges.failed.is_empty(), "{privileges:?}");
            assert!(privileges.dropped.contains(&Capability::CAP_SYS_ADMIN), "{privileges:?}");
            let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let of_program = stdout(&succeed("cat", &["/proc/self/status"]));
            let mask = keep.iter().map(Capability::bitmask).sum::<u64>();
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                let wanted = format!("{set}:\t{mask:016x}");
                assert!(own.contains(&wanted), "{wanted} is not in {own}");
                assert!(of_program.contains(&wanted), "{wanted} is not in {of_program}");
            }
            assert!(own.contains("NoNewPrivs:\t1"), "{own}");
            let deleted = NfTables::open().unwrap().delete(std::slice::from_ref(&table)).unwrap();
            assert_eq!(deleted, std::slice::from_ref(&table));
            AddressWatcher::open().unwrap();
            for variant in programs {
                for program in ["iptables", "ip6tables"] {
                    let program = format!("{program}-{variant}");
                    let run = |arguments: &[&str]| {
                        let mut command = Command::new(&program);
                        let command = command.args(arguments);
                        checked(command.env("XTABLES_LOCKFILE", namespace.lock_file()))
                    };
                    run(&["-t", "nat", "-N", "OURS"]);
                    let listed = stdout(&run(&["-t", "nat", "-S"]));
                    assert!(listed.contains("-N OURS"), "{program}: {listed}");
                    run(&["-t", "nat", "-X", "OURS"]);
                }
            }
            // A child process does not get the capabilities back.
            let refused = Command::new("unshare").args(["--mount", "true"]).output().unwrap();
            assert!(!refused.status.success());
        });
    }
}

/// A second drop has no effect, and reports a capability that is missing.
#[test]
fn capabilities_already_dropped_are_reported_missing() {
    let namespace = Namespace::new("drop-twice");
    namespace.inside(|| {
        drop_to(&[Capability::CAP_NET_ADMIN]);
        let again = drop_to(&[Capability::CAP_NET_ADMIN]);
        assert_eq!(again.kept, [Capability::CAP_NET_ADMIN]);
        assert!(again.dropped.is_empty() && again.failed.is_empty(), "{again:?}");
        let more = drop_to(&[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW]);
        assert_eq!(more.kept, [Capability::CAP_NET_ADMIN]);
        let [PrivilegeFailure::Missing(Capability::CAP_NET_RAW)] = more.failed[..] else {
            panic!("{more:?}")
        };
    });
}

fn succeed(program: &str, arguments: &[&str]) -> Output {
    checked(Command::new(program).args(arguments))
}

fn checked(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    output
}
