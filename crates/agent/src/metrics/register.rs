//! Makes and registers metrics, with all known label values.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};
use rulegen_net::{IpFamily, PerFamily};

/// All known label values exist from the start, so that dashboards show 0 instead of no data.
pub(super) struct Registration<'a> {
    pub(super) registry: &'a Registry,
    pub(super) families: &'a [IpFamily],
}

const FAMILY: &str = "ip_family";

impl Registration<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    /// Counters with one label.
    pub(super) fn counters<const N: usize>(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: [&str; N],
    ) -> Result<IntCounterVec> {
        let counters = self.register(IntCounterVec::new(Opts::new(name, help), &[label])?)?;
        for value in values {
            counters.get_metric_with_label_values(&[value])?;
        }
        Ok(counters)
    }

    /// Gauges with one label.
    pub(super) fn gauges<const N: usize>(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: [&str; N],
    ) -> Result<IntGaugeVec> {
        let gauges = self.register(IntGaugeVec::new(Opts::new(name, help), &[label])?)?;
        for value in values {
            gauges.get_metric_with_label_values(&[value])?;
        }
        Ok(gauges)
    }

    /// Histograms with one label, in seconds.
    pub(super) fn histograms<const N: usize>(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: [&str; N],
        buckets: Vec<f64>,
    ) -> Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(buckets);
        let histograms = self.register(HistogramVec::new(opts, &[label])?)?;
        for value in values {
            histograms.get_metric_with_label_values(&[value])?;
        }
        Ok(histograms)
    }

    pub(super) fn family_counters(&self, name: &str, help: &str) -> Result<PerFamily<IntCounter>> {
        let counters = self.register(IntCounterVec::new(Opts::new(name, help), &[FAMILY])?)?;
        self.per_family(|family| counters.get_metric_with_label_values(&[family]))
    }

    pub(super) fn family_gauges(&self, name: &str, help: &str) -> Result<PerFamily<IntGauge>> {
        let gauges = self.register(IntGaugeVec::new(Opts::new(name, help), &[FAMILY])?)?;
        self.per_family(|family| gauges.get_metric_with_label_values(&[family]))
    }

    /// Gauges of timestamps, in seconds since the Unix epoch.
    pub(super) fn family_times(
        &self,
        name: &str,
        help: &str,
    ) -> Result<PerFamily<prometheus::Gauge>> {
        let opts = Opts::new(name, help);
        let gauges = self.register(prometheus::GaugeVec::new(opts, &[FAMILY])?)?;
        self.per_family(|family| gauges.get_metric_with_label_values(&[family]))
    }

    /// Histograms, in seconds.
    pub(super) fn family_histograms(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<PerFamily<Histogram>> {
        let opts = HistogramOpts::new(name, help).buckets(buckets);
        let histograms = self.register(HistogramVec::new(opts, &[FAMILY])?)?;
        self.per_family(|family| histograms.get_metric_with_label_values(&[family]))
    }

    /// Gauges by family and by another label with two values.
    pub(super) fn family_gauge_pairs(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: [&str; 2],
    ) -> Result<PerFamily<[IntGauge; 2]>> {
        let gauges = self.register(IntGaugeVec::new(Opts::new(name, help), &[label, FAMILY])?)?;
        let [first, second] = values;
        self.per_family(|family| {
            Ok([
                gauges.get_metric_with_label_values(&[first, family])?,
                gauges.get_metric_with_label_values(&[second, family])?,
            ])
        })
    }

    pub(super) fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn per_family<M>(&self, make: impl Fn(&'static str) -> Result<M>) -> Result<PerFamily<M>> {
        let make = |family: &IpFamily| Ok((*family, make(family.api_name())?));
        self.families.iter().map(make).collect()
    }
}

/// Converts a count to a gauge value.
pub(super) fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a count to a counter value.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
