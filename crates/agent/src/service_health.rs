//! Health-check node ports: load balancers query them to find nodes with endpoints of a Service
//! with `externalTrafficPolicy: Local`.
//!
//! A listener belongs to an address and port, not to a Service: the Service is looked up for each
//! request. So a port can move from one Service to another without a gap, and a request for a
//! deleted Service gets an answer that says so.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use rulegen_net::{IpFamily, PerFamily};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::health::SharedHealth;
use crate::http::{Admission, Limits, Request, Response, Router, listen_at, serve};

/// A Service with a health-check node port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCheck {
    /// The Service's namespace.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Its `spec.healthCheckNodePort`.
    pub port: NonZeroU16,
    /// For each of its IP families, how many distinct addresses of ready endpoints it has on this
    /// node; terminating ones do not count, even if they still get traffic.
    pub local_ready_endpoints: PerFamily<usize>,
}

impl ServiceCheck {
    /// The addresses of its IP families: it has no traffic at others.
    fn sockets<'a>(&'a self, addresses: &'a [IpAddr]) -> impl Iterator<Item = SocketAddr> + 'a {
        let has = |ip: &&IpAddr| self.local_ready_endpoints.get(IpFamily::of(**ip)).is_some();
        addresses.iter().filter(has).map(|ip| SocketAddr::new(*ip, self.port.get()))
    }
}

/// All Services with a health-check node port, and the addresses to listen on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceChecks {
    /// The Services with a health-check node port.
    pub services: Vec<ServiceCheck>,
    /// The node port addresses, or 0.0.0.0 and `[::]` if these are all.
    pub addresses: Vec<IpAddr>,
}

/// A health-check node port that could not be opened. The next [`ServiceHealth::update`] retries
/// it.
#[derive(Debug)]
pub struct BindFailure {
    /// The Service's namespace.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// The address and port.
    pub address: SocketAddr,
    /// Why the port cannot be opened.
    pub error: io::Error,
}

/// The server of all health-check node ports.
pub struct ServiceHealth {
    health: SharedHealth,
    limits: Limits,
    /// The maximum number of listeners.
    most: usize,
    checks: ChecksByPort,
    listeners: BTreeMap<SocketAddr, PortListener>,
}

type ChecksByPort = Arc<Mutex<BTreeMap<NonZeroU16, ServiceCheck>>>;

struct PortListener {
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl ServiceHealth {
    /// Serves no port yet. All ports share the admission's connection limits.
    pub fn new(health: SharedHealth, admission: Admission, most_listeners: usize) -> Self {
        // Answers are short and computed at once, so they fit into the kernel's buffers.
        let limits = Limits { time: Duration::from_secs(5), ..Limits::new(admission) };
        let (checks, listeners) = (ChecksByPort::default(), BTreeMap::new());
        Self { health, limits, most: most_listeners, checks, listeners }
    }

    /// Serves each Service at the addresses of its families. Listeners that are still desired stay
    /// open. Returns the ports that could not be opened.
    pub async fn update(
        &mut self,
        desired: Vec<ServiceCheck>,
        addresses: &[IpAddr],
    ) -> Vec<BindFailure> {
        let (mut checks, mut failures) = by_port(desired, addresses);
        for check in beyond(self.most, addresses, &checks) {
            checks.remove(&check.port);
            failures.extend(check.sockets(addresses).map(|socket| {
                let error = io::Error::other(format!(
                    "open file limit allows only {} listeners; raise it (systemd LimitNOFILE=, \
                     ulimit -n)",
                    self.most
                ));
                BindFailure::new(&check, socket, error)
            }));
        }
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner) = checks.clone();
        let desired: BTreeMap<SocketAddr, &ServiceCheck> = checks
            .values()
            .flat_map(|check| check.sockets(addresses).map(move |socket| (socket, check)))
            .collect();
        self.close_all_but(&desired.keys().copied().collect()).await;
        for (address, check) in desired {
            if !self.listeners.contains_key(&address)
                && let Err(error) = self.open(address, check.port)
            {
                failures.push(BindFailure::new(check, address, error));
            }
        }
        failures
    }

    /// A listener occupies its address until it is closed; 0.0.0.0 also occupies all others.
    async fn close_all_but(&mut self, desired: &BTreeSet<SocketAddr>) {
        let unwanted: Vec<SocketAddr> =
            self.listeners.keys().filter(|address| !desired.contains(address)).copied().collect();
        for listener in unwanted.into_iter().filter_map(|address| self.listeners.remove(&address)) {
            drop(listener.shutdown);
            // The task ends only on shutdown. If it panicked, its socket is closed too.
            let _ = listener.server.await;
        }
    }

