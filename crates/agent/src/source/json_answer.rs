//! Reads the API server's answers in JSON.

use kube::core::Status;
use rulegen_model::protobuf::INITIAL_EVENTS_END;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{
    Bookmark, EventObject, ListHead, ListMetadata, ListPage, StreamEvent, WrongAnswer,
    checked_event, checked_page, start,
};
use super::object::{ApiObject, Watched};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    metadata: Option<RawListMetadata>,
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
struct RawListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Reads a page of a list.
///
/// # Errors
/// It is not a list of this kind, or an item is not an object of the kind.
pub(super) fn page<W: Watched>(body: &[u8]) -> Result<ListPage<W>, WrongAnswer> {
    let list: RawList = serde_json::from_slice(body).map_err(|e| not_json("list", e, body))?;
    let Items::Present(items) = list.items else { return Err(WrongAnswer::Missing("items")) };
    let metadata = list.metadata.map(|metadata| ListMetadata {
        resource_version: metadata.resource_version.unwrap_or_default(),
        next: metadata.next.unwrap_or_default(),
    });
    let head = ListHead { kind: list.kind, api_version: list.api_version, metadata };
    checked_page(head, items.into_iter().map(ApiObject::read))
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
    metadata: Option<BookmarkMetadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: Option<String>,
    annotations: Option<Value>,
}

/// Reads a line of a watch.
///
/// # Errors
/// It is not an event about an object of this kind.
pub(super) fn event<W: Watched>(line: &[u8]) -> Result<StreamEvent<W>, WrongAnswer> {
    let raw: RawEvent = serde_json::from_slice(line).map_err(|e| not_json("event", e, line))?;
    let object = raw.object.ok_or(WrongAnswer::Missing("object"))?;
    checked_event(&raw.event, &JsonObject(object))
}

struct JsonObject<'a>(&'a RawValue);

impl EventObject for JsonObject<'_> {
    fn object<W: Watched>(&self) -> Result<ApiObject<W>, WrongAnswer> {
        Ok(ApiObject::read(self.0))
    }

    fn bookmark<W: Watched>(&self) -> Result<Bookmark, WrongAnswer> {
        let Self(json) = self;
        let object = ApiObject::<W>::read(json);
        let not_json = |error| not_json("bookmark", error, json.get().as_bytes());
        let bookmark: RawBookmark = serde_json::from_str(json.get()).map_err(not_json)?;
        let metadata = bookmark.metadata;
        let annotations = metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
        let ends_list = annotations.is_some_and(|all| all[INITIAL_EVENTS_END] == "true");
        Ok(Bookmark {
            kind: object.kind,
            api_version: object.api_version,
            version: metadata.and_then(|of| of.resource_version).unwrap_or_default(),
            ends_list,
        })
    }

    fn status(&self) -> Result<Status, WrongAnswer> {
        let json = self.0.get();
        serde_json::from_str(json).map_err(|error| not_json("Status", error, json.as_bytes()))
    }
}

fn not_json(expected: &'static str, error: serde_json::Error, body: &[u8]) -> WrongAnswer {
    // A truncated response is recognisable by the error; otherwise the beginning helps.
    let start = (!body.starts_with(b"{")).then(|| start(body));
    WrongAnswer::NotJson { expected, error, start }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::object::{EndpointSlices, Services};

    fn list(fields: &str) -> Result<ListPage<Services>, WrongAnswer> {
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
        assert!(
            matches!(&bookmark, Ok(StreamEvent::Bookmark { version, ends_list: false }) if version == "7")
        );
        let metadata = r#""annotations":{"k8s.io/initial-events-end":"true"},"name""#;
        let end = watched("BOOKMARK", &SLICE.replace("\"name\"", metadata));
        assert!(matches!(&end, Ok(StreamEvent::Bookmark { ends_list: true, .. })), "{end:?}");
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
