//! Connections to service ports, from the kernel's counters.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Opts, Result, core::Describer};
use rulegen_net::Protocol;

/// The number of connections to a service port that were opened through this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConnections {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The port's name, empty if it has none.
    pub port: String,
    /// The port's protocol.
    pub protocol: Protocol,
    /// The count since the rules were created.
    pub connections: u64,
}

/// The last reading. Each reading replaces the previous one, so that deleted ports disappear.
#[derive(Clone)]
pub(super) struct ConnectionMetrics {
    desc: Desc,
    read: Arc<Mutex<Vec<ServiceConnections>>>,
}

const NAME: &str = "rulegen_service_connections_total";
const HELP: &str = "Connections to service ports opened through this node";

impl ConnectionMetrics {
    pub(super) fn new() -> Result<Self> {
        let labels = ["namespace", "port", "protocol", "service"].map(str::to_owned).to_vec();
        let desc = Opts::new(NAME, HELP).variable_labels(labels).describe()?;
        Ok(Self { desc, read: Arc::default() })
    }

    pub(super) fn set(&self, connections: Vec<ServiceConnections>) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = connections;
    }
}

impl Collector for ConnectionMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(read.iter().map(metric).collect());
        vec![family]
    }
}

fn metric(of: &ServiceConnections) -> Metric {
    let mut counter = Counter::default();
    // Exact up to 2^53; the format has no integers.
    counter.set_value(of.connections as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric.set_label(vec![
        label("namespace", &of.namespace),
        label("port", &of.port),
        label("protocol", protocol(of.protocol)),
        label("service", &of.service),
    ]);
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
