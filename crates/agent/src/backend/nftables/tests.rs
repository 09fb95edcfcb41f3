//! The backend on a fake kernel that refuses some Services.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_kernel::nftables::{
    ChangeKind, Commit, ObjectKind, RawKey, TableChange, TouchedChains, TouchedElements, Writer,
};
use rulegen_model::{Host, Kind, Object, StoreEvent};
use rulegen_ruleset::dataplane::RefusalReason;
use rulegen_ruleset::nftables::{self as nft, Element, Key};
use serde_json::{Value, json};

use super::*;
use crate::configured_store::ConfiguredStore;
use crate::metrics::Build;

#[path = "../../../../compiler/tests/properties/fake_kernel.rs"]
#[allow(dead_code, clippy::indexing_slicing, reason = "the property tests use the rest")]
mod fake_kernel;

use fake_kernel::{FakeKernel, services};

impl Kernel for FakeKernel {
    fn port(&self) -> u32 {
        1
    }

    fn has_all(&mut self, _: &[(IpFamily, &Name)]) -> Result<bool, DataplaneError> {
        Ok(true)
    }

    fn missing(&mut self, _: &[&Table]) -> Result<Vec<Missing>, DataplaneError> {
        Ok(Vec::new())
    }

    fn last_bytes(&self) -> usize {
        0
    }

    fn compare_parts(
        &mut self,
        parts: &[TablePart],
    ) -> Result<(Generation, Option<Vec<ComparedTable>>), DataplaneError> {
        self.partial_reads += 1;
        let compared = parts.iter().map(|part| self.compare_part(part)).collect();
        Ok((Generation(self.generation), compared))
    }

    fn read_set(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
    ) -> Result<Option<Set>, DataplaneError> {
        let table = self.tables.get(&(family, table.clone()));
        Ok(table.and_then(|table| table.sets.get(name)?.clone()))
    }

    fn identity(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<Option<RulesetIdentity>, DataplaneError> {
        let with_handle = |(family, name): &(IpFamily, &Name)| {
            self.tables.get(&(*family, (*name).clone()))?;
            Some((*family, (*name).clone(), self.table_handle))
        };
        let tables: Option<Vec<_>> = tables.iter().map(with_handle).collect();
        let generation = Generation(self.generation);
        Ok(tables.map(|tables| RulesetIdentity { namespace: 7, generation, tables }))
    }
}

impl DynamicSets for FakeKernel {
    fn delete_if_present(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
        _: &Set,
        keys: &[Key],
    ) -> Result<(), DataplaneError> {
        let table = self.tables.get_mut(&(family, table.clone()));
        let set = table.and_then(|table| table.sets.get_mut(name)?.as_mut()).unwrap();
        keys.iter().for_each(|key| drop(set.elements.remove(key)));
        Ok(())
    }
}

/// A store, and a backend with a fake kernel.
struct BackendFixture {
    store: ConfiguredStore,
    backend: Nftables<FakeKernel>,
    searches: mpsc::Receiver<ReadClients>,
    now: Instant,
}

impl BackendFixture {
    fn new(services: std::ops::Range<usize>) -> Self {
        let config = ProxyConfig { mode: ProxyMode::Nftables, ..ProxyConfig::default() };
        let families = [IpFamily::Ipv4];
        let (sender, searches) = mpsc::channel();
        let mut bench = Self {
            store: ConfiguredStore::new(config, Host::default()),
            backend: Nftables::new(
                FakeKernel::default(),
                "rulegen".into(),
                &families,
                sender,
                None,
            ),
            searches,
            now: Instant::now(),
        };
        services.for_each(|n| bench.put(n, 1));
        bench
    }

    /// Puts a Service with this number of endpoints.
    fn put(&mut self, n: usize, endpoints: u8) {
        self.put_with(n, 0..endpoints, "None");
    }

