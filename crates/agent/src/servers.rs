//! The ports that the agent listens on.

use std::collections::BTreeSet;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rulegen_config::{BindAddress, ProxyMode};
use rulegen_os::descriptors;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::about::ProcessInfo;
use crate::descriptors::DescriptorBudget;
use crate::error::{Error, Result};
use crate::events::{Notice, Notices};
use crate::http::{Limits, Router, bind, health_port, metrics_port, serve};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::service_health::{ServiceChecks, ServiceHealth};
use crate::shared::ClusterState;
use crate::status::{Counters, Status, Worker};
use crate::telemetry::Telemetry;
use crate::threads;

/// How often a failed health-check node port is retried.
const RETRY: Duration = Duration::from_secs(5);

/// Starts all servers. Later failures are retried.
///
/// Health probes are served by their own thread, so that neither large object lists nor scrapes
/// delay them, and a flood of probes does not delay the watches.
///
/// # Errors
/// A port cannot be opened and `bindAddressHardFail` is set.
pub(crate) async fn start(
    options: &Options,
    telemetry: &Telemetry,
    known: &ClusterState,
    checks: watch::Receiver<ServiceChecks>,
    notices: &Notices,
) -> Result<()> {
    let budget = budget();
    let probers = start_runtime("probers")?;
    let health = PortServer {
        address: options.healthz,
        router: health_port(telemetry.health.clone(), Arc::clone(&telemetry.metrics)),
        limits: Limits::new(budget.probers()),
        reason: Notice::FailedToStartProxierHealthcheck,
    };
    health.start(options, &probers, notices).await?;
    let load_balancers =
        ServiceHealth::new(telemetry.health.clone(), budget.load_balancers(), budget.listeners);
    let metrics = Arc::clone(&telemetry.metrics);
    probers.spawn(answer_load_balancers(load_balancers, checks, metrics, notices.clone()));
    let metrics = PortServer {
        address: options.metrics,
        router: metrics_router(options, telemetry, known)?,
        limits: Limits::new(budget.scrapers()),
        reason: Notice::FailedToStartMetricServer,
    };
    metrics.start(options, &Handle::current(), notices).await
}

fn budget() -> DescriptorBudget {
    /// The usual soft limit (limits.conf(5), systemd).
    const USUAL_LIMIT: u64 = 1024;
    let limit = descriptors::raise_limit().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot raise the open file limit");
        USUAL_LIMIT
    });
    let budget = DescriptorBudget::of(limit);
    tracing::debug!(
        limit = budget.limit,
        health_check_listeners = budget.listeners,
        "open file limit"
    );
    budget
}

/// Starts a runtime in a thread of its own. Both last as long as the process.
fn start_runtime(name: &str) -> Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::Runtime)?;
    let handle = runtime.handle().clone();
    threads::start(name, move || runtime.block_on(future::pending()))?;
    Ok(handle)
}

fn metrics_router(
    options: &Options,
    telemetry: &Telemetry,
    known: &ClusterState,
) -> Result<Router> {
    let about = Arc::new(ProcessInfo {
        node: known.store.read().node().name.clone(),
        mode: options.config.mode,
        configuration: options.shown_config.clone(),
        flags: options.flags.clone(),
        version: options.build.version.clone(),
        started: SystemTime::now(),
        started_at: Instant::now(),
    });
    let nftables = options.config.mode == ProxyMode::Nftables;
    let counts = nftables && options.config.counts_connections;
    let status = Status {
        about: Arc::clone(&about),
        known: known.clone(),
        health: telemetry.health.clone(),
        journal: telemetry.journal.clone(),
        counters: counts.then(|| Counters::new(options.table.clone())),
        worker: Worker::start()?,
    };
    let metrics = Arc::clone(&telemetry.metrics);
    Ok(metrics_port(about, metrics, telemetry.health.clone(), status.into_router()))
}

/// The server of one port.
struct PortServer {
    address: BindAddress,
    router: Router,
    limits: Limits,
    /// The Event to send if the port cannot be opened.
    reason: fn(String) -> Notice,
}

impl PortServer {
    async fn start(self, options: &Options, runtime: &Handle, notices: &Notices) -> Result<()> {
        let Self { address, router, limits, reason } = self;
        let BindAddress::At(address) = address else { return Ok(()) };
        let notices = notices.clone();
        let failed = move |error: &io::Error| {
            tracing::warn!(%address, %error, "cannot listen");
            notices.send(reason(format!("{address}: {error}")));
        };
        if options.bind_address_hard_fail {
            let bound = runtime.spawn(bind(address, true, failed)).await.map_err(io::Error::from);
            let listener = bound.and_then(|bound| bound);
            let listener = listener.map_err(|source| Error::Listen { address, source })?;
            runtime.spawn(serve(listener, router, limits, future::pending()));
            return Ok(());
        }
        runtime.spawn(async move {
            if let Ok(listener) = bind(address, false, failed).await {
                serve(listener, router, limits, future::pending()).await;
            }
        });
        Ok(())
    }
}

/// Serves the health-check node ports of all Services that have one, and follows their changes.
async fn answer_load_balancers(
    mut health: ServiceHealth,
    mut checks: watch::Receiver<ServiceChecks>,
    metrics: Arc<Metrics>,
    notices: Notices,
) {
    let mut known: BTreeSet<SocketAddr> = BTreeSet::new();
    loop {
        let desired = checks.borrow_and_update().clone();
        let failures = health.update(desired.services, &desired.addresses).await;
        metrics.unanswered_health_checks(failures.len());
        for port in failures.iter().filter(|port| !known.contains(&port.address)) {
            let (namespace, name) = (port.namespace.clone(), port.name.clone());
            let message = format!("health-check node port {}: {}", port.address, port.error);
            let (address, error) = (port.address, &port.error);
            tracing::warn!(namespace, name, %address, %error, "cannot open health-check node port");
            notices.send(Notice::FailedToStartServiceHealthcheck { namespace, name, message });
        }
        known = failures.iter().map(|port| port.address).collect();
        let retry = if known.is_empty() { Duration::MAX } else { RETRY };
        if let Ok(Err(_)) = tokio::time::timeout(retry, checks.changed()).await {
            return;
        }
    }
}