    fn open(&mut self, address: SocketAddr, port: NonZeroU16) -> io::Result<()> {
        let socket = listen_at(address)?;
        let (shutdown, wait) = oneshot::channel();
        let router =
            router(IpFamily::of(address.ip()), port, Arc::clone(&self.checks), self.health.clone());
        let shut_down = async move {
            let _ = wait.await;
        };
        let server = tokio::spawn(serve(socket, router, self.limits.clone(), shut_down));
        self.listeners.insert(address, PortListener { shutdown, server });
        Ok(())
    }
}

impl BindFailure {
    fn new(check: &ServiceCheck, address: SocketAddr, error: io::Error) -> Self {
        let ServiceCheck { namespace, name, .. } = check.clone();
        Self { namespace, name, address, error }
    }
}

/// The API server assigns a port to one Service only, but manifests can assign it twice: the first
/// Service by name gets it.
fn by_port(
    mut desired: Vec<ServiceCheck>,
    addresses: &[IpAddr],
) -> (BTreeMap<NonZeroU16, ServiceCheck>, Vec<BindFailure>) {
    desired.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut checks: BTreeMap<NonZeroU16, ServiceCheck> = BTreeMap::new();
    let mut failures = Vec::new();
    for check in desired {
        if let Some(holder) = checks.get(&check.port) {
            for address in check.sockets(addresses) {
                let message = format!("port already used by {}/{}", holder.namespace, holder.name);
                let error = io::Error::new(io::ErrorKind::AddrInUse, message);
                failures.push(BindFailure::new(&check, address, error));
            }
        } else {
            checks.insert(check.port, check);
        }
    }
    (checks, failures)
}

/// The Services beyond the limit of listeners. Namespaces take turns, so that one with many Services does not
/// use up the listeners of the others.
fn beyond(
    most: usize,
    addresses: &[IpAddr],
    checks: &BTreeMap<NonZeroU16, ServiceCheck>,
) -> Vec<ServiceCheck> {
    let listeners = |check: &ServiceCheck| check.sockets(addresses).count();
    if checks.values().map(listeners).sum::<usize>() <= most {
        return Vec::new();
    }
    let mut by_name: Vec<&ServiceCheck> = checks.values().collect();
    by_name.sort_by_key(|check| (&check.namespace, &check.name));
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut in_turn: Vec<(usize, &ServiceCheck)> = Vec::with_capacity(by_name.len());
    for check in by_name {
        let turn = turns.entry(&check.namespace).or_default();
        in_turn.push((*turn, check));
        *turn += 1;
    }
    in_turn.sort_by_key(|(turn, _)| *turn);
    let mut sum = 0;
    let is_within = |(_, check): &(usize, &ServiceCheck)| {
        sum += listeners(check);
        sum <= most
    };
    in_turn.into_iter().skip_while(is_within).map(|(_, check)| check.clone()).collect()
}

fn router(
    family: IpFamily,
    port: NonZeroU16,
    checks: ChecksByPort,
    health: SharedHealth,
) -> Router {
    Arc::new(move |_: &Request<'_>| {
        let check = checks.lock().unwrap_or_else(PoisonError::into_inner).get(&port).cloned();
        let answer = |check| answer(&check, family, health.is_healthy());
        check.map_or_else(Response::not_found, answer).into()
    })
}

/// kube-proxy's response (pkg/proxy/healthcheck/service_health.go).
fn answer(check: &ServiceCheck, family: IpFamily, proxy_is_healthy: bool) -> Response {
    let endpoints = check.local_ready_endpoints.get(family).copied().unwrap_or_default();
    let is_good = endpoints > 0 && proxy_is_healthy;
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let weight = HeaderName::from_static("x-load-balancing-endpoint-weight");
    Response::json(status, body(check, endpoints, proxy_is_healthy))
        .with(weight, HeaderValue::from(endpoints))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: ServiceReference<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct ServiceReference<'a> {
    namespace: &'a str,
    name: &'a str,
}

fn body(check: &ServiceCheck, local_endpoints: usize, service_proxy_healthy: bool) -> Vec<u8> {
    let body = Body {
        service: ServiceReference { namespace: &check.namespace, name: &check.name },
        local_endpoints,
        service_proxy_healthy,
    };
    let mut text = Vec::new();
    let tabs = PrettyFormatter::with_indent(b"\t");
    // Serialising text, a number and a boolean cannot fail.
    let _ = body.serialize(&mut Serializer::with_formatter(&mut text, tabs));
    text
}