    fn put_with(&mut self, n: usize, endpoints: std::ops::Range<u8>, affinity: &str) {
        let name = format!("s{n}");
        let ip = format!("10.96.{}.{}", n / 250, n % 250 + 1);
        let addresses: Vec<Value> = endpoints
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
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "a", "port": 80}],
                     "sessionAffinity": affinity},
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

    /// Syncs. Returns the number of commits and of rehearsals.
    fn sync(&mut self) -> (usize, usize) {
        let kernel = &mut self.backend.kernel;
        (kernel.commits, kernel.rehearsals) = (0, 0);
        let changes = self.store.changes();
        let outcome = self.backend.sync_at(&self.store, &changes, self.now);
        outcome.written.unwrap();
        (self.backend.kernel.commits, self.backend.kernel.rehearsals)
    }

    /// Advances the time to the next retry. Returns the time skipped.
    fn wait(&mut self) -> Duration {
        let next = self.backend.next_retry().unwrap();
        let waited = next - self.now;
        self.now = next;
        waited
    }

    fn refused(&self) -> Vec<String> {
        self.backend.refused().into_iter().map(|(service, _)| service.name.to_string()).collect()
    }

    /// Asserts that the kernel has all Services except these, and is in sync.
    fn holds_all_but(&mut self, out: &[usize]) {
        let ports = self.store.service_ports();
        let mut expected: BTreeSet<String> =
            ports.map(|port| format!("default/{}", port.name.service)).collect();
        expected.retain(|name| !out.iter().any(|n| *name == format!("default/s{n}")));
        assert_eq!(services(&self.backend.kernel.tables), expected);
        let mut names: Vec<String> = out.iter().map(|n| format!("s{n}")).collect();
        names.sort();
        assert_eq!(self.refused(), names);
        let live: Vec<&Table> = self.backend.live.values().map(LiveTable::table).collect();
        let is_settled =
            reconcile(&mut self.backend.kernel, &live, |all| all.iter().all(Transaction::is_empty));
        assert!(is_settled.unwrap(), "the kernel is out of sync");
    }
}

fn read(object: &Value) -> Object {
    let mut objects = rulegen_model::Objects::default();
    let text = object.to_string();
    assert!(rulegen_model::read_manifest("", text.as_bytes(), &mut objects).is_empty());
    rulegen_model::single_objects(&objects).0.remove(0)
}

#[test]
fn first_sync_leaves_out_only_rejected_services() {
    let mut bench = BackendFixture::new(0..500);
    bench.refuse(&[&[7], &[250], &[499], &[100, 101]]);
    let (commits, rehearsals) = bench.sync();
    bench.holds_all_but(&[7, 250, 499, 101]);
    // 1 + 2 k log2(n) trials, and one without Services.
    assert!(rehearsals <= 2 + 2 * 4 * 9, "{rehearsals}");
    assert_eq!(commits, 2);
    // Later changes of other Services are incremental and do not retry the rejected ones.
    bench.put(3, 2);
    bench.put(600, 1);
    assert_eq!(bench.sync(), (1, 0));
    bench.holds_all_but(&[7, 250, 499, 101]);
}

#[test]
fn sync_of_changes_leaves_out_only_rejected_services() {
    let mut bench = BackendFixture::new(0..300);
    bench.sync();
    bench.holds_all_but(&[]);
    bench.refuse(&[&[5], &[400]]);
    // A changed Service and a new one are rejected; others are not.
    bench.put(5, 2);
    (395..405).for_each(|n| bench.put(n, 1));
    bench.put(6, 2);
    let (_, rehearsals) = bench.sync();
    bench.holds_all_but(&[5, 400]);
    // Services that did not change are tried together.
    assert!(rehearsals <= 3 + 2 * 2 * 4, "{rehearsals}");
}

