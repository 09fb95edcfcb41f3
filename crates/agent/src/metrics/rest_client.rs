//! Requests to the API server, under client-go's names
//! (k8s.io/component-base/metrics/prometheus/restclient), so that existing dashboards work.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, Result,
    exponential_buckets,
};

/// The metrics of the client of one API server.
#[derive(Debug, Clone)]
pub(crate) struct RestClient {
    /// The server's host and port.
    host: String,
    requests: IntCounterVec,
    durations: HistogramVec,
    request_sizes: HistogramVec,
    response_sizes: HistogramVec,
    delays: HistogramVec,
}

impl RestClient {
    /// Metrics that are not in a registry yet: the client exists before it.
    pub(crate) fn new(host: String) -> Result<Self> {
        let requests = Opts::new(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host",
        );
        let histograms = |name, help, buckets| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["verb", "host"])
        };
        Ok(Self {
            host,
            requests: IntCounterVec::new(requests, &["code", "method", "host"])?,
            durations: histograms(
                "rest_client_request_duration_seconds",
                "Request latency in seconds, broken down by verb and host; without watches",
                seconds(),
            )?,
            request_sizes: histograms(
                "rest_client_request_size_bytes",
                "Request size in bytes, broken down by verb and host",
                bytes()?,
            )?,
            response_sizes: histograms(
                "rest_client_response_size_bytes",
                "Response size in bytes, broken down by verb and host; without watches",
                bytes()?,
            )?,
            delays: histograms(
                "rest_client_rate_limiter_duration_seconds",
                "Client side rate limiter latency in seconds, broken down by verb and host",
                seconds(),
            )?,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> Result<()> {
        let Self { requests, durations, request_sizes, response_sizes, delays, .. } = self.clone();
        let histograms = [durations, request_sizes, response_sizes, delays];
        let histograms = histograms.into_iter().map(|of| Box::new(of) as Box<dyn Collector>);
        let mut all = histograms.chain([Box::new(requests) as Box<dyn Collector>]);
        all.try_for_each(|collector| registry.register(collector))
    }

    /// A request was answered with an HTTP status code, or failed.
    pub(crate) fn answered(&self, code: Option<u16>, method: &str) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        if let Ok(counter) =
            self.requests.get_metric_with_label_values(&[&code, method, &self.host])
        {
            counter.inc();
        }
    }

    /// The latency of a response, except for watches.
    pub(crate) fn took(&self, verb: &str, duration: Duration) {
        self.observe(&self.durations, verb, duration.as_secs_f64());
    }

    /// The size of a request with a body.
    pub(crate) fn sent(&self, verb: &str, bytes: u64) {
        self.observe(&self.request_sizes, verb, bytes as f64);
    }

    /// The histogram for response sizes of requests other than watches.
    pub(crate) fn response_size(&self, verb: &str) -> Option<Histogram> {
        self.response_sizes.get_metric_with_label_values(&[verb, &self.host]).ok()
    }

    /// How long a request was delayed.
    pub(crate) fn delayed(&self, verb: &str, duration: Duration) {
        self.observe(&self.delays, verb, duration.as_secs_f64());
    }

    fn observe(&self, histograms: &HistogramVec, verb: &str, value: f64) {
        if let Ok(histogram) = histograms.get_metric_with_label_values(&[verb, &self.host]) {
            histogram.observe(value);
        }
    }
}

fn seconds() -> Vec<f64> {
    vec![0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0]
}

/// 64 bytes to 16 MiB.
fn bytes() -> Result<Vec<f64>> {
    let mut bytes = vec![64.0, 256.0, 512.0];
    bytes.extend(exponential_buckets(1024.0, 4.0, 8)?);
    Ok(bytes)
}
