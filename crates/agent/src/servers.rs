//! The ports at which the agent answers.

use std::future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rulegen_model::{BindAddress, ProxyMode};
use tokio::sync::watch;

use crate::events::{Notice, Notices};
use crate::http::{
    About, Counters, Limits, Router, Status, Worker, bind, health_port, metrics_port, serve,
};
use crate::options::Options;
use crate::service_health::{ServiceChecks, ServiceHealth};
use crate::shared::Known;
use crate::telemetry::Telemetry;

/// A health-check node port that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// Starts to answer; what fails later is tried again.
///
/// # Errors
/// An address is taken, and that shall be fatal.
pub(crate) async fn start(
    options: &Options,
    telemetry: &Telemetry,
    known: &Known,
    notices: &Notices,
) -> Result<()> {
    let health = health_port(telemetry.health.clone(), Arc::clone(&telemetry.metrics));
    let reason = Notice::FailedToStartProxierHealthcheck;
    listen(options, options.healthz, health, notices, reason).await?;
    let about = Arc::new(About {
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
    let metrics = metrics_port(about, Arc::clone(&telemetry.metrics), status);
    let reason = Notice::FailedToStartMetricServer;
    listen(options, options.metrics, metrics, notices, reason).await
}

async fn listen(
    options: &Options,
    at: BindAddress,
    router: Router,
    notices: &Notices,
    reason: fn(String) -> Notice,
) -> Result<()> {
    let BindAddress::At(address) = at else { return Ok(()) };
    let notices = notices.clone();
    let failed = move |error: &io::Error| {
        tracing::warn!(%address, %error, "cannot listen");
        notices.send(reason(format!("{address}: {error}")));
    };
    if options.bind_address_hard_fail {
        let listener = bind(address, true, failed)
            .await
            .with_context(|| format!("cannot listen at {address}"))?;
        tokio::spawn(serve(listener, router, Limits::default(), future::pending()));
        return Ok(());
    }
    tokio::spawn(async move {
        if let Ok(listener) = bind(address, false, failed).await {
            serve(listener, router, Limits::default(), future::pending()).await;
        }
    });
    Ok(())
}

/// Answers at the health-check node ports of the Services that have one, now and later.
pub(crate) async fn answer_load_balancers(
    telemetry: Telemetry,
    mut checks: watch::Receiver<ServiceChecks>,
    notices: Notices,
) {
    let mut health = ServiceHealth::new(telemetry.health);
    let mut told: Vec<SocketAddr> = Vec::new();
    loop {
        let wanted = checks.borrow_and_update().clone();
        let unanswered = health.update(wanted.services, &wanted.addresses).await;
        for port in unanswered.iter().filter(|port| !told.contains(&port.address)) {
            let (namespace, name) = (port.namespace.clone(), port.name.clone());
            let message = format!("health-check node port {}: {}", port.address, port.error);
            tracing::warn!(namespace, name, "{message}");
            notices.send(Notice::FailedToStartServiceHealthcheck { namespace, name, message });
        }
        told = unanswered.iter().map(|port| port.address).collect();
        let retry = if told.is_empty() { Duration::MAX } else { RETRY };
        if let Ok(Err(_)) = tokio::time::timeout(retry, checks.changed()).await {
            return;
        }
    }
}