#[test]
fn rest_depends_on_the_cpu_time_of_a_sync() {
    let bench = BackendFixture::new(0..0);
    let milliseconds = Duration::from_millis;
    let rest = |took, cpu| {
        bench.backend.rest_after(SyncCost { took: milliseconds(took), cpu: milliseconds(cpu) })
    };
    // The machine is busy with something else.
    assert_eq!(rest(50, 1), milliseconds(10));
    assert_eq!(rest(50, 50), LONGEST_REST);
}

#[test]
fn rejected_service_is_retried_later_and_when_it_changes() {
    let mut bench = BackendFixture::new(0..50);
    bench.refuse(&[&[5], &[6]]);
    bench.sync();
    // While they are rejected: the commit of the changes (here none), one for both Services and one
    // for each, with growing pauses.
    assert_eq!(bench.wait(), Duration::from_secs(60));
    assert_eq!(bench.sync(), (4, 0));
    assert_eq!(bench.wait(), Duration::from_secs(120));
    assert_eq!(bench.sync(), (4, 0));
    bench.holds_all_but(&[5, 6]);
    // A change is tried at once if the last retry was a while ago.
    bench.now += Duration::from_secs(30);
    bench.put(5, 2);
    assert_eq!(bench.sync(), (2, 0));
    bench.put(5, 3);
    assert_eq!(bench.sync(), (1, 0));
    assert_eq!(bench.wait(), Duration::from_secs(5));
    bench.refuse(&[&[6]]);
    assert_eq!(bench.sync(), (2, 0));
    bench.holds_all_but(&[6]);
    // Without a change it is retried after its pause.
    bench.refuse(&[]);
    bench.wait();
    bench.sync();
    bench.holds_all_but(&[]);
    assert_eq!(bench.backend.next_retry(), None);
}

#[test]
fn rejected_service_is_released_when_deleted() {
    let mut bench = BackendFixture::new(0..50);
    bench.refuse(&[&[5], &[6]]);
    bench.sync();
    bench.delete(5);
    assert_eq!(bench.sync(), (1, 0));
    assert_eq!(bench.refused(), ["s6"]);
    bench.holds_all_but(&[6]);
}

#[test]
fn rejections_that_are_not_about_content_leave_out_no_service() {
    let mut bench = BackendFixture::new(0..50);
    bench.backend.kernel.refuses_all = Some(RefusalReason::Circumstances);
    let changes = bench.store.changes();
    let outcome = bench.backend.sync_at(&bench.store, &changes, bench.now);
    assert!(outcome.written.is_err() && bench.refused().is_empty());
    assert_eq!(bench.backend.kernel.rehearsals, 0);
    bench.backend.kernel.refuses_all = None;
    bench.sync();
    bench.holds_all_but(&[]);
}

/// A Service with session affinity and three endpoints, each with clients.
struct AffinityFixture {
    bench: BackendFixture,
    set: Name,
    /// The numbers of the three endpoints.
    numbers: [u32; 3],
}

impl AffinityFixture {
    fn new() -> Self {
        let mut bench = BackendFixture::new(0..3);
        let set = Name::from("affinity/default/s7/tcp/a");
        let mut numbers_of = |endpoints: std::ops::Range<u8>| -> BTreeSet<u32> {
            bench.put_with(7, endpoints, "ClientIP");
            bench.sync();
            let numbers =
                nft::numbers_looked_up(bench.backend.live.get(IpFamily::Ipv4).unwrap().table());
            numbers.into_iter().filter(|(of, _)| **of == set).map(|(_, number)| number).collect()
        };
        let (one, two, three) = (numbers_of(0..1), numbers_of(0..2), numbers_of(0..3));
        let only = |numbers: BTreeSet<u32>| *numbers.first().unwrap();
        let numbers = [only(one.clone()), only(&two - &one), only(&three - &two)];
        let mut affinity = Self { bench, set, numbers };
        numbers.iter().for_each(|number| affinity.connect(*number, 5));
        assert_eq!(affinity.searches(), []);
        affinity
    }

