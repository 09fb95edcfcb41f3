//! Checks the responses of the API server.
//!
//! There may be proxies between the agent and the server, or the address may lead to a wrong
//! server. A response that is not exactly what was requested must not be treated as an empty list.

use kube::core::Status;
use rulegen_model::protobuf::ProtobufError;

use super::object::{ApiObject, Watched};

/// One answer to a list request with `limit`.
#[derive(Debug)]
pub(super) struct ListPage<W> {
    pub(super) objects: Vec<ApiObject<W>>,
    /// The resource version from which to watch, on the last page.
    pub(super) version: Option<String>,
    /// The continue token; `None` on the last page.
    pub(super) next: Option<String>,
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum StreamEvent<W> {
    /// `ADDED` or `MODIFIED`, with the resource version.
    Put(ApiObject<W>, String),
    /// `DELETED`, with the resource version.
    Gone(ApiObject<W>, String),
    /// `BOOKMARK`: a new resource version without a change.
    Bookmark {
        version: String,
        /// Whether a streaming list is complete.
        ends_list: bool,
    },
    /// `ERROR`.
    Failed(Box<Status>),
}

/// Why a response is invalid.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongAnswer {
    #[error("invalid JSON for a {expected}: {error}{}", .start.as_deref().map(|start| format!(" (starts with {start:?})")).unwrap_or_default())]
    NotJson { expected: &'static str, error: serde_json::Error, start: Option<String> },
    #[error("invalid protobuf for {expected}: {error}")]
    NotProtobuf { expected: String, error: ProtobufError },
    #[error(
        "unexpected kind {kind:?}, apiVersion {api_version:?} (expected {expected:?}, \
         {expected_version:?})"
    )]
    Kind { kind: String, api_version: String, expected: String, expected_version: &'static str },
    #[error("missing field {0}")]
    Missing(&'static str),
    #[error("unknown watch event type {0:?}")]
    EventType(String),
    #[error("stream ended, or stalled, before the list was complete")]
    EndsEarly,
    #[error("list does not end: {0}")]
    Endless(&'static str),
    #[error("{what} exceeds {limit} bytes")]
    TooLong { what: &'static str, limit: usize },
}

/// A list without its items.
pub(super) struct ListHead {
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) metadata: Option<ListMetadata>,
}

/// The metadata of a list. The texts may be empty.
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    pub(super) next: String,
}

/// The object of a bookmark.
pub(super) struct Bookmark {
    pub(super) kind: String,
    pub(super) api_version: String,
    /// May be empty.
    pub(super) version: String,
    /// Whether a streaming list is complete.
    pub(super) ends_list: bool,
}

/// The object of a watch event, which the event's type describes.
pub(super) trait EventObject {
    /// An object that was added, changed or deleted.
    fn object<W: Watched>(&self) -> Result<ApiObject<W>, WrongAnswer>;
    fn bookmark<W: Watched>(&self) -> Result<Bookmark, WrongAnswer>;
    /// An error.
    fn status(&self) -> Result<Status, WrongAnswer>;
}

/// Checks a page of a list.
///
/// # Errors
/// It is not a list of this kind, or an item is not an object of the kind.
pub(super) fn checked_page<W: Watched>(
    head: ListHead,
    objects: impl Iterator<Item = ApiObject<W>>,
) -> Result<ListPage<W>, WrongAnswer> {
    check_kind::<W>(&head.kind, &head.api_version, "List")?;
    let metadata = head.metadata.ok_or(WrongAnswer::Missing("metadata"))?;
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    let (version, next) = (filled(metadata.resource_version), filled(metadata.next));
    if version.is_none() && next.is_none() {
        return Err(WrongAnswer::Missing("metadata.resourceVersion"));
    }
    let objects = objects.map(checked).collect::<Result<_, _>>()?;
    Ok(ListPage { objects, version, next })
}

/// Checks an event of a watch.
///
/// # Errors
/// It is not an event about an object of this kind.
pub(super) fn checked_event<W: Watched>(
    event: &str,
    object: &impl EventObject,
) -> Result<StreamEvent<W>, WrongAnswer> {
    match event {
        "ADDED" | "MODIFIED" => {
            versioned(object.object()?).map(|(object, version)| StreamEvent::Put(object, version))
        }
        "DELETED" => {
            versioned(object.object()?).map(|(object, version)| StreamEvent::Gone(object, version))
        }
        "BOOKMARK" => checked_bookmark::<W>(object.bookmark::<W>()?),
        "ERROR" => failed(object.status()?),
        other => Err(WrongAnswer::EventType(start(other.as_bytes()))),
    }
}

fn checked<W: Watched>(object: ApiObject<W>) -> Result<ApiObject<W>, WrongAnswer> {
    // Items of a list may omit kind and apiVersion; if present they must be right.
    if !object.kind.is_empty() || !object.api_version.is_empty() {
        check_kind::<W>(&object.kind, &object.api_version, "")?;
    }
    if object.key.name.is_empty() {
        return Err(WrongAnswer::Missing("metadata.name"));
    }
    Ok(object)
}

/// Objects of a watch have a kind, an apiVersion and a resource version.
fn versioned<W: Watched>(object: ApiObject<W>) -> Result<(ApiObject<W>, String), WrongAnswer> {
    let object = checked(object)?;
    check_kind::<W>(&object.kind, &object.api_version, "")?;
    match object.resource_version.clone() {
        Some(version) => Ok((object, version)),
        None => Err(WrongAnswer::Missing("metadata.resourceVersion")),
    }
}

/// A watch from an empty version would start with the current state and not report deletions.
fn checked_bookmark<W: Watched>(bookmark: Bookmark) -> Result<StreamEvent<W>, WrongAnswer> {
    let Bookmark { kind, api_version, version, ends_list } = bookmark;
    check_kind::<W>(&kind, &api_version, "")?;
    if version.is_empty() {
        return Err(WrongAnswer::Missing("metadata.resourceVersion"));
    }
    Ok(StreamEvent::Bookmark { version, ends_list })
}

fn failed<W>(status: Status) -> Result<StreamEvent<W>, WrongAnswer> {
    if status.code == 0 {
        return Err(WrongAnswer::Missing("code"));
    }
    Ok(StreamEvent::Failed(Box::new(status)))
}

/// Checks the kind of an object, or with the suffix `List` that of a list.
///
/// # Errors
/// It is another.
pub(super) fn check_kind<W: Watched>(
    kind: &str,
    api_version: &str,
    suffix: &str,
) -> Result<(), WrongAnswer> {
    let (expected, expected_version) = (format!("{}{suffix}", W::KIND.name()), W::API_VERSION);
    if kind == expected && api_version == expected_version {
        return Ok(());
    }
    let (kind, api_version) = (start(kind.as_bytes()), start(api_version.as_bytes()));
    Err(WrongAnswer::Kind { kind, api_version, expected, expected_version })
}

/// The start of a text, for a log line.
pub(super) fn start(text: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(text.get(..MOST).unwrap_or(text));
    text.into_owned()
}
