//! Starts and stops all parts of the agent.

use std::backtrace::Backtrace;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rulegen_compiler::plan;
use rulegen_config::ProxyMode;
use rulegen_kernel::iptables::Variant;
use rulegen_model::node_name;
use rulegen_net::IpFamily;
use rulegen_os::namespace_lock::{LockError, NamespaceLock};
use rulegen_os::privileges::{self, Capability};
use rulegen_os::{memory, sysctl};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::{Backend, IptablesBackend, Nftables, RecordFile, ToolOptions};
use crate::configured_store::ConfiguredStore;
use crate::conntrack::ConntrackCleaner;
use crate::error::{Error, Result};
use crate::events::{self, Notice, Notices};
use crate::health::{Health, SharedHealth};
use crate::journal::Journal;
use crate::left_out::LeftOutServices;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::queue::{EventQueue, Sink, Waiting};
use crate::reconciler::{Reconciler, ReconcilerState};
use crate::rejected_objects::RejectedObjects;
use crate::service_health::ServiceChecks;
use crate::set_up::{self, log_sysctl_change, log_sysctl_failure, set_up};
use crate::shared::{ClusterState, Shared};
use crate::source::{self, ApiConnection, ObjectSource};
use crate::sync_scheduler::SyncScheduler;
use crate::telemetry::Telemetry;
use crate::{affinity, config_file, counting, kube_proxy, listening, servers, takeover, threads};

/// How long a running sync, and then the record of the tables, may take after a stop request. A
/// commit is atomic, so the kernel holds either the old or the new rules; without a record the next
/// start reads the kernel. The next agent waits for 2 s. The record of a million endpoints takes
/// 0.3 s on an idle machine.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs the agent: keeps the rules in sync until SIGTERM or SIGINT. The rules stay in place.
///
/// # Errors
/// The agent cannot start, the configuration changed, or a part of the agent exited.
pub fn run(options: Options) -> Result<()> {
    end_with_any_thread(options.flush_log);
    log_start(&options);
    if let Err(error) = memory::without_huge_pages() {
        tracing::info!(%error, "cannot disable transparent huge pages, memory use may be higher");
    }
    memory::shorten_purge_delay();
    let _lock = lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::Runtime)?;
    // Before anything on the machine changes.
    let inputs = runtime.block_on(open_inputs(&options.source))?;
    let kube_proxy = kube_proxy::detect();
    let set_up = set_up::prepare(&options)?;
    let variant = Arc::new(OnceLock::new());
    // Capabilities are per thread and inherited: this thread keeps more than those started later.
    let queue = EventQueue::new();
    let own_port = Arc::new(OnceLock::new());
    let take_over = takeover::start(
        &options,
        Arc::clone(&variant),
        Arc::clone(&own_port),
        queue.events.clone(),
    )?;
    give_up_privileges(&options);
    let (telemetry, checks) = telemetry(&options, queue.inputs.waiting())?;
    if let OpenedSource::Api(connection) = &inputs {
        telemetry.metrics.add_rest_client(&connection.metrics)?;
    }
    kube_proxy::watch(kube_proxy, telemetry.clone())?;
    let backend = open_backend(&options, &queue, variant, &own_port, &telemetry.metrics)?;
    threads::watch_addresses(queue.events.clone())?;
    let mut changed = config_file::watch(options.config_file.as_ref())?;
    let store = ConfiguredStore::new(options.config.clone(), (options.read_host)());
    let known = ClusterState {
        store: Shared::new(store),
        rejected_objects: Shared::new(RejectedObjects::default()),
        left_out: Shared::new(LeftOutServices::default()),
    };
    let (notices, notices_to_send) = Notices::new();
    let reconciler = Reconciler {
        known: known.clone(),
        notices: notices.clone(),
        backend,
        conntrack_cleaner: ConntrackCleaner::start(
            options.tcp_reset_removed,
            Arc::clone(&telemetry.metrics),
        )?,
        families: options.families.clone(),
        scheduler: SyncScheduler::new(options.min_sync_period),
        telemetry: telemetry.clone(),
        host: options.read_host,
        started: SystemTime::now(),
        needs_node: matches!(options.source, ObjectSource::Api(_)),
        before_first_sync: Some(set_up),
        after_first_sync: Some(take_over),
        state: ReconcilerState::default(),
    };
    let (ended, mut end) = oneshot::channel();
    let (sink, mut queued) = (queue.objects, queue.inputs);
    threads::start("reconciler", move || {
        reconciler.run(&mut queued);
        let _ = ended.send(());
    })?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = serve(&options, inputs, &telemetry, &known, checks, sink.clone(), (notices, notices_to_send)) => done,
            Ok(()) = &mut changed => Err(Error::ConfigurationChanged),
            _ = &mut end => Err(Error::ReconcilerExited),
        }
    });
    if done.is_ok() {
        sink.stop();
        let _ = runtime.block_on(async { tokio::time::timeout(GRACE, end).await });
    }
    // The remaining tasks are no longer needed, and waiting for them would take too long.
    runtime.shutdown_background();
    done
}