    fn clients(&mut self) -> &mut BTreeMap<Key, Element> {
        let tables = &mut self.bench.backend.kernel.tables;
        let table = tables.get_mut(&(IpFamily::Ipv4, "rulegen".into())).unwrap();
        &mut table.sets.get_mut(&self.set).unwrap().as_mut().unwrap().elements
    }

    /// Adds this number of clients to an endpoint.
    fn connect(&mut self, number: u32, clients: u8) {
        self.clients().extend(
            keys(number, clients)
                .into_iter()
                .map(|key| (key, Element { data: None, comment: None })),
        );
    }

    fn endpoints(&mut self, endpoints: std::ops::Range<u8>) -> (usize, usize) {
        self.bench.put_with(7, endpoints, "ClientIP");
        self.bench.backend.kernel.reads = 0;
        self.bench.sync()
    }

    fn searches(&self) -> Vec<ReadClients> {
        self.bench.searches.try_iter().collect()
    }

    /// Answers a search like the thread. Returns the number of clients found.
    fn answer(&mut self, search: &ReadClients, is_last: bool) -> usize {
        let is_sought = |value: nft::Value| matches!(value, nft::Value::Number(number) if search.numbers.contains(&number));
        let keys: Vec<Key> =
            self.clients().keys().filter(|key| key.values().any(is_sought)).cloned().collect();
        let (found, name) = (keys.len(), search.name.clone());
        self.bench.backend.delete_clients(Clients { family: search.family, name, keys, is_last });
        found
    }

    /// The number of clients of each endpoint.
    fn counts(&mut self) -> [usize; 3] {
        let numbers = self.numbers;
        let clients = self.clients();
        numbers
            .map(|number| keys(number, 50).iter().filter(|key| clients.contains_key(key)).count())
    }
}

fn keys(number: u32, clients: u8) -> Vec<Key> {
    let address = |n: u8| nft::Value::Address([192, 0, 2, n].into());
    (0..clients).map(|n| Key::from([address(n), nft::Value::Number(number)])).collect()
}

#[test]
fn affinity_clients_of_a_removed_endpoint_are_deleted_after_the_commit() {
    let mut affinity = AffinityFixture::new();
    assert_eq!(affinity.endpoints(0..2), (1, 0));
    assert_eq!(affinity.bench.backend.kernel.reads, 0, "nothing is read before the commit");
    assert_eq!(affinity.counts(), [5, 5, 5]);
    let searches = affinity.searches();
    let [search] = &searches[..] else { panic!("{searches:?}") };
    assert_eq!(search.numbers, BTreeSet::from([affinity.numbers[2]]));
    assert_eq!(affinity.answer(search, true), 5);
    assert_eq!(affinity.counts(), [5, 5, 0]);
    assert_eq!(affinity.searches(), []);
    // A new endpoint causes no search, nor does a Service without affinity.
    affinity.endpoints(0..3);
    affinity.bench.put(1, 2);
    affinity.bench.sync();
    affinity.bench.put(1, 1);
    affinity.bench.sync();
    assert_eq!(affinity.searches(), []);
    assert_eq!(affinity.bench.backend.kernel.reads, 0);
}

#[test]
fn affinity_clients_of_an_endpoint_that_returned_are_kept() {
    let mut affinity = AffinityFixture::new();
    affinity.endpoints(0..2);
    let searches = affinity.searches();
    affinity.endpoints(0..3);
    assert_eq!(affinity.answer(&searches[0], true), 5);
    assert_eq!(affinity.counts(), [5, 5, 5]);
}

