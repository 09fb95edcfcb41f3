//! Protobuf and JSON from the API server: bytes and CPU of the agent for a list and for changes.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rulegen_model::{Kind, protobuf, read_object};
use serde_json::{Value, json};

use crate::agent::{cpu_seconds, end, start};
use crate::api_server::{ApiServer, protobuf as encoder};
use crate::cluster::Size;
use crate::namespace::Namespace;
use crate::{ROUNDS, median, scratch};

/// Number of changes of one endpoint each.
const CHANGES: usize = 1000;

/// Pause between changes.
const PAUSE: Duration = Duration::from_millis(5);

/// Enough for the last changes to be in the kernel.
const QUIET: Duration = Duration::from_secs(2);

const TYPES: [(&str, &str); 2] =
    [("protobuf", "application/vnd.kubernetes.protobuf"), ("json", "application/json")];

pub(crate) fn measure(text: &str, size: Size) -> Value {
    let cluster: Value = serde_json::from_str(text).unwrap();
    let items = cluster["items"].as_array().unwrap();
    let endpoints = size.services * size.endpoints;
    let mut measured = json!({"services": size.services, "endpoints": endpoints});
    for (name, content_type) in TYPES {
        measured[name] = of_agent(items, content_type);
    }
    measured["protobuf"]["decode_milliseconds"] = json!(decode_protobuf(items) * 1e3);
    measured["json"]["decode_milliseconds"] = json!(decode_json(items) * 1e3);
    measured
}

/// An agent with a namespace and a server of its own.
fn of_agent(items: &[Value], content_type: &str) -> Value {
    let namespace = Namespace::new();
    namespace.run("ip link set lo up");
    let server =
        namespace.inside(|| ApiServer::start_on(TcpListener::bind("127.0.0.1:0").unwrap()));
    server.apply_many(items.to_vec());
    fs::write(scratch().join("kubeconfig"), server.kubeconfig()).unwrap();
    let (agent, _) = start(&namespace, &["--kube-api-content-type", content_type]);
    let (list_bytes, list_seconds) = (server.sent(), cpu_seconds(&agent));
    let slices: Vec<&Value> =
        items.iter().filter(|item| item["kind"] == "EndpointSlice").take(CHANGES).collect();
    for round in 0..CHANGES {
        let mut slice = slices[round % slices.len()].clone();
        slice["endpoints"][0]["addresses"][0] = json!(format!("10.200.{}.1", round % 250));
        server.apply(slice);
        thread::sleep(PAUSE);
    }
    thread::sleep(QUIET);
    let changes = (server.sent() - list_bytes, cpu_seconds(&agent) - list_seconds);
    end(agent, Signal::SIGKILL);
    json!({
        "list_bytes": list_bytes, "first_sync_cpu_seconds": list_seconds,
        "changes_bytes": changes.0, "changes_cpu_seconds": changes.1,
    })
}

/// Seconds to read all objects in protobuf.
fn decode_protobuf(items: &[Value]) -> f64 {
    let items: Vec<(Kind, _)> = items
        .iter()
        .map(|item| (kind(item), protobuf::typed(&encoder::object(item).into()).unwrap().raw))
        .collect();
    timed(|| items.iter().all(|(kind, raw)| protobuf::object(*kind, raw).object.is_ok()))
}

/// Seconds to read all objects in JSON.
fn decode_json(items: &[Value]) -> f64 {
    let items: Vec<(Kind, String)> =
        items.iter().map(|item| (kind(item), item.to_string())).collect();
    timed(|| items.iter().all(|(kind, text)| read_object(*kind, text).is_ok()))
}

fn kind(item: &Value) -> Kind {
    if item["kind"] == "Service" { Kind::Service } else { Kind::EndpointSlice }
}

fn timed(read: impl Fn() -> bool) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        assert!(read());
        begun.elapsed().as_secs_f64()
    };
    median(&(0..ROUNDS).map(round).collect::<Vec<f64>>())
}

pub(crate) fn print(rows: &[Value]) {
    println!("\nProtobuf and JSON from the API server; CPU of the whole agent, nftables mode");
    println!(
        "{:>9} {:>9} | {:>10} {:>12} {:>10} | {:>13} {:>12}",
        "services", "", "list MB", "1st sync CPU", "decode ms", "1,000 ch. KB", "CPU s"
    );
    for row in rows.iter().map(|row| &row["encodings"]).filter(|row| !row.is_null()) {
        for (name, _) in TYPES {
            let number = |field: &str| row[name][field].as_f64().unwrap_or(f64::NAN);
            println!(
                "{:>9} {name:>9} | {:>10.2} {:>12.2} {:>10.1} | {:>13.0} {:>12.2}",
                row["services"].as_u64().unwrap_or_default(),
                number("list_bytes") / 1e6,
                number("first_sync_cpu_seconds"),
                number("decode_milliseconds"),
                number("changes_bytes") / 1e3,
                number("changes_cpu_seconds"),
            );
        }
    }
}
