//! The backend on a twin of the kernel that refuses some Services.

use std::time::Duration;

use rulegen_model::{Host, Kind, Object, ProxyConfig, ProxyMode, StoreEvent};
use serde_json::{Value, json};

use super::*;

#[path = "../../../../compiler/tests/properties/twin.rs"]
#[allow(dead_code, clippy::indexing_slicing, reason = "the properties use all of it")]
mod twin;

use twin::{Twin, services};

impl Kernel for Twin {
    fn port(&self) -> u32 {
        1
    }

    fn has_all(&mut self, _: &[(IpFamily, &Name)]) -> Result<bool, Error> {
        Ok(true)
    }

    fn missing(&mut self, _: &[&Table]) -> Result<Vec<Missing>, Error> {
        Ok(Vec::new())
    }

    fn read_elements(
        &mut self,
        _: IpFamily,
        _: &Name,
        _: &Name,
        _: &mut Set,
    ) -> Result<bool, Error> {
        Ok(true)
    }

    fn last_bytes(&self) -> usize {
        0
    }
}

/// A store, and a kernel that follows it.
struct Bench {
    store: Store,
    backend: Nftables<Twin>,
    now: Instant,
}

impl Bench {
    fn new(services: std::ops::Range<usize>) -> Self {
        let config = ProxyConfig { mode: ProxyMode::Nftables, ..ProxyConfig::default() };
        let families = [IpFamily::Ipv4];
        let mut bench = Self {
            store: Store::new(config, Host::default()),
            backend: Nftables::new(Twin::default(), "rulegen".into(), &families),
            now: Instant::now(),
        };
        services.for_each(|n| bench.put(n, 1));
        bench
    }

    /// A Service with so many endpoints.
    fn put(&mut self, n: usize, endpoints: u8) {
        let name = format!("s{n}");
        let ip = format!("10.96.{}.{}", n / 250, n % 250 + 1);
        let addresses: Vec<Value> = (0..endpoints)
            .map(|e| json!({"addresses": [format!("10.{}.{}.{}", e + 1, n / 250, n % 250 + 1)]}))
            .collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "default",
                         "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "a", "port": 80}], "endpoints": addresses,
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "a", "port": 80}]},
        });
        for object in [service, slice] {
            self.store.take_in(StoreEvent::Put(Box::new(read(&object))));
        }
    }

    fn delete(&mut self, n: usize) {
        let key = ObjectKey::new("default", &format!("s{n}"));
        self.store.take_in(StoreEvent::Gone(Kind::Service, key));
    }

    fn refuse(&mut self, sets: &[&[usize]]) {
        let name = |n: &usize| format!("default/s{n}");
        let set = |set: &&[usize]| set.iter().map(name).collect();
        self.backend.kernel.refuses = sets.iter().map(set).collect();
    }

    /// Syncs, and says how many commits and rehearsals that took.
    fn sync(&mut self) -> (usize, usize) {
        let kernel = &mut self.backend.kernel;
        (kernel.commits, kernel.rehearsals) = (0, 0);
        let changes = self.store.changes();
        let outcome = self.backend.sync_at(&self.store, &changes, self.now);
        outcome.written.unwrap();
        (self.backend.kernel.commits, self.backend.kernel.rehearsals)
    }

    /// Waits until something in quarantine is due.
    fn wait(&mut self) -> Duration {
        let next = self.backend.next_retry().unwrap();
        let waited = next - self.now;
        self.now = next;
        waited
    }

    fn refused(&self) -> Vec<String> {
        self.backend.refused().into_iter().map(|(service, _)| service.name.to_string()).collect()
    }

    /// The kernel holds all Services but these, and what is held is what is wanted.
    fn holds_all_but(&mut self, out: &[usize]) {
        let ports = self.store.service_ports();
        let mut wanted: BTreeSet<String> =
            ports.map(|port| format!("default/{}", port.name.service)).collect();
        wanted.retain(|name| !out.iter().any(|n| *name == format!("default/s{n}")));
        assert_eq!(services(&self.backend.kernel.tables), wanted);
        let mut names: Vec<String> = out.iter().map(|n| format!("s{n}")).collect();
        names.sort();
        assert_eq!(self.refused(), names);
        let live: Vec<&Table> = self.backend.live.values().map(LiveTable::table).collect();
        let is_settled =
            reconcile(&mut self.backend.kernel, &live, |all| all.iter().all(Transaction::is_empty));
        assert!(is_settled.unwrap(), "the tables are not what the kernel holds");
    }
}

