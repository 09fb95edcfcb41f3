//! The endpoints of the health port (10256, as in kube-proxy).

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hyper::StatusCode;

use super::{Request, Response, Router};
use crate::health::SharedHealth;
use crate::metrics::{Metrics, Probe};

/// `/healthz`, `/livez` and `/readyz`.
pub fn health_port(health: SharedHealth, metrics: Arc<Metrics>) -> Router {
    Arc::new(move |request: &Request<'_>| {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let (check, verdict) = match request.path {
            "/healthz" => (Probe::Healthz, health.with(|health| health.healthz(now, wall))),
            "/livez" => (Probe::Livez, health.with(|health| health.livez(now, wall))),
            "/readyz" => (Probe::Readyz, health.with(|health| health.readyz(now, wall))),
            _ => return Response::not_found().into(),
        };
        metrics.checked(check, verdict.ok);
        let status = if verdict.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Response::json(status, verdict.body).into()
    })
}