/// The one line that says how the agent runs.
fn log_start(options: &Options) {
    let families: Vec<&str> = options.families.iter().map(|family| family.api_name()).collect();
    let source = match &options.source {
        ObjectSource::Api(_) => "API server".to_owned(),
        ObjectSource::Folder(folder) => folder.display().to_string(),
    };
    tracing::info!(
        version = options.build.version,
        mode = options.config.mode.word(),
        families = families.join(","),
        source,
        config = options.config_file.as_ref().map(|file| file.path.display().to_string()),
        "starting"
    );
}

/// Without one of its threads or tasks the agent would miss events but look healthy. So a panic
/// ends the process; the service manager restarts it, and the rules stay in place meanwhile.
fn end_with_any_thread(flush_log: fn()) {
    std::panic::set_hook(Box::new(move |panic| {
        // Not directly to standard error: its reader may have stopped.
        let thread = thread::current();
        let backtrace = Backtrace::capture();
        tracing::error!(thread = thread.name(), %panic, %backtrace, "thread panicked, exiting");
        flush_log();
        std::process::exit(101);
    }));
}

/// Applies the settings that need more privileges than the agent itself.
///
/// # Errors
/// At least one setting failed; each failure is logged.
pub fn init_only(options: &Options) -> Result<()> {
    let mut is_done = set_up(options);
    let store = ConfiguredStore::new(options.config.clone(), (options.read_host)());
    let plan = plan(&store.snapshot(), &options.config, IpFamily::Ipv4);
    // The agent sets it after the loopback guard rules are written. Here they cannot be written
    // first.
    if plan.guards_loopback {
        match sysctl::set_route_localnet() {
            Ok(change) => change.iter().for_each(log_sysctl_change),
            Err(failure) => {
                log_sysctl_failure(&failure);
                is_done = false;
            }
        }
    }
    if is_done { Ok(()) } else { Err(Error::Settings) }
}

/// The abstract socket name that serves as the lock of a network namespace.
const LOCK: &str = "rulegen-agent";

/// How long to wait for a previous agent, whose last commit the kernel may still be finishing.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The pause before the manifest folder is watched again after a failure.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// Two agents with different settings would revert each other's rules forever.
fn lock() -> Result<Option<NamespaceLock>> {
    match NamespaceLock::acquire(LOCK, LOCK_PATIENCE) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held { holder }) => Err(Error::AlreadyRunning(holder)),
        Err(error) => {
            tracing::warn!(
                lock = LOCK, %error,
                "cannot take the agent lock; a second agent on this node would not be detected"
            );
            Ok(None)
        }
    }
}

/// The source of objects, checked as far as possible without network access.
enum OpenedSource {
    Api(Box<ApiConnection>),
    /// The folder does not have to exist yet.
    Folder(PathBuf),
}

async fn open_inputs(source: &ObjectSource) -> Result<OpenedSource> {
    match source {
        ObjectSource::Api(api) => Ok(OpenedSource::Api(Box::new(source::connect(api).await?))),
        ObjectSource::Folder(folder) => Ok(OpenedSource::Folder(folder.clone())),
    }
}

/// Drops all capabilities that are not needed to change rules.
fn give_up_privileges(options: &Options) {
    let keep: &[Capability] = match options.config.mode {
        ProxyMode::Nftables => &[Capability::CAP_NET_ADMIN],
        // iptables-legacy uses a raw socket.
        ProxyMode::Iptables => &[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW],
    };
    // Not as a macro argument: it is evaluated only if the log level is enabled.
    let privileges = privileges::drop_to(keep);
    let (kept, dropped) = (privileges.kept_names(), privileges.dropped_names());
    if privileges.failed.is_empty() {
        tracing::debug!(kept, dropped, "capabilities dropped");
    } else {
        let failed: Vec<String> = privileges.failed.iter().map(ToString::to_string).collect();
        let failed = failed.join("; ");
        tracing::warn!(kept, dropped, failed, "capabilities not dropped as intended");
    }
}