fn read(object: &Value) -> Object {
    let mut objects = rulegen_model::Objects::default();
    let text = object.to_string();
    assert!(rulegen_model::read_manifest("", text.as_bytes(), &mut objects).is_empty());
    rulegen_model::single_objects(&objects).0.remove(0)
}

#[test]
fn at_the_start_all_but_the_culprits_are_applied() {
    let mut bench = Bench::new(0..500);
    bench.refuse(&[&[7], &[250], &[499], &[100, 101]]);
    let (commits, rehearsals) = bench.sync();
    bench.holds_all_but(&[7, 250, 499, 101]);
    // 1 + 2 k log2(n) trials, and one of no Service.
    assert!(rehearsals <= 2 + 2 * 4 * 9, "{rehearsals}");
    assert_eq!(commits, 2);
    // Later changes of others are small steps, and say nothing of those.
    bench.put(3, 2);
    bench.put(600, 1);
    assert_eq!(bench.sync(), (1, 0));
    bench.holds_all_but(&[7, 250, 499, 101]);
}

#[test]
fn of_changes_only_the_refused_is_left_out() {
    let mut bench = Bench::new(0..300);
    bench.sync();
    bench.holds_all_but(&[]);
    bench.refuse(&[&[5], &[400]]);
    // One that was there before, a new one, and others.
    bench.put(5, 2);
    (395..405).for_each(|n| bench.put(n, 1));
    bench.put(6, 2);
    let (_, rehearsals) = bench.sync();
    bench.holds_all_but(&[5, 400]);
    // Those that did not change are looked at as one.
    assert!(rehearsals <= 3 + 2 * 2 * 4, "{rehearsals}");
}

#[test]
fn a_refused_service_is_tried_again_later_and_when_it_changes() {
    let mut bench = Bench::new(0..50);
    bench.refuse(&[&[5], &[6]]);
    bench.sync();
    // While it is refused: the commit of what changed, here nothing, one for both and one for each,
    // with growing pauses.
    assert_eq!(bench.wait(), Duration::from_secs(60));
    assert_eq!(bench.sync(), (4, 0));
    assert_eq!(bench.wait(), Duration::from_secs(120));
    assert_eq!(bench.sync(), (4, 0));
    bench.holds_all_but(&[5, 6]);
    // A change, at once if the last time was a while ago.
    bench.now += Duration::from_secs(30);
    bench.put(5, 2);
    assert_eq!(bench.sync(), (2, 0));
    bench.put(5, 3);
    assert_eq!(bench.sync(), (1, 0));
    assert_eq!(bench.wait(), Duration::from_secs(5));
    bench.refuse(&[&[6]]);
    assert_eq!(bench.sync(), (2, 0));
    bench.holds_all_but(&[6]);
    // In time without a change.
    bench.refuse(&[]);
    bench.wait();
    bench.sync();
    bench.holds_all_but(&[]);
    assert_eq!(bench.backend.next_retry(), None);
}

#[test]
fn a_refused_service_that_goes_is_forgotten() {
    let mut bench = Bench::new(0..50);
    bench.refuse(&[&[5], &[6]]);
    bench.sync();
    bench.delete(5);
    assert_eq!(bench.sync(), (1, 0));
    assert_eq!(bench.refused(), ["s6"]);
    bench.holds_all_but(&[6]);
}

#[test]
fn nobody_is_blamed_for_what_is_no_matter_of_content() {
    let mut bench = Bench::new(0..50);
    bench.backend.kernel.is_owned = true;
    let changes = bench.store.changes();
    let outcome = bench.backend.sync_at(&bench.store, &changes, bench.now);
    assert!(outcome.written.is_err() && bench.refused().is_empty());
    assert_eq!(bench.backend.kernel.rehearsals, 0);
    bench.backend.kernel.is_owned = false;
    bench.sync();
    bench.holds_all_but(&[]);
}
