//! Requests and responses.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

/// The parts of a request that a response may depend on; the method is GET or HEAD.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// The query string, not decoded.
    pub query: &'a str,
    /// Whether the `Accept` header names JSON.
    pub wants_json: bool,
    /// The `Host` header; empty if it is repeated or not text.
    pub host: Option<&'a str>,
}

/// A response. For HEAD the body is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// Headers other than those of the transport.
    pub headers: HeaderMap,
    /// The body, complete; Content-Length is its length.
    pub body: Bytes,
}

impl Response {
    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, HeaderValue::from_static("text/plain; charset=utf-8"), body)
    }

    /// A response with Content-Type `application/json`.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, HeaderValue::from_static("application/json"), body)
    }

    /// The path does not exist.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Browsers must not guess another content type.
    pub(crate) fn new(
        status: StatusCode,
        content_type: HeaderValue,
        body: impl Into<Bytes>,
    ) -> Self {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, content_type),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ]);
        Self { status, headers, body: body.into() }
    }
}