fn telemetry(
    options: &Options,
    waiting: Waiting,
) -> Result<(Telemetry, watch::Receiver<ServiceChecks>)> {
    let patience = options.sync_period.saturating_mul(2);
    let mut health = Health::new(&options.families, patience, Instant::now());
    health.watch_queue(waiting);
    let metrics = Metrics::new(options.config.mode, &options.families, &options.build)?;
    metrics.read_lost_log_lines(options.lost_log_lines);
    let (checks, desired) = watch::channel(ServiceChecks::default());
    let telemetry = Telemetry {
        health: SharedHealth::new(health),
        metrics: Arc::new(metrics),
        journal: Journal::default(),
        families: options.families.clone(),
        checks,
        node_claims: watch::Sender::default(),
    };
    Ok((telemetry, desired))
}

/// Also subscribes to ruleset events, before the first read, so that no change is missed.
fn open_backend(
    options: &Options,
    queue: &EventQueue,
    variant: Arc<OnceLock<Variant>>,
    own_port: &OnceLock<u32>,
    metrics: &Arc<Metrics>,
) -> Result<Box<dyn Backend>> {
    match options.config.mode {
        ProxyMode::Nftables => {
            let (searches, to_search) = std::sync::mpsc::channel();
            let folder = options.state_folder.clone();
            let record = folder.and_then(|folder| {
                RecordFile::new(folder, &options.build)
                    .inspect_err(|error| tracing::info!(%error, "no record of the tables"))
                    .ok()
            });
            let (table, families) = (options.table.clone(), &options.families);
            let backend = Nftables::open(table, families, searches, record)?;
            let port = *own_port.get_or_init(|| backend.port());
            threads::watch_rules(&backend.tables(), port, queue.events.clone())?;
            let (clients, metrics_of_sets) = (queue.clients.clone(), Arc::clone(metrics));
            affinity::start(backend.tables(), to_search, clients, metrics_of_sets)?;
            if options.config.counts_connections {
                counting::start(backend.tables(), Arc::clone(metrics))?;
            }
            Ok(Box::new(backend))
        }
        ProxyMode::Iptables => {
            let tools = ToolOptions {
                variant: options.iptables_variant,
                access: options.iptables_access,
                lock_timeout: options.iptables_lock_timeout,
            };
            Ok(Box::new(IptablesBackend::new(
                tools,
                &options.families,
                queue.events.clone(),
                variant,
            )))
        }
    }
}

/// Watches objects and serves all ports until a signal arrives.
async fn serve(
    options: &Options,
    inputs: OpenedSource,
    telemetry: &Telemetry,
    known: &ClusterState,
    checks: watch::Receiver<ServiceChecks>,
    sink: Sink,
    notices: (Notices, mpsc::Receiver<Notice>),
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    tokio::select! {
        done = work(options, inputs, telemetry, known, checks, sink, notices) => done,
        _ = terminate.recv() => {
            tracing::info!("received SIGTERM, exiting; rules stay in place");
            Ok(())
        }
        _ = interrupt.recv() => {
            tracing::info!("received SIGINT, exiting; rules stay in place");
            Ok(())
        }
    }
}

/// Returns only if startup fails.
async fn work(
    options: &Options,
    inputs: OpenedSource,
    telemetry: &Telemetry,
    known: &ClusterState,
    checks: watch::Receiver<ServiceChecks>,
    sink: Sink,
    (notices, notices_to_send): (Notices, mpsc::Receiver<Notice>),
) -> Result<()> {
    servers::start(options, telemetry, known, checks, &notices).await?;
    let node = node_name(&options.config.snapshot_options(), &(options.read_host)());
    let claims = telemetry.node_claims.subscribe();
    tokio::spawn(listening::report(claims, node, notices.clone()));
    watch_objects(options, inputs, telemetry, sink, notices_to_send)?;
    notices.send(Notice::Starting);
    std::future::pending().await
}

fn watch_objects(
    options: &Options,
    inputs: OpenedSource,
    telemetry: &Telemetry,
    sink: Sink,
    notices: mpsc::Receiver<Notice>,
) -> Result<()> {
    match inputs {
        OpenedSource::Api(connection) => {
            let node = node_name(&options.config.snapshot_options(), &(options.read_host)());
            tokio::spawn(events::record(connection.client.clone(), node.clone(), notices));
            let metrics = Arc::clone(&telemetry.metrics);
            tokio::spawn(source::watch_api(*connection, node, sink, metrics));
        }
        OpenedSource::Folder(folder) => {
            let (read, if_empty) = (options.read_folder, options.if_empty);
            threads::start("manifests", move || {
                while let Err(error) = source::watch_folder(&folder, read, if_empty, &sink) {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "cannot watch the manifest folder, will retry");
                    thread::sleep(WATCH_RETRY);
                }
            })?;
        }
    }
    Ok(())
}
