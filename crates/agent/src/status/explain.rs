//! `/explain?from=&interface=&to=`: what the rules do with a packet, and why.

use askama::Template;
use hyper::StatusCode;
use rulegen_inspect::explain::{
    End, Explanation, Outcome, PassedRule, Remark, RemarkSubject, Sender,
};
use rulegen_inspect::words;
use serde::Serialize;

use super::Status;
use super::explain_request::{ExplainQuery, ExplainRequest};
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
            Ok(request.explained())
        });
        let (explanation, error) = match answer {
            None => (None, None),
            Some(Ok(explanation)) => (Some(explanation), None),
            Some(Err(error)) => (None, Some(error)),
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

    fn sender(&self, of: &Sender) -> String {
        match of {
            Sender::Interface(name) => format!("comes in through {name}"),
            Sender::UnknownInterface => "received by this node".to_owned(),
            Sender::ThisNode => "sent by this node".to_owned(),
        }
    }

    fn label(&self, of: &Remark) -> &'static str {
        match of.about {
            RemarkSubject::Input => "Input",
            RemarkSubject::Policy => "Policy",
            RemarkSubject::Choice => "Choice",
            RemarkSubject::Source => "Source",
            RemarkSubject::NoEndpoints | RemarkSubject::Refusal => "Refused",
            RemarkSubject::NoService => "Passes",
        }
    }

    fn chance(&self, of: &End) -> String {
        match of.probability.one_in {
            Some(1) => words::certainty(!of.conditions.is_empty()).to_owned(),
            Some(n) => format!("1/{n}"),
            None => format!("{:.6} %", of.probability.value * 100.0),
        }
    }

    /// The conditions of all ends, each once.
    fn conditions<'a>(&self, of: &'a Explanation) -> Vec<&'a str> {
        let mut texts: Vec<&str> = Vec::new();
        for condition in of.ends.iter().flat_map(|end| &end.conditions) {
            if !texts.contains(&condition.text.as_str()) {
                texts.push(&condition.text);
            }
        }
        texts
    }

    fn is_refusal(&self, of: &End) -> bool {
        matches!(of.outcome, Outcome::Rejected | Outcome::Dropped | Outcome::Unreachable)
    }

    fn end(&self, of: &End) -> String {
        match of.outcome {
            Outcome::Endpoint { endpoint, masqueraded: true } => {
                format!("{endpoint} (masqueraded)")
            }
            Outcome::Endpoint { endpoint, masqueraded: false } => endpoint.to_string(),
            _ => of.outcome_words().unwrap_or_default().to_owned(),
        }
    }

    /// The rules that the packet passes, in parts with headings.
    fn rules<'a>(&self, of: &'a Explanation) -> Vec<(String, &'a [PassedRule])> {
        let is_routed = of.ends.iter().any(|end| end.outcome != Outcome::Unreachable);
        let first = if is_routed { "Rules matched first" } else { "Rules if it were routed" };
        let first = (first.to_owned(), of.rules.as_slice());
        let ends = of.ends.iter().take(ENDS);
        let ends = ends.map(|end| (format!("To {}", self.end(end)), end.rules.as_slice()));
        let behind = ("Then, in all cases".to_owned(), of.behind.as_slice());
        let all = std::iter::once(first).chain(ends).chain(std::iter::once(behind));
        all.filter(|(_, rules)| !rules.is_empty()).collect()
    }
}

/// The maximum number of outcomes whose rules are shown; the JSON has all.
const ENDS: usize = 8;