#[test]
fn affinity_set_has_one_search_at_a_time() {
    let mut affinity = AffinityFixture::new();
    affinity.endpoints(0..2);
    let first = affinity.searches();
    affinity.endpoints(0..1);
    affinity.endpoints(0..3);
    affinity.endpoints(1..2);
    assert_eq!((first.len(), affinity.searches()), (1, vec![]));
    affinity.answer(&first[0], false);
    assert_eq!(affinity.searches(), [], "the first search continues");
    // It finds clients of an endpoint that returned and was removed again.
    assert_eq!(affinity.counts(), [5, 5, 0]);
    affinity.answer(&first[0], true);
    let second = affinity.searches();
    assert_eq!(second.len(), 1);
    let [zero, _, two] = affinity.numbers;
    assert_eq!(second[0].numbers, BTreeSet::from([zero, two]));
    assert_eq!(affinity.answer(&second[0], true), 5);
    assert_eq!((affinity.counts(), affinity.searches()), ([0, 5, 0], vec![]));
}

#[test]
fn affinity_clients_of_a_recreated_set_are_kept() {
    let mut affinity = AffinityFixture::new();
    affinity.endpoints(0..2);
    let searches = affinity.searches();
    affinity.bench.delete(7);
    affinity.bench.sync();
    affinity.endpoints(0..2);
    affinity.connect(affinity.numbers[2], 3);
    assert_eq!(affinity.answer(&searches[0], true), 3);
    assert_eq!((affinity.counts(), affinity.searches()), ([0, 0, 3], vec![]));
}

/// An agent that stopped and is started again, with a record in a folder of its own.
struct Restart {
    bench: BackendFixture,
    folder: PathBuf,
}

impl Drop for Restart {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Restart {
    /// An agent that is in sync and has seen the events of its commits.
    fn new(label: &str) -> Self {
        let folder = format!("rulegen-record-{}-{label}", std::process::id());
        let mut restart =
            Self { bench: BackendFixture::new(0..20), folder: std::env::temp_dir().join(folder) };
        restart.bench.backend.record = Some(record(&restart.folder));
        restart.bench.sync();
        restart.see_own_commit();
        restart
    }

    fn see_own_commit(&mut self) {
        self.see_commit(1, Vec::new());
    }

    /// Handles the event of the last commit.
    fn see_commit(&mut self, port: u32, changes: Vec<TableChange>) {
        let generation = Generation(self.bench.backend.kernel.generation);
        let writer = Writer { port, ..Writer::default() };
        let commit = Commit {
            generation,
            writer,
            changes,
            chains: Default::default(),
            elements: Default::default(),
        };
        self.bench.backend.on_ruleset_events(&[Event::Commit(commit)]);
    }

    fn stop(&mut self) {
        self.bench.backend.stop();
    }

