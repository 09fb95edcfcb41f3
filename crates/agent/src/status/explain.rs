//! `/explain?from=&interface=&to=`: what the rules do with a packet, and why.

use askama::Template;
use hyper::StatusCode;
use rulegen_inspect::explain::{End, Explanation, Outcome};
use rulegen_inspect::words;
use serde::Serialize;

use super::Status;
use super::explain_request::{ExplainQuery, ExplainRequest, ExplainRequestError};
use super::frame::Frame;
use super::query::{Query, href};

/// As JSON: the output of `rulegen explain -o json`, or an error.
#[derive(Template, Serialize)]
#[template(path = "status/explain.html")]
pub(super) struct ExplainPage {
    #[serde(skip)]
    frame: Frame,
    #[serde(skip)]
    from: String,
    #[serde(skip)]
    interface: String,
    #[serde(skip)]
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    explanation: Option<Explanation>,
}

impl ExplainPage {
    pub(super) fn of(status: &Status, query: &Query) -> Self {
        let frame = status.frame("/explain", "Explain");
        let (from, interface, to) = (query.from.clone(), query.interface.clone(), query.to.clone());
        let has_query = !from.is_empty();
        let answer = has_query.then(|| {
            let query = ExplainQuery::parse(&from, &interface, &to)?;
            // The store is unlocked before anything is compiled.
            let request = ExplainRequest::of(&status.known.store.read(), &query)?;
            Ok::<_, ExplainRequestError>(request.explained())
        });
        let (explanation, error) = match answer {
            None => (None, None),
            Some(Ok(explanation)) => (Some(explanation), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        Self { frame, from, interface, to, error, explanation }
    }

    pub(super) fn status(&self) -> StatusCode {
        if self.error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK }
    }

    fn json_href(&self) -> String {
        let fields = [
            ("from", &*self.from),
            ("interface", &self.interface),
            ("to", &self.to),
            ("format", "json"),
        ];
        href("/explain", &fields)
    }

    fn is_refusal(&self, of: &End) -> bool {
        matches!(of.outcome, Outcome::Rejected | Outcome::Dropped | Outcome::Unreachable)
    }
}
