//! Answers requests with the pages.

use std::sync::Arc;
use std::time::SystemTime;

use askama::Template;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_FRAME_OPTIONS,
};
use rulegen_model::ObjectKey;
use serde::Serialize;

use super::Status;
use super::drift::DriftPage;
use super::explain::ExplainPage;
use super::overview::Overview;
use super::query::{self, Query};
use super::service::{NoService, ServicePage};
use super::services::ServiceList;
use crate::http::{Answer, Request, Response, Router};

/// The page's assets. Its policy does not let a browser load anything else.
const STYLE: &str = include_str!("../../../../templates/status/status.css");
const SCRIPT: &str = include_str!("../../../../templates/status/status.js");

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// A page, by its path.
enum PageRoute {
    Overview,
    Services,
    Service(ObjectKey),
    Explain,
    Drift,
}

impl PageRoute {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(PageRoute::Overview),
            "/services" => Some(PageRoute::Services),
            "/explain" => Some(PageRoute::Explain),
            "/drift" => Some(PageRoute::Drift),
            path => query::service(path).map(PageRoute::Service),
        }
    }
}

impl Status {
    /// Answers with the page at the path of a request.
    pub(crate) fn into_router(self) -> Router {
        Arc::new(move |request: &Request<'_>| self.answer(request))
    }

    pub(super) fn answer(&self, request: &Request<'_>) -> Answer {
        match request.path {
            "/assets/status.css" => return asset("text/css; charset=utf-8", STYLE).into(),
            "/assets/status.js" => return asset("text/javascript; charset=utf-8", SCRIPT).into(),
            _ => {}
        }
        let Some(route) = PageRoute::of(request.path) else { return Response::not_found().into() };
        let (status, query) = match Query::of(request) {
            Ok(query) => (self.clone(), query),
            Err(error) => {
                let text = format!("400 bad request: {error}\n");
                return guarded(Response::text(StatusCode::BAD_REQUEST, text)).into();
            }
        };
        Answer::Later(self.worker.render(move || status.page(&route, &query)))
    }

    fn page(&self, route: &PageRoute, query: &Query) -> Response {
        let now = SystemTime::now();
        match route {
            PageRoute::Overview => shown(&Overview::of(self, now), query, StatusCode::OK),
            PageRoute::Services => shown(&ServiceList::of(self, query), query, StatusCode::OK),
            PageRoute::Drift => shown(&DriftPage::of(self, now), query, StatusCode::OK),
            PageRoute::Explain => {
                let page = ExplainPage::of(self, query);
                shown(&page, query, page.status())
            }
            PageRoute::Service(key) => match ServicePage::of(self, key, query.page) {
                Some(page) => shown(&page, query, StatusCode::OK),
                None => shown(&NoService::of(self, key), query, StatusCode::NOT_FOUND),
            },
        }
    }
}

/// Renders a page as HTML or JSON, as requested.
fn shown(page: &(impl Template + Serialize), query: &Query, status: StatusCode) -> Response {
    let response = if query.json {
        serde_json::to_string(page).map(|body| Response::json(status, body)).ok()
    } else {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        page.render().map(|body| Response::new(status, html, body)).ok()
    };
    let failed = || {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Response::text(status, "500 cannot render the page\n")
    };
    guarded(response.unwrap_or_else(failed))
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with(VARY, HeaderValue::from_static("Accept"))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let content_type = HeaderValue::from_static(content_type);
    // Not cached: after an upgrade, page and assets must be of the same version. They are small.
    guarded(Response::new(StatusCode::OK, content_type, text))
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// Keeps other sites from using the response. It contains no secrets.
fn guarded(response: Response) -> Response {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    response
        .with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
        .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
        .with(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))
        .with(RESOURCE_POLICY, HeaderValue::from_static("same-origin"))
}