    /// Starts again and syncs. Returns the number of reads and commits.
    fn start(&mut self) -> (usize, usize) {
        let kernel = std::mem::take(&mut self.bench.backend.kernel);
        let (name, families) = ("rulegen".into(), [IpFamily::Ipv4]);
        let (sender, searches) = mpsc::channel();
        self.bench.searches = searches;
        let record = Some(record(&self.folder));
        self.bench.backend = Nftables::new(kernel, name, &families, sender, record);
        self.bench.backend.kernel.reads = 0;
        let (commits, _) = self.bench.sync();
        let reads = self.bench.backend.kernel.reads;
        self.bench.holds_all_but(&[]);
        (reads, commits)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("nftables")
    }
}

fn record(folder: &Path) -> RecordFile {
    RecordFile::new(folder.to_owned(), &Build::default()).unwrap()
}

/// Another program deletes an element of the table.
fn damage(kernel: &mut FakeKernel) {
    let table = kernel.tables.get_mut(&(IpFamily::Ipv4, "rulegen".into())).unwrap();
    let set = table.sets.get_mut(&Name::from("services")).unwrap().as_mut().unwrap();
    set.elements.pop_first().unwrap();
    kernel.generation += 1;
}

#[test]
fn restart_with_recorded_tables_reads_nothing() {
    let mut restart = Restart::new("same");
    restart.stop();
    assert_eq!(restart.start(), (0, 0));
    // Also after changes, and after commits of other programs to other tables.
    restart.bench.put(3, 2);
    assert_eq!(restart.bench.sync(), (1, 0));
    restart.see_own_commit();
    restart.bench.backend.kernel.generation += 1;
    restart.see_commit(99, Vec::new());
    restart.stop();
    assert_eq!(restart.start(), (0, 0));
    // A change meanwhile is written, and found by reading.
    restart.stop();
    restart.bench.put(4, 2);
    assert_eq!(restart.start(), (1, 1));
}

#[test]
fn restart_reads_tables_that_may_have_changed() {
    type RestartEdit = fn(&mut Restart);
    let before_stop: [(&str, RestartEdit); 6] = [
        ("commit without an event yet", |restart| restart.bench.backend.kernel.generation += 1),
        ("change by another program, without an event yet", |restart| {
            damage(&mut restart.bench.backend.kernel);
        }),
        ("change by another program", |restart| {
            damage(&mut restart.bench.backend.kernel);
            let table = "rulegen".to_owned();
            let (kind, object) = (ChangeKind::Deleted, ObjectKind::Element);
            let name = Some("services".to_owned());
            let change = TableChange { kind, object, family: IpFamily::Ipv4, table, name };
            restart.see_commit(99, vec![change]);
        }),
        ("missed event", |restart| {
            damage(&mut restart.bench.backend.kernel);
            restart.bench.backend.kernel.generation += 1;
            restart.see_commit(99, Vec::new());
        }),
        ("lost events", |restart| {
            damage(&mut restart.bench.backend.kernel);
            restart.bench.backend.on_ruleset_events(&[Event::Lost]);
        }),
        ("no state folder", |restart| restart.bench.backend.record = None),
    ];
    let after_stop: [(&str, RestartEdit); 8] = [
        ("commit by another program", |restart| restart.bench.backend.kernel.generation += 1),
        ("change by another program", |restart| damage(&mut restart.bench.backend.kernel)),
        // As many commits as it takes to come back to the same number.
        ("table created again", |restart| restart.bench.backend.kernel.table_handle += 1),
        ("truncated", |restart| {
            let record = fs::read_to_string(restart.file()).unwrap();
            fs::write(restart.file(), &record[..record.len() - 2]).unwrap();
        }),
        ("longer", |restart| {
            let record = fs::read_to_string(restart.file()).unwrap();
            fs::write(restart.file(), record + "x").unwrap();
        }),
        ("not text", |restart| fs::write(restart.file(), [0xff; 5000]).unwrap()),
        ("missing", |restart| fs::remove_file(restart.file()).unwrap()),
        ("a folder", |restart| {
            fs::remove_file(restart.file()).unwrap();
            fs::create_dir(restart.file()).unwrap();
        }),
    ];
    for (label, change) in before_stop {
        let mut restart = Restart::new("before");
        change(&mut restart);
        restart.stop();
        assert_eq!(restart.start().0, 1, "{label}");
    }
    for (label, change) in after_stop {
        let mut restart = Restart::new("after");
        restart.stop();
        change(&mut restart);
        assert_eq!(restart.start().0, 1, "{label}");
    }
}

#[test]
fn restart_reads_tables_if_any_line_of_the_record_differs() {
    let lines = ["rulegen ", "boot ", "namespace ", "generation ", "table ip rulegen ", "sha256 "];
    for line in lines {
        let mut restart = Restart::new("lines");
        restart.stop();
        let record = fs::read_to_string(restart.file()).unwrap();
        assert_eq!(record.lines().count(), lines.len());
        let changed = record.replacen(line, &format!("{line}1"), 1);
        assert_ne!(changed, record);
        fs::write(restart.file(), changed).unwrap();
        assert_eq!(restart.start().0, 1, "{line}");
    }
}

#[test]
fn agent_with_stale_clients_or_rejected_services_records_nothing() {
    let mut restart = Restart::new("stale");
    restart.bench.put_with(7, 0..2, "ClientIP");
    restart.bench.sync();
    restart.see_own_commit();
    restart.bench.put_with(7, 0..1, "ClientIP");
    restart.bench.sync();
    restart.see_own_commit();
    restart.stop();
    assert!(!restart.file().exists());

    let mut restart = Restart::new("rejected");
    restart.bench.refuse(&[&[5]]);
    restart.bench.put(5, 2);
    restart.bench.sync();
    restart.see_own_commit();
    restart.stop();
    assert!(!restart.file().exists());
}

const TABLE: (IpFamily, &str) = (IpFamily::Ipv4, "rulegen");

/// The table in the kernel.
fn table(kernel: &mut FakeKernel) -> &mut Actual {
    kernel.tables.get_mut(&(TABLE.0, TABLE.1.into())).unwrap()
}

fn set_of<'a>(kernel: &'a mut FakeKernel, name: &str) -> &'a mut Set {
    table(kernel).sets.get_mut(&Name::from(name)).unwrap().as_mut().unwrap()
}

