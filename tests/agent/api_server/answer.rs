//! Chooses the response to a request.

use std::time::Instant;

use serde_json::json;

use super::events;
use super::http::{Request, Response};
use super::kind::Kind;
use super::list::{self, Parameters, is_true};
use super::selector::Selection;
use super::state::{Canned, Failure, State, Verb};
use super::status::{self, Status};
use super::watch;

pub(super) enum Answer {
    Whole(Response),
    /// The connection is closed within the body.
    Truncated(Response),
    /// Status 200 with this body.
    Canned(Canned),
    /// A watch until this deadline.
    Watch(Instant),
}

/// Answers a request of a connection.
pub(super) fn answer(state: &mut State, connection: u64, request: &Request) -> Answer {
    state.requests.push(request.clone());
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let answer = match *parts.as_slice() {
        ["version"] => Ok(Answer::Whole(version())),
        ["api", "v1", ref rest @ ..] => resource(state, connection, request, "v1", rest),
        ["apis", group, version, ref rest @ ..] => {
            resource(state, connection, request, &format!("{group}/{version}"), rest)
        }
        _ => Err(status::unknown_path()),
    };
    answer.unwrap_or_else(|status| Answer::Whole(status.into()))
}

fn version() -> Response {
    let version = json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "0", "goVersion": "go",
        "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "compiler": "gc",
        "platform": "linux/amd64",
    });
    Response::new(200, &version)
}

fn resource(
    state: &mut State,
    connection: u64,
    request: &Request,
    api_version: &str,
    path: &[&str],
) -> Result<Answer, Status> {
    let (namespace, plural, name) = match *path {
        ["namespaces", namespace, plural] => (Some(namespace), plural, None),
        ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name)),
        [plural] => (None, plural, None),
        [plural, name] => (None, plural, Some(name)),
        _ => return Err(status::unknown_path()),
    };
    if let ("events", "v1" | "events.k8s.io/v1", Some(namespace)) = (plural, api_version, namespace)
    {
        if let Some(canned) = &state.canned_events {
            return Ok(Answer::Canned(canned.clone()));
        }
        return events::answer(state, request, namespace, name).map(Answer::Whole);
    }
    let kind = Kind::at(api_version, plural)
        .filter(|kind| *kind != Kind::ServiceCidr || !state.lacks_service_cidrs)
        .filter(|kind| kind.is_namespaced() || namespace.is_none())
        .ok_or_else(status::unknown_path)?;
    if request.method != "GET" {
        return Err(status::method_not_allowed());
    }
    let verb = match name {
        Some(_) => Verb::Get,
        None if request.parameter("watch").is_some_and(is_true) => Verb::Watch,
        None => Verb::List,
    };
    // A streaming list fails like a list.
    let part = match verb {
        Verb::Watch if request.is_list() => {
            watch::check_support(state)?;
            Verb::List
        }
        verb => verb,
    };
    if let (Verb::List, Some(canned)) = (part, state.canned.get(&kind)) {
        return Ok(Answer::Canned(canned.clone()));
    }
    match (state.failure(kind, part), verb) {
        (Some(Failure::Code(code)), _) => Err(status::of_code(code, kind, verb.word())),
        (Some(Failure::Truncated), _) => {
            whole(state, request, kind, namespace, name).map(Answer::Truncated)
        }
        (None, Verb::Watch) => {
            let selection = Selection::new(kind, namespace, request)?;
            let parameters = Parameters::new(kind, request)?;
            watch::begin(state, connection, request, selection, &parameters).map(Answer::Watch)
        }
        (None, _) => whole(state, request, kind, namespace, name).map(Answer::Whole),
    }
}

/// Returns a list or one object.
fn whole(
    state: &State,
    request: &Request,
    kind: Kind,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<Response, Status> {
    let Some(name) = name else {
        let selection = Selection::new(kind, namespace, request)?;
        let list = list::list(&state.store, &selection, &Parameters::new(kind, request)?)?;
        return Ok(Response::new(200, &list));
    };
    let key = (kind, namespace.unwrap_or_default().to_owned(), name.to_owned());
    let unknown = || status::unknown_object(kind.group(), kind.plural(), name);
    let object = state.store.objects.get(&key).ok_or_else(unknown)?;
    Ok(Response::new(200, &kind.named(object)))
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}
