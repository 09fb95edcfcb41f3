//! Checks the responses of the API server.
//!
//! There may be proxies between the agent and the server, or the address may lead to a wrong
//! server. A response that is not exactly what was requested must not be treated as an empty list.

use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::{ApiObject, Watched};

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<W> {
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
    Bookmark(String),
    /// `ERROR`.
    Failed(Box<Status>),
}

/// Why a response is invalid.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongAnswer {
    #[error("invalid JSON for a {expected}: {error}{}", .start.as_deref().map(|start| format!(" (starts with {start:?})")).unwrap_or_default())]
    NotJson { expected: &'static str, error: serde_json::Error, start: Option<String> },
    #[error(
        "unexpected kind {kind:?}, apiVersion {api_version:?} (expected {expected:?}, \
         {expected_version:?})"
    )]
    Kind { kind: String, api_version: String, expected: String, expected_version: &'static str },
    #[error("missing field {0}")]
    Missing(&'static str),
    #[error("unknown watch event type {0:?}")]
    EventType(String),
    #[error("list does not end: {0}")]
    Endless(&'static str),
    #[error("{what} exceeds {limit} bytes")]
    TooLong { what: &'static str, limit: usize },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    metadata: Option<ListMetadata>,
    #[serde(borrow, default)]
    items: Items<'a>,
}

/// A missing field `items` is an error; `null` is not, because Go writes empty lists as null.
#[derive(Default)]
enum Items<'a> {
    #[default]
    Absent,
    Present(Vec<&'a RawValue>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items: Option<Vec<&'de RawValue>> = Option::deserialize(deserializer)?;
        Ok(Self::Present(items.unwrap_or_default()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Reads a page of a list.
///
/// # Errors
/// It is not a list of this kind, or an item is not an object of the kind.
pub(super) fn page<W: Watched>(body: &[u8]) -> Result<Page<W>, WrongAnswer> {
    let not_json = |error| not_json("list", error, body);
    let list: RawList = serde_json::from_slice(body).map_err(not_json)?;
    check_kind::<W>(&list.kind, &list.api_version, "List")?;
    let Items::Present(items) = list.items else { return Err(WrongAnswer::Missing("items")) };
    let metadata = list.metadata.ok_or(WrongAnswer::Missing("metadata"))?;
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (version, next) = (filled(metadata.resource_version), filled(metadata.next));
    if version.is_none() && next.is_none() {
        return Err(WrongAnswer::Missing("metadata.resourceVersion"));
    }
    let objects = items.into_iter().map(|item| object(item)).collect::<Result<_, _>>()?;
    Ok(Page { objects, version, next })
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type", default)]
    event: String,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawBookmark {
    metadata: Option<ListMetadata>,
}

/// Reads a line of a watch.
///
/// # Errors
/// It is not an event about an object of this kind.
pub(super) fn event<W: Watched>(line: &[u8]) -> Result<StreamEvent<W>, WrongAnswer> {
    let raw: RawEvent = serde_json::from_slice(line).map_err(|e| not_json("event", e, line))?;
    let json = raw.object.ok_or(WrongAnswer::Missing("object"))?;
    match raw.event.as_str() {
        "ADDED" | "MODIFIED" => {
            versioned(json).map(|(object, version)| StreamEvent::Put(object, version))
        }
        "DELETED" => versioned(json).map(|(object, version)| StreamEvent::Gone(object, version)),
        "BOOKMARK" => bookmark::<W>(json).map(StreamEvent::Bookmark),
        "ERROR" => status(json).map(StreamEvent::Failed),
        other => Err(WrongAnswer::EventType(start(other.as_bytes()))),
    }
}

fn object<W: Watched>(json: &RawValue) -> Result<ApiObject<W>, WrongAnswer> {
    let object = ApiObject::<W>::read(json);
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
fn versioned<W: Watched>(json: &RawValue) -> Result<(ApiObject<W>, String), WrongAnswer> {
    let object = object::<W>(json)?;
    check_kind::<W>(&object.kind, &object.api_version, "")?;
    match object.resource_version.clone() {
        Some(version) => Ok((object, version)),
        None => Err(WrongAnswer::Missing("metadata.resourceVersion")),
    }
}

/// A watch from an empty version would start with the current state and not report deletions.
fn bookmark<W: Watched>(json: &RawValue) -> Result<String, WrongAnswer> {
    let object = ApiObject::<W>::read(json);
    check_kind::<W>(&object.kind, &object.api_version, "")?;
    let not_json = |error| not_json("bookmark", error, json.get().as_bytes());
    let bookmark: RawBookmark = serde_json::from_str(json.get()).map_err(not_json)?;
    let version = bookmark.metadata.and_then(|metadata| metadata.resource_version);
    version
        .filter(|version| !version.is_empty())
        .ok_or(WrongAnswer::Missing("metadata.resourceVersion"))
}

fn status(json: &RawValue) -> Result<Box<Status>, WrongAnswer> {
    let not_json = |error| not_json("Status", error, json.get().as_bytes());
    let status: Status = serde_json::from_str(json.get()).map_err(not_json)?;
    if status.code == 0 { Err(WrongAnswer::Missing("code")) } else { Ok(Box::new(status)) }
}

fn check_kind<W: Watched>(kind: &str, api_version: &str, suffix: &str) -> Result<(), WrongAnswer> {
    let (expected, expected_version) = (format!("{}{suffix}", W::KIND.name()), W::API_VERSION);
    if kind == expected && api_version == expected_version {
        return Ok(());
    }
    let (kind, api_version) = (start(kind.as_bytes()), start(api_version.as_bytes()));
    Err(WrongAnswer::Kind { kind, api_version, expected, expected_version })
}

fn not_json(expected: &'static str, error: serde_json::Error, body: &[u8]) -> WrongAnswer {
    // A truncated response is recognisable by the error; otherwise the beginning helps.
    let start = (!body.starts_with(b"{")).then(|| start(body));
    WrongAnswer::NotJson { expected, error, start }
}

/// The maximum length of a quotation in a log line.
fn start(text: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(text.get(..MOST).unwrap_or(text));
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::object::{EndpointSlices, Services};

    fn list(fields: &str) -> Result<Page<Services>, WrongAnswer> {
        page(format!("{{{fields}}}").as_bytes())
    }

    const HEAD: &str = r#""kind":"ServiceList","apiVersion":"v1""#;
    const META: &str = r#""metadata":{"resourceVersion":"9"}"#;

    #[test]
    fn list_with_null_or_no_items_is_empty() {
        for items in ["null", "[]"] {
            let page = list(&format!("{HEAD},{META},\"items\":{items}")).unwrap();
            assert!(page.objects.is_empty() && page.next.is_none());
            assert_eq!(page.version.as_deref(), Some("9"));
        }
        // In any order, with unknown fields.
        let page = list(&format!("\"items\":[],\"x\":[{{}}],{META},{HEAD}"));
        assert!(page.is_ok());
    }

    #[test]
    fn list_of_wrong_kind_version_or_form_is_an_error() {
        let item = r#"{"metadata":{"name":"a","namespace":"b"}}"#;
        for body in [
            "".to_owned(),
            META.to_owned(),
            format!("{META},\"items\":[]"),
            format!("\"kind\":\"ServiceList\",{META},\"items\":[]"),
            format!("\"kind\":\"PodList\",\"apiVersion\":\"v1\",{META},\"items\":[]"),
            format!("\"kind\":\"PodList\",\"apiVersion\":\"v1\",{META},\"items\":[{item}]"),
            format!("\"kind\":\"Service\",\"apiVersion\":\"v1\",{META}"),
            format!("\"kind\":\"List\",\"apiVersion\":\"v1\",{META},\"items\":[]"),
            format!("\"kind\":\"ServiceList\",\"apiVersion\":\"v2\",{META},\"items\":[]"),
            format!("\"kind\":[\"ServiceList\"],\"apiVersion\":\"v1\",{META},\"items\":[]"),
            "\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Success\"".to_owned(),
            format!("{HEAD},{META}"),
            format!("{HEAD},\"items\":[]"),
            format!("{HEAD},\"metadata\":null,\"items\":[]"),
            format!("{HEAD},\"metadata\":{{}},\"items\":[]"),
            format!("{HEAD},\"metadata\":{{\"resourceVersion\":\"\"}},\"items\":[]"),
            format!("{HEAD},{META},\"items\":{{}}"),
            format!("{HEAD},{META},\"items\":\"none\""),
            format!("{HEAD},{META},\"items\":[null]"),
            format!("{HEAD},{META},\"items\":[{{}}]"),
            format!("{HEAD},{META},\"items\":[{{\"metadata\":{{\"name\":\"\"}}}}]"),
            format!("{HEAD},{META},\"items\":[{{\"metadata\":1}}]"),
            format!("{HEAD},{META},\"items\":{}", "[".repeat(200_000)),
            format!("{HEAD},{META},\"items\":{}{}", "[".repeat(2000), "]".repeat(2000)),
            format!(
                "{HEAD},{META},\"items\":[{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"a\"}}}}]"
            ),
            format!("{HEAD},{META},\"items\":[],{HEAD}"),
        ] {
            let answer = list(&body);
            assert!(answer.is_err(), "{}: {answer:?}", &body[..body.len().min(200)]);
        }
        for body in ["", "<html>", "null", "[]", "\"\"", "{", "\u{feff}{}", "ok\n"] {
            let answer = page::<Services>(body.as_bytes());
            assert!(matches!(answer, Err(WrongAnswer::NotJson { .. })), "{body}: {answer:?}");
        }
    }

    #[test]
    fn list_page_with_continue_token_needs_no_resource_version() {
        let metadata = r#""metadata":{"continue":"x"}"#;
        let page = list(&format!("{HEAD},{metadata},\"items\":[]")).unwrap();
        assert_eq!((page.version, page.next.as_deref()), (None, Some("x")));
    }

    const SLICE: &str = r#"{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4","metadata":{"name":"a","namespace":"b","resourceVersion":"7"}}"#;

    fn watched(kind: &str, object: &str) -> Result<StreamEvent<EndpointSlices>, WrongAnswer> {
        event(format!("{{\"type\":{kind:?},\"object\":{object}}}").as_bytes())
    }

    #[test]
    fn watch_event_fields_may_have_any_order() {
        let put = watched("ADDED", SLICE);
        assert!(matches!(&put, Ok(StreamEvent::Put(_, version)) if version == "7"), "{put:?}");
        let gone = event::<EndpointSlices>(
            format!("{{\"object\":{SLICE},\"type\":\"DELETED\"}}").as_bytes(),
        );
        assert!(matches!(&gone, Ok(StreamEvent::Gone(_, version)) if version == "7"), "{gone:?}");
        let bookmark = watched("BOOKMARK", SLICE);
        assert!(matches!(&bookmark, Ok(StreamEvent::Bookmark(version)) if version == "7"));
        let error = watched("ERROR", r#"{"kind":"Status","code":410,"message":"too old"}"#);
        assert!(matches!(&error, Ok(StreamEvent::Failed(status)) if status.code == 410));
    }

    #[test]
    fn watch_event_of_wrong_kind_type_or_form_is_an_error() {
        for (kind, object) in [
            ("ADDED", SLICE.replace("EndpointSlice", "Pod")),
            ("MODIFIED", SLICE.replace("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1")),
            ("DELETED", SLICE.replace("\"kind\":\"EndpointSlice\",", "")),
            ("ADDED", SLICE.replace("\"7\"", "\"\"")),
            ("ADDED", SLICE.replace("\"name\":\"a\"", "\"name\":\"\"")),
            ("DELETED", "{\"metadata\":1}".to_owned()),
            ("ADDED", "null".to_owned()),
            ("ADDED", "[]".to_owned()),
            ("BOOKMARK", SLICE.replace("\"7\"", "\"\"")),
            ("BOOKMARK", SLICE.replace(",\"resourceVersion\":\"7\"", "")),
            ("BOOKMARK", SLICE.replace("EndpointSlice", "Service")),
            ("BOOKMARK", "{}".to_owned()),
            ("ERROR", "{}".to_owned()),
            ("ERROR", "null".to_owned()),
            ("ERROR", SLICE.to_owned()),
            ("", SLICE.to_owned()),
            ("added", SLICE.to_owned()),
        ] {
            let read = watched(kind, &object);
            assert!(read.is_err(), "{kind} {object}: {read:?}");
        }
        for line in ["{", "<html>", "{}", "null", "{\"type\":\"ADDED\"}", SLICE, "{} {}"] {
            assert!(event::<EndpointSlices>(line.as_bytes()).is_err(), "{line}");
        }
    }

    /// Control characters are escaped for the log.
    #[test]
    fn wrong_answer_error_is_escaped_and_truncated() {
        let html = format!("<html>\u{1b}[2J{}", "x".repeat(10_000));
        let error = page::<Services>(html.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("<html>\\u{1b}[2J") && error.len() < 300, "{error}");
        let kind = format!("\"kind\":\"{}\"", "x".repeat(10_000));
        let error = list(&format!("{kind},{META},\"items\":[]")).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }
}