/// The event of a commit that changed these chains, and elements of these keys.
fn foreign_commit(generation: u32, chains: &[&str], keys: &[(&str, &Key)]) -> Event {
    let (family, table) = TABLE;
    let name = |name: &str| (family, table.to_owned(), name.to_owned());
    let mut elements: BTreeMap<_, BTreeSet<RawKey>> = BTreeMap::new();
    for (set, key) in keys {
        elements.entry(name(set)).or_default().insert(RawKey::from(*key));
    }
    let (kind, object) = (ChangeKind::Changed, ObjectKind::Other);
    let change = TableChange { kind, object, family, table: table.to_owned(), name: None };
    Event::Commit(Commit {
        generation: Generation(generation),
        writer: Writer { port: 99, ..Writer::default() },
        changes: vec![change],
        chains: TouchedChains::These(chains.iter().map(|chain| name(chain)).collect()),
        elements: TouchedElements::These(elements),
    })
}

/// Another program changes the kernel. Returns the event.
type Drifting = fn(&mut FakeKernel) -> Event;

const DRIFTS: [(&str, Drifting); 7] = [
    ("an element is deleted", |kernel| {
        let key = set_of(kernel, "services").elements.pop_first().unwrap().0;
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[], &[("services", &key)])
    }),
    ("an element is changed", |kernel| {
        let set = set_of(kernel, "endpoints");
        let key = set.elements.first_key_value().unwrap().0.clone();
        set.elements.first_entry().unwrap().get_mut().comment = Some("other".into());
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[], &[("endpoints", &key)])
    }),
    ("an element is added", |kernel| {
        let key = Key::from([nft::Value::Address([192, 0, 2, 1].into()); 2]);
        set_of(kernel, "hairpins").elements.insert(key.clone(), Element::default());
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[], &[("hairpins", &key)])
    }),
    ("an element is replaced by another", |kernel| {
        let gone = set_of(kernel, "hairpins").elements.pop_first().unwrap().0;
        let key = Key::from([nft::Value::Address([192, 0, 2, 1].into()); 2]);
        set_of(kernel, "hairpins").elements.insert(key.clone(), Element::default());
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[], &[("hairpins", &gone), ("hairpins", &key)])
    }),
    ("a rule is deleted", |kernel| {
        let (name, chain) = table(kernel).chains.iter_mut().next().unwrap();
        let name = name.to_string();
        chain.as_mut().unwrap().rules.clear();
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[&name], &[])
    }),
    ("a chain is added", |kernel| {
        table(kernel).chains.insert("mine".into(), Some(Default::default()));
        kernel.generation += 1;
        foreign_commit(kernel.generation, &["mine"], &[])
    }),
    ("nothing is left of the change", |kernel| {
        let key = set_of(kernel, "services").elements.first_key_value().unwrap().0.clone();
        kernel.generation += 1;
        foreign_commit(kernel.generation, &["services"], &[("services", &key)])
    }),
];

