//! The endpoints of the metrics port (10249, as in kube-proxy).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::host::misdirected;
use super::{Answer, Request, Response, Router};
use crate::about::ProcessInfo;
use crate::health::SharedHealth;
use crate::metrics::Metrics;

/// The router of the metrics port: `/healthz`, `/metrics`, `/metrics/slis`, `/proxyMode`,
/// `/configz`, `/flagz` and `/statusz`; `pages` handles all other paths. Paths that show cluster
/// objects or node settings require a Host header with an address or name of the node. Scrapes and
/// probes accept any Host header.
pub(crate) fn metrics_port(
    about: Arc<ProcessInfo>,
    metrics: Arc<Metrics>,
    health: SharedHealth,
    pages: Router,
) -> Router {
    Arc::new(move |request: &Request<'_>| {
        let is_for_any = FOR_ANY_NAME.contains(&request.path);
        let refused = (!is_for_any).then(|| misdirected(request, &about.node)).flatten();
        if request.path == "/metrics" {
            // An outage may expire without any event.
            let outage =
                health.with(|health| health.source_outage(Instant::now(), SystemTime::now()));
            metrics.source_outage(outage);
        }
        let response = refused.or_else(|| own_response(request, &about, &metrics));
        response.map(Answer::Now).unwrap_or_else(|| pages(request))
    })
}

const FOR_ANY_NAME: [&str; 5] = ["/healthz", "/metrics", "/metrics/slis", "/proxyMode", "/statusz"];

fn own_response(request: &Request<'_>, about: &ProcessInfo, metrics: &Metrics) -> Option<Response> {
    Some(match request.path {
        "/healthz" => Response::text(StatusCode::OK, "ok"),
        "/metrics" => samples(metrics.text()),
        "/metrics/slis" => samples(metrics.sli_text()),
        "/proxyMode" => Response::text(StatusCode::OK, about.mode.word()),
        "/configz" => configz(about),
        "/flagz" => flagz(about, request.wants_json),
        "/statusz" => statusz(about, about.started_at.elapsed(), request.wants_json),
        _ => return None,
    })
}

fn samples(text: prometheus::Result<String>) -> Response {
    match text {
        Ok(text) => {
            let text_format = "text/plain; version=0.0.4; charset=utf-8";
            Response::new(StatusCode::OK, HeaderValue::from_static(text_format), text)
        }
        Err(error) => Response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn configz(about: &ProcessInfo) -> Response {
    let body = json!({ "kubeproxy.config.k8s.io": about.configuration });
    Response::json(StatusCode::OK, body.to_string())
}

fn flagz(about: &ProcessInfo, wants_json: bool) -> Response {
    if wants_json {
        let flags = about.flags.iter().map(|(name, value)| (name.clone(), json!(value)));
        return page("Flagz", &json!({ "flags": flags.collect::<Map<_, _>>() }));
    }
    let mut text = heading("flagz");
    for (name, value) in &about.flags {
        let _ = writeln!(text, "{name}={value}");
    }
    Response::text(StatusCode::OK, text)
}

fn statusz(about: &ProcessInfo, up: Duration, wants_json: bool) -> Response {
    let started = Timestamp::try_from(about.started).unwrap_or(Timestamp::UNIX_EPOCH);
    if wants_json {
        let status = json!({
            "startTime": started.to_string(),
            "uptimeSeconds": up.as_secs(),
            "binaryVersion": about.version,
            "paths": PATHS,
        });
        return page("Statusz", &status);
    }
    let (hours, minutes, seconds) =
        (up.as_secs() / 3600, up.as_secs() / 60 % 60, up.as_secs() % 60);
    let mut text = heading("statusz");
    let _ = writeln!(text, "Started: {started}");
    let _ = writeln!(text, "Up: {hours} hr {minutes:02} min {seconds:02} sec");
    let _ = writeln!(text, "Binary version: {}", about.version);
    let _ = writeln!(text, "Paths: {}", PATHS.join(" "));
    Response::text(StatusCode::OK, text)
}

const PATHS: [&str; 11] = [
    "/",
    "/configz",
    "/drift",
    "/explain",
    "/flagz",
    "/healthz",
    "/metrics",
    "/metrics/slis",
    "/proxyMode",
    "/services",
    "/statusz",
];

fn heading(page: &str) -> String {
    format!("\nrulegen {page}\nFor humans only: the format may change at any time.\n\n")
}

/// The JSON format of KEP-4827 and KEP-4828.
fn page(kind: &str, fields: &Value) -> Response {
    let mut object = json!({
        "apiVersion": "config.k8s.io/v1beta1",
        "kind": kind,
        "metadata": { "name": "rulegen" },
    });
    if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
        object.extend(fields.clone());
    }
    Response::json(StatusCode::OK, object.to_string())
}
