//! Benchmarks: prints tables, or JSON with `--json`. Run by `ci/bench`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a benchmark panics if it fails"
)]

mod agent;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::expect_used,
    reason = "written for tests"
)]
#[path = "../../tests/agent/api_server/mod.rs"]
mod api_server;
mod churn;
mod cluster;
mod damage;
mod encodings;
mod iptables;
mod iptables_agent;
mod limits;
mod namespace;
mod nftables;
mod packets;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use cluster::{Size, cluster};

const ROUNDS: usize = 9;

const PARTS: [&str; 8] = [
    "iptables",
    "nftables",
    "agent",
    "changes",
    "iptables-agent",
    "encodings",
    "packets",
    "limits",
];

fn main() {
    let options: Vec<String> =
        std::env::args().skip(1).filter(|option| option != "--bench").collect();
    let is_known = |option: &&String| {
        *option == "--json" || PARTS.contains(&option.as_str()) || Size::parse(option).is_some()
    };
    if let Some(unknown) = options.iter().find(|option| !is_known(option)) {
        let parts = PARTS.join(", ");
        eprintln!(
            "unknown argument {unknown}; known are --json, the parts {parts}, and sizes such as \
             10000 or 100000x10"
        );
        std::process::exit(2);
    }
    let is_json = options.iter().any(|option| option == "--json");
    let sizes: Vec<Size> = options.iter().filter_map(|option| Size::parse(option)).collect();
    let usual = [1_000, 10_000, 50_000].map(|services| Size { services, endpoints: 5 });
    let sizes = if sizes.is_empty() { usual.to_vec() } else { sizes };
    let wants = |part: &str| {
        let is_part = |option: &&String| option.starts_with(|c: char| c.is_ascii_lowercase());
        let only: Vec<&String> = options.iter().filter(is_part).collect();
        only.is_empty() || only.iter().any(|option| *option == part)
    };
    // Parts that do not depend on the size of the cluster run once.
    let sizes = if options.iter().any(|option| option == "limits") && sizes.len() == 3 {
        Vec::new()
    } else {
        sizes
    };
    let mut rows = Vec::new();
    for size in sizes {
        let Size { services, endpoints } = size;
        eprintln!("{services} services x {endpoints} endpoints …");
        let text = cluster(size);
        let file = scratch().join(format!("{services}.json"));
        fs::write(&file, &text).unwrap();
        let mut row = json!({"services": services, "json_megabytes": text.len() as f64 / 1e6});
        if wants("iptables") {
            row["iptables"] = iptables::measure(&text, &file, services);
        }
        if wants("nftables") {
            row["nftables"] = nftables::measure(&text, &file);
        }
        if wants("agent") {
            row["agent"] = agent::measure(&text, size);
        }
        // Otherwise they are in the part `agent`.
        if options.iter().any(|option| option == "changes") {
            row["changes"] = agent::measure_changes(&text);
        }
        if wants("iptables-agent") && services <= 10_000 {
            row["iptables-agent"] = iptables_agent::measure(&text, &file, size);
        }
        if wants("encodings") {
            row["encodings"] = encodings::measure(&text, size);
        }
        if wants("packets") && services == 10_000 {
            row["packets"] = packets::measure(&file);
        }
        rows.push(row);
    }
    let limits = if wants("limits") { limits::measure() } else { json!(null) };
    let _ = fs::remove_dir_all(scratch());
    if is_json {
        if wants("limits") {
            rows.push(json!({"limits": limits}));
        }
        println!("{}", serde_json::to_string_pretty(&rows).unwrap());
        return;
    }
    if wants("limits") {
        limits::print(&limits);
    }
    if wants("iptables") {
        iptables::print(&rows);
    }
    if wants("nftables") {
        nftables::print(&rows);
    }
    if wants("agent") {
        agent::print(&rows);
    }
    churn::print(&rows);
    if wants("iptables-agent") {
        iptables_agent::print(&rows);
    }
    if wants("encodings") {
        encodings::print(&rows);
    }
    if wants("packets") {
        packets::print(&rows);
    }
}

fn scratch() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rulegen-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn rulegen() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rulegen"))
}

fn median(times: &[f64]) -> f64 {
    percentile(times, 50)
}

/// The given percentile.
fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// The last output is not read, so that the process waits and its peak memory can be read.
fn peak_megabytes(command: &mut Command) -> f64 {
    let mut child = command.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut peak = f64::NAN;
    let mut buffer = vec![0; 1 << 16];
    while std::io::Read::read(&mut output, &mut buffer).unwrap() > 0 {
        peak = peak_of(child.id()).unwrap_or(peak);
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// Peak memory of a running process, in MB.
fn peak_of(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
