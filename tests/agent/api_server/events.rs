//! Events that clients post, for tests to check.

use serde_json::{Value, json};

use super::http::{Request, Response};
use super::state::State;
use super::status::{self, Status};

/// Creates, patches or returns an Event.
pub(super) fn answer(
    state: &mut State,
    request: &Request,
    namespace: &str,
    name: Option<&str>,
) -> Result<Response, Status> {
    match (&*request.method, name) {
        ("POST", None) => create(state, request, namespace),
        ("PATCH", Some(name)) => {
            let patch = body(request)?;
            let event = find(state, namespace, name)?;
            merge(event, &patch);
            Ok(Response::new(200, event))
        }
        ("GET", Some(name)) => Ok(Response::new(200, find(state, namespace, name)?)),
        _ => Err(status::method_not_allowed()),
    }
}

fn create(state: &mut State, request: &Request, namespace: &str) -> Result<Response, Status> {
    let mut event = body(request)?;
    let metadata = &mut event["metadata"];
    let prefix = metadata["generateName"].as_str().unwrap_or_default();
    let name = match metadata["name"].as_str() {
        Some(name) => name.to_owned(),
        None if prefix.is_empty() => return Err(status::bad_request("name is required")),
        None => format!("{prefix}{:05}", state.events.len()),
    };
    if metadata["namespace"].as_str().is_some_and(|given| given != namespace) {
        let message = "the namespace of the provided object does not match the namespace sent on \
                       the request";
        return Err(status::bad_request(message));
    }
    if find(state, namespace, &name).is_ok() {
        return Err(status::already_exists(&name));
    }
    state.store.version += 1;
    metadata["name"] = name.into();
    metadata["namespace"] = namespace.into();
    metadata["resourceVersion"] = state.store.version.to_string().into();
    metadata["uid"] = format!("00000000-0000-4000-9000-{:012x}", state.store.version).into();
    metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    state.events.push(event.clone());
    Ok(Response::new(201, &event))
}

fn body(request: &Request) -> Result<Value, Status> {
    let body = serde_json::from_str(&request.body).ok().filter(Value::is_object);
    body.ok_or_else(|| status::bad_request("the body of the request was not an object in JSON"))
}

fn find<'a>(state: &'a mut State, namespace: &str, name: &str) -> Result<&'a mut Value, Status> {
    let is_it = |event: &&mut Value| {
        event["metadata"]["namespace"] == namespace && event["metadata"]["name"] == name
    };
    let unknown = || status::unknown_object("", "events", name);
    state.events.iter_mut().find(is_it).ok_or_else(unknown)
}

/// A merge patch (RFC 7386): null removes, objects are merged, other values are replaced.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().and_then(|target| target.remove(name))),
            value => merge(&mut target[name], value),
        }
    }
}
