//! Makes metrics and puts them into a registry, each label value from the start.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};
use rulegen_net::IpFamily;

/// A dashboard that looks for a metric finds 0 rather than nothing: all label values that are
/// known are made at once.
pub(super) struct Register<'a> {
    pub(super) registry: &'a Registry,
    pub(super) families: &'a [IpFamily],
}

/// A metric for each family that is proxied.
pub(super) struct PerFamily<M>(Vec<(IpFamily, M)>);

impl<M> PerFamily<M> {
    /// That of the family, if it is proxied.
    pub(super) fn get(&self, family: IpFamily) -> Option<&M> {
        self.0.iter().find(|(of, _)| *of == family).map(|(_, metric)| metric)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &M> {
        self.0.iter().map(|(_, metric)| metric)
    }
}

const FAMILY: &str = "ip_family";

impl Register<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    /// Counters by the values of a label.
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

    /// Gauges by the values of a label.
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

    /// Durations by the values of a label, in seconds.
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

    /// Times, in seconds since 1970.
    pub(super) fn family_times(
        &self,
        name: &str,
        help: &str,
    ) -> Result<PerFamily<prometheus::Gauge>> {
        let opts = Opts::new(name, help);
        let gauges = self.register(prometheus::GaugeVec::new(opts, &[FAMILY])?)?;
        self.per_family(|family| gauges.get_metric_with_label_values(&[family]))
    }

    /// Durations, in seconds.
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

    /// Gauges by family and by the two values of another label.
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
        self.families.iter().map(make).collect::<Result<_>>().map(PerFamily)
    }
}

/// A number of things as gauges hold it.
pub(super) fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of things as counters count it.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
