//! Error responses: apimachinery's `metav1.Status`, with its texts.

use serde_json::{Value, json};

use super::http::Response;
use super::kind::Kind;

/// An error response.
#[derive(Debug)]
pub(super) struct Status(Value);

impl Status {
    fn new(code: u16, reason: &str, message: &str) -> Self {
        Self(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        }))
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    /// As the object of an ERROR event.
    pub(super) fn object(&self) -> &Value {
        &self.0
    }
}

impl From<Status> for Response {
    fn from(Status(status): Status) -> Self {
        let mut response = Self::new(status["code"].as_u64().unwrap() as u16, &status);
        let after = &status["details"]["retryAfterSeconds"];
        response.retry_after = after.as_u64().map(|after| after as u32);
        response
    }
}

pub(super) fn bad_request(message: &str) -> Status {
    Status::new(400, "BadRequest", message)
}

/// Also the response of an older server to a resource that it does not have.
pub(super) fn unknown_path() -> Status {
    Status::new(404, "NotFound", "the server could not find the requested resource")
        .with("details", json!({}))
}

pub(super) fn unknown_object(group: &str, plural: &str, name: &str) -> Status {
    let qualified = if group.is_empty() { plural } else { &format!("{plural}.{group}") };
    Status::new(404, "NotFound", &format!("{qualified} \"{name}\" not found"))
        .with("details", json!({"name": name, "group": group, "kind": plural}))
}

pub(super) fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(405, "MethodNotAllowed", message).with("details", json!({}))
}

pub(super) fn already_exists(name: &str) -> Status {
    Status::new(409, "AlreadyExists", &format!("events \"{name}\" already exists"))
        .with("details", json!({"name": name, "kind": "events"}))
}

pub(super) fn expired(message: &str) -> Status {
    Status::new(410, "Expired", message)
}

/// A list whose version expired. It can continue with this token, but then it has no single
/// version.
pub(super) fn expired_token(inconsistent: &str) -> Status {
    let message = "The provided continue parameter is too old to display a consistent list \
                   result. You can start a new list without the continue parameter, or use the \
                   continue token in this response to retrieve the remainder of the results.";
    expired(message).with("metadata", json!({"continue": inconsistent}))
}

/// Parameters that contradict each other, or that this server does not support.
pub(super) fn invalid_options(field: &str, message: &str) -> Status {
    let whole = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {message}");
    let cause = json!({
        "reason": "FieldValueForbidden", "message": format!("Forbidden: {message}"),
        "field": field,
    });
    Status::new(422, "Invalid", &whole)
        .with("details", json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause]}))
}

/// The storage cannot tell when a streaming list is complete.
pub(super) fn no_watch_progress() -> Status {
    let message = "a watch stream was requested by the client but the required storage feature \
                   RequestWatchProgress is disabled";
    Status::new(500, "InternalError", message)
}

/// The client saw a newer version than this server has: from another server, or before a restore.
pub(super) fn too_large_version(wanted: u64, current: u64) -> Status {
    let message = format!("Too large resource version: {wanted}, current: {current}");
    let cause =
        json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    Status::new(504, "Timeout", &message)
        .with("details", json!({"causes": [cause], "retryAfterSeconds": 1}))
}

/// The response of a failing server, or to a client without permission.
pub(super) fn of_code(code: u16, kind: Kind, verb: &str) -> Status {
    let details = json!({"group": kind.group(), "kind": kind.plural()});
    let later = json!({"retryAfterSeconds": 1});
    match code {
        401 => Status::new(code, "Unauthorized", "Unauthorized"),
        403 => {
            let (plural, group) = (kind.plural(), kind.group());
            let message = format!(
                "{plural} is forbidden: User \"system:serviceaccount:kube-system:rulegen\" cannot \
                 {verb} resource \"{plural}\" in API group \"{group}\" at the cluster scope"
            );
            Status::new(code, "Forbidden", &message).with("details", details)
        }
        429 => {
            let message = "the server has received too many requests and has asked us to try \
                           again later";
            Status::new(code, "TooManyRequests", message).with("details", later)
        }
        503 => Status::new(
            code,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        _ => Status::new(code, "InternalError", "Internal error occurred: etcdserver: timeout"),
    }
}
