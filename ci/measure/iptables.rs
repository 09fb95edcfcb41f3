//! iptables mode: each phase in-process, the whole program, and applying compared with
//! `iptables-restore` alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rulegen_compiler::{iptables, plan};
use rulegen_config::ProxyConfig;
use rulegen_model::{Host, Objects, read_manifest, snapshot};
use rulegen_net::IpFamily;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::{ROUNDS, median, peak_megabytes, rulegen, scratch};

pub(crate) fn measure(text: &str, file: &Path, services: usize) -> Value {
    json!({
        "phases_ms": phases(text.as_bytes()),
        "dry_run": dry_run(file),
        "apply": if services <= 10_000 { apply(file) } else { Value::Null },
    })
}

/// Milliseconds per phase, median of several rounds.
fn phases(text: &[u8]) -> Value {
    let config = ProxyConfig { hostname_override: Some("node-1".into()), ..ProxyConfig::default() };
    let mut rounds: Vec<[Duration; 5]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut lap = Instant::now();
        let mut next = || std::mem::replace(&mut lap, Instant::now()).elapsed();
        let mut objects = Objects::default();
        assert_eq!(read_manifest("bench", text, &mut objects), []);
        let read = next();
        let (snapshot, _) = snapshot(&objects, &config.snapshot_options(), &Host::default());
        let joined = next();
        let plan = plan(&snapshot, &config, IpFamily::Ipv4);
        let planned = next();
        let rules = iptables::ruleset(&plan);
        let compiled = next();
        let printed = rules.to_text();
        rounds.push([read, joined, planned, compiled, next()]);
        assert!(printed.len() > text.len() / 4);
    }
    let of = |phase: usize| {
        let times: Vec<f64> = rounds.iter().map(|round| round[phase].as_secs_f64() * 1e3).collect();
        median(&times)
    };
    json!({"read": of(0), "snapshot": of(1), "plan": of(2), "ruleset": of(3), "text": of(4)})
}

/// The whole program: seconds, size of the output, peak memory.
fn dry_run(file: &Path) -> Value {
    let command = || {
        let mut command = Command::new(rulegen());
        command.args(["--dry-run", "--hostname-override", "node-1", "-f"]).arg(file);
        command.stdout(Stdio::piped());
        command
    };
    let run = |_| {
        let started = Instant::now();
        let mut child = command().spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let bytes = std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        assert!(child.wait().unwrap().success());
        (started.elapsed().as_secs_f64(), bytes)
    };
    let mut runs: Vec<(f64, u64)> = (0..ROUNDS).map(run).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (seconds, bytes) = runs[ROUNDS / 2];
    let memory = peak_megabytes(&mut command());
    json!({"seconds": seconds, "megabytes": bytes as f64 / 1e6, "peak_memory_megabytes": memory})
}

/// Applying to an empty namespace, alternating with `iptables-restore` on the same rules. Only the
/// legacy variant: the nft variant needs minutes for so many chains.
fn apply(file: &Path) -> Value {
    let rules = scratch().join("rules");
    let printed = Command::new(rulegen())
        .args(["--dry-run", "--hostname-override", "node-1", "-f"])
        .arg(file)
        .output()
        .unwrap();
    fs::write(&rules, printed.stdout).unwrap();
    let flags = "--hostname-override node-1 --ip-family ipv4 --iptables-variant legacy";
    let apply = format!("{} -f {} {flags}", rulegen().display(), file.display());
    let restore = format!("iptables-legacy-restore {}", rules.display());
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(Namespace::new().time(&restore));
        let namespace = Namespace::new();
        times[1].push(namespace.time(&apply));
        times[2].push(namespace.time(&apply));
    }
    let [restore, apply, again] = times.map(|times| median(&times));
    json!({
        "iptables_restore_seconds": restore, "apply_seconds": apply,
        "ratio": apply / restore, "apply_again_seconds": again,
    })
}

pub(crate) fn print(rows: &[Value]) {
    println!("in-process, milliseconds      read  snapshot  plan  ruleset  text");
    for row in rows {
        let phase = |name: &str| row["iptables"]["phases_ms"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services {:>5.1} MB      {:>6.1} {:>8.1} {:>6.1} {:>7.1} {:>6.1}",
            row["services"],
            row["json_megabytes"].as_f64().unwrap_or(f64::NAN),
            phase("read"),
            phase("snapshot"),
            phase("plan"),
            phase("ruleset"),
            phase("text"),
        );
    }
    println!("\nrulegen --dry-run             seconds  peak memory  output");
    for row in rows {
        let of = |name: &str| row["iptables"]["dry_run"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services              {:>8.3} {:>9.0} MB {:>6.1} MB",
            row["services"],
            of("seconds"),
            of("peak_memory_megabytes"),
            of("megabytes"),
        );
    }
    println!(
        "\ninto an empty namespace       iptables-restore  rulegen  ratio  again (nothing to do)"
    );
    for row in rows.iter().filter(|row| !row["iptables"]["apply"].is_null()) {
        let of = |name: &str| row["iptables"]["apply"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services              {:>14.3} s {:>8.3} s {:>5.2} {:>8.3} s",
            row["services"],
            of("iptables_restore_seconds"),
            of("apply_seconds"),
            of("ratio"),
            of("apply_again_seconds"),
        );
    }
}
