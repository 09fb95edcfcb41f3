//! What is asked and what is answered.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

/// What of a request an answer may depend on; its method is GET or HEAD.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The path, without what follows a `?`.
    pub path: &'a str,
    /// What follows it, as it came.
    pub query: &'a str,
    /// Whether the header `Accept` asks for JSON by name.
    pub wants_json: bool,
    /// Under which name or address it asks: the header `Host`. Empty if it is there more than once
    /// or is no text.
    pub host: Option<&'a str>,
}

/// An answer. To HEAD it is sent without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Headers but for those of the transport.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Text for people.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, HeaderValue::from_static("text/plain; charset=utf-8"), body)
    }

    /// JSON.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, HeaderValue::from_static("application/json"), body)
    }

    /// There is nothing at this path.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// No browser shall guess another type than what is said.
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