#[test]
fn drift_reads_only_the_parts_that_the_event_names() {
    for (label, drifting) in DRIFTS {
        for is_pending in [false, true] {
            let mut bench = BackendFixture::new(0..20);
            bench.sync();
            let kernel = &mut bench.backend.kernel;
            (kernel.reads, kernel.partial_reads) = (0, 0);
            let event = drifting(kernel);
            assert_eq!(bench.backend.on_ruleset_events(&[event]).len(), 1);
            // A change of the same Services that were damaged comes at the same time.
            if is_pending {
                (0..3).for_each(|n| bench.put(n, 3));
            }
            bench.sync();
            let kernel = &bench.backend.kernel;
            assert_eq!((kernel.reads, kernel.partial_reads), (0, 1), "{label}");
            bench.holds_all_but(&[]);
        }
    }
}

#[test]
fn drift_that_may_be_anywhere_reads_everything() {
    let table_gone: Drifting = |kernel| {
        kernel.tables.clear();
        kernel.generation += 1;
        let mut event = foreign_commit(kernel.generation, &[], &[]);
        if let Event::Commit(commit) = &mut event {
            (commit.chains, commit.elements) = (TouchedChains::Any, TouchedElements::Any);
        }
        event
    };
    let set_gone: Drifting = |kernel| {
        table(kernel).sets.insert("hairpins".into(), None);
        kernel.generation += 1;
        let mut event = foreign_commit(kernel.generation, &[], &[]);
        if let Event::Commit(commit) = &mut event {
            commit.elements = TouchedElements::Any;
        }
        event
    };
    let lost: Drifting = |kernel| {
        set_of(kernel, "services").elements.pop_first();
        kernel.generation += 1;
        Event::Lost
    };
    // The key of another set.
    let undecodable: Drifting = |kernel| {
        let key = Key::from([nft::Value::Port(1)]);
        set_of(kernel, "services").elements.pop_first();
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[], &[("services", &key)])
    };
    let other_set: Drifting = |kernel| {
        let key = Key::from([nft::Value::Port(1)]);
        kernel.generation += 1;
        foreign_commit(kernel.generation, &[], &[("theirs", &key)])
    };
    let drifts = [table_gone, set_gone, lost, undecodable, other_set];
    for (number, drifting) in drifts.into_iter().enumerate() {
        let mut bench = BackendFixture::new(0..20);
        bench.sync();
        bench.backend.kernel.reads = 0;
        let event = drifting(&mut bench.backend.kernel);
        bench.backend.on_ruleset_events(&[event]);
        bench.sync();
        assert_eq!(bench.backend.kernel.reads, 1, "{number}");
        bench.holds_all_but(&[]);
    }
}

#[test]
fn drift_whose_repair_is_overtaken_reads_everything() {
    let mut bench = BackendFixture::new(0..20);
    bench.sync();
    let event = DRIFTS[0].1(&mut bench.backend.kernel);
    bench.backend.on_ruleset_events(&[event]);
    let kernel = &mut bench.backend.kernel;
    kernel.reads = 0;
    kernel.faults = vec![None, None, Some(fake_kernel::Fault::Overtaken)];
    bench.sync();
    assert_eq!(bench.backend.kernel.reads, 1);
    bench.holds_all_but(&[]);
}

#[test]
fn restart_after_a_repaired_drift_reads_nothing() {
    let mut restart = Restart::new("drift");
    let event = DRIFTS[0].1(&mut restart.bench.backend.kernel);
    restart.bench.backend.on_ruleset_events(&[event]);
    // Not yet repaired.
    restart.stop();
    assert!(!restart.file().exists());
    restart.bench.sync();
    restart.see_own_commit();
    restart.stop();
    assert_eq!(restart.start(), (0, 0));
}
