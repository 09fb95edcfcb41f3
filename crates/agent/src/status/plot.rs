//! A bar chart of the last syncs. The height of a bar is the duration; its parts are the phases.

use std::time::Duration;

use super::format::Took;
use super::syncs::Sync;
use crate::report::Phase;

/// The width of a bar, in SVG units, like all sizes here.
const BAR: f64 = 8.0;
const GAP: f64 = 2.0;
pub(super) const HEIGHT: f64 = 96.0;
pub(super) const BARS: usize = 60;

/// The duration at the bottom, in seconds. The scale is logarithmic, because a first sync takes a
/// thousand times as long as a change of one endpoint.
const LEAST: f64 = 1e-4;

/// The grid lines: seconds and label.
const LINES: [(f64, &str); 6] = [
    (1e-3, "1 ms"),
    (1e-2, "10 ms"),
    (0.1, "100 ms"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (100.0, "100 s"),
];

/// The chart.
pub(super) struct Plot {
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Line>,
    pub(super) width: f64,
}

/// The bar of a sync.
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) title: String,
    pub(super) failed: bool,
    pub(super) top: f64,
    pub(super) height: f64,
    pub(super) parts: Vec<BarSegment>,
}

/// The part of a bar for one phase.
pub(super) struct BarSegment {
    pub(super) phase: &'static str,
    pub(super) y: f64,
    pub(super) height: f64,
}

/// A grid line.
pub(super) struct Line {
    pub(super) y: f64,
    pub(super) label: &'static str,
}

impl Plot {
    /// Plots the first `BARS` of these syncs, which must be ordered newest first. The newest is on
    /// the right.
    pub(super) fn of(syncs: &[Sync]) -> Self {
        let shown = syncs.iter().take(BARS);
        let free = BARS.saturating_sub(syncs.len().min(BARS));
        let places = std::iter::successors(Some(0.0), |x| Some(x + BAR + GAP)).skip(free);
        let longest = shown.clone().map(|sync| sync.took.0.as_secs_f64()).fold(0.0, f64::max);
        let top = LINES.map(|(at, _)| at).into_iter().find(|at| *at >= longest.max(0.1));
        let scale = Scale { decades: (top.unwrap_or(1000.0) / LEAST).log10() };
        let bars = shown.rev().zip(places).map(|(sync, x)| Bar::of(sync, x, scale)).collect();
        let line = |(at, label)| Line { y: HEIGHT - scale.height(at), label };
        let lines = LINES.into_iter().map(line).filter(|line| line.y >= -0.5).collect();
        Self { bars, lines, width: 600.0 }
    }
}

impl Bar {
    fn of(sync: &Sync, x: f64, scale: Scale) -> Self {
        let height = scale.height(sync.took.0.as_secs_f64()).clamp(1.0, HEIGHT);
        let phases = Phase::ALL.into_iter().filter_map(|phase| {
            sync.phases.iter().find(|(of, _)| *of == phase).map(|(of, took)| (*of, took.0))
        });
        let phases: Vec<(Phase, Duration)> = phases.collect();
        let all: f64 = phases.iter().map(|(_, took)| took.as_secs_f64()).sum();
        let mut y = HEIGHT;
        let mut parts = Vec::with_capacity(phases.len());
        for (phase, took) in &phases {
            let height = if all > 0.0 { height * took.as_secs_f64() / all } else { 0.0 };
            y -= height;
            parts.push(BarSegment { phase: phase.name(), y, height });
        }
        let (top, failed) = (HEIGHT - height, sync.error.is_some());
        Self { x, title: title(sync, &phases), failed, top, height, parts }
    }

    pub(super) fn bar_width(&self) -> f64 {
        BAR
    }
}

fn title(sync: &Sync, phases: &[(Phase, Duration)]) -> String {
    let parts: Vec<String> =
        phases.iter().map(|(phase, took)| format!("{} {}", phase.name(), Took(*took))).collect();
    let end = if sync.error.is_some() { "failed" } else { "took" };
    let (at, took) = (sync.finished.clock(), sync.took);
    format!("{at} UTC: {end} {took} ({}); {}", parts.join(", "), sync.cause)
}

/// The vertical scale: the number of powers of ten from bottom to top.
#[derive(Clone, Copy)]
struct Scale {
    decades: f64,
}

impl Scale {
    /// The height of a duration in seconds.
    fn height(self, seconds: f64) -> f64 {
        (seconds.max(LEAST) / LEAST).log10() / self.decades * HEIGHT
    }
}
