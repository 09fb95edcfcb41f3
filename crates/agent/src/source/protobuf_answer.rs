//! Reads the API server's answers in protobuf.

use hyper::body::Bytes;
use kube::core::Status;
use kube::core::response::{StatusCause, StatusDetails};
use rulegen_model::protobuf::{self, ProtobufError, StatusFields, TypedBytes};

use super::answer::{
    Bookmark, EventObject, ListHead, ListMetadata, ListPage, StreamEvent, WrongAnswer, check_kind,
    checked_event, checked_page,
};
use super::object::{ApiObject, Watched};

/// Reads a page of a list.
///
/// # Errors
/// It is not a list of this kind, or an item is not an object of the kind.
pub(super) fn page<W: Watched>(body: &Bytes) -> Result<ListPage<W>, WrongAnswer> {
    let expected = || format!("a {}List", W::KIND.name());
    let TypedBytes { api_version, kind, raw } = protobuf::typed(body).map_err(wrong(expected))?;
    // Another kind's bytes would be a list with invalid fields.
    check_kind::<W>(&kind, &api_version, "List")?;
    let list = protobuf::list(&raw).map_err(wrong(expected))?;
    let (resource_version, next) = (list.resource_version, list.next);
    let metadata = list.has_metadata.then_some(ListMetadata { resource_version, next });
    let head = ListHead { kind, api_version, metadata };
    let object = |raw| ApiObject::of_protobuf(TypedBytes { raw, ..TypedBytes::default() });
    checked_page(head, list.items.into_iter().map(object))
}

/// Reads an event of a watch, without its length.
///
/// # Errors
/// It is not an event about an object of this kind.
pub(super) fn event<W: Watched>(frame: &Bytes) -> Result<StreamEvent<W>, WrongAnswer> {
    let expected = || format!("a watch event of {}", W::KIND.name());
    let event = protobuf::event(frame).map_err(wrong(expected))?;
    let object = protobuf::typed(&event.object).map_err(wrong(expected))?;
    checked_event(&event.event, &ProtobufObject(object))
}

/// Reads an error response.
///
/// # Errors
/// It is not a Status.
pub(super) fn status(body: &Bytes) -> Result<Status, WrongAnswer> {
    ProtobufObject(protobuf::typed(body).map_err(wrong(|| "a Status".to_owned()))?).status()
}

struct ProtobufObject(TypedBytes);

impl EventObject for ProtobufObject {
    fn object<W: Watched>(&self) -> Result<ApiObject<W>, WrongAnswer> {
        Ok(ApiObject::of_protobuf(self.0.clone()))
    }

    fn bookmark<W: Watched>(&self) -> Result<Bookmark, WrongAnswer> {
        let TypedBytes { kind, api_version, raw } = &self.0;
        let read = protobuf::object(W::KIND, raw);
        Ok(Bookmark {
            kind: kind.clone(),
            api_version: api_version.clone(),
            version: read.resource_version,
            ends_list: read.ends_list,
        })
    }

    fn status(&self) -> Result<Status, WrongAnswer> {
        let status = protobuf::status(&self.0.raw);
        let StatusFields { message, reason, code, causes } =
            status.map_err(wrong(|| "a Status".to_owned()))?;
        let cause = |[reason, message, field]: [String; 3]| StatusCause { reason, message, field };
        let causes: Vec<StatusCause> = causes.into_iter().map(cause).collect();
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes,
            retry_after_seconds: 0,
        };
        Ok(Status {
            // Other numbers are not HTTP statuses.
            code: u16::try_from(code).unwrap_or_default(),
            message,
            reason,
            details: Some(details),
            ..Status::default()
        })
    }
}

fn wrong(expected: impl FnOnce() -> String) -> impl FnOnce(ProtobufError) -> WrongAnswer {
    move |error| WrongAnswer::NotProtobuf { expected: expected(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::object::{EndpointSlices, Services};

    /// Fields of bytes with numbers below 16 and lengths below 128.
    fn fields(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let field = |(number, bytes): &(u8, &[u8])| {
            [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], *bytes].concat()
        };
        fields.iter().flat_map(field).collect()
    }

    fn typed(api_version: &str, kind: &str, raw: &[u8]) -> Bytes {
        let meta = fields(&[(1, api_version.as_bytes()), (2, kind.as_bytes())]);
        [b"k8s\0".to_vec(), fields(&[(1, &meta), (2, raw)])].concat().into()
    }

    /// The metadata of an object with a name and a resource version.
    fn metadata(name: &str, version: &str) -> Vec<u8> {
        fields(&[(1, &fields(&[(1, name.as_bytes()), (6, version.as_bytes())]))])
    }

    fn watched(
        event_type: &str,
        object: &[u8],
    ) -> Result<StreamEvent<EndpointSlices>, WrongAnswer> {
        event(&fields(&[(1, event_type.as_bytes()), (2, &fields(&[(1, object)]))]).into())
    }

    fn error(answer: Result<impl std::fmt::Debug, WrongAnswer>) -> String {
        answer.unwrap_err().to_string()
    }

    #[test]
    fn protobuf_list_of_wrong_kind_version_or_form_is_an_error() {
        let good = fields(&[(1, &fields(&[(2, b"9")])), (2, &metadata("a", "7"))]);
        let read = page::<Services>(&typed("v1", "ServiceList", &good)).unwrap();
        assert_eq!((read.objects.len(), read.version.as_deref()), (1, Some("9")));
        let of =
            |api_version, kind, raw: &[u8]| error(page::<Services>(&typed(api_version, kind, raw)));
        assert!(of("v1", "PodList", &good).starts_with("unexpected kind \"PodList\""));
        assert!(of("v2", "ServiceList", &good).starts_with("unexpected kind \"ServiceList\""));
        assert_eq!(of("v1", "ServiceList", &[]), "missing field metadata");
        let empty = fields(&[(1, b"")]);
        assert_eq!(of("v1", "ServiceList", &empty), "missing field metadata.resourceVersion");
        let unnamed = fields(&[(1, &fields(&[(2, b"9")])), (2, b"")]);
        assert_eq!(of("v1", "ServiceList", &unnamed), "missing field metadata.name");
        assert!(
            of("v1", "ServiceList", &[0x08, 1])
                .starts_with("invalid protobuf for a ServiceList: metadata: invalid wire type")
        );
        let html = error(page::<Services>(&Bytes::from_static(b"<html>")));
        assert!(html.starts_with("invalid protobuf for a ServiceList: does not start"), "{html}");
    }

    #[test]
    fn protobuf_list_with_an_invalid_item_has_the_others() {
        let invalid = [metadata("b", "8"), vec![0x10, 1]].concat();
        let items = [(1, &fields(&[(2, b"9")])), (2, &metadata("a", "7")), (2, &invalid)];
        let items = items.map(|(number, bytes)| (number, bytes.as_slice()));
        let read = page::<Services>(&typed("v1", "ServiceList", &fields(&items))).unwrap();
        let [a, b] = read.objects.as_slice() else { panic!("{read:?}") };
        assert!(a.object.is_ok());
        let problem = b.object.as_ref().unwrap_err().to_string();
        assert!(problem.starts_with("Service default/b: spec: invalid wire type"), "{problem}");
    }

    #[test]
    fn protobuf_watch_event_of_wrong_kind_type_or_form_is_an_error() {
        let slice = typed("discovery.k8s.io/v1", "EndpointSlice", &metadata("a", "7"));
        let put = watched("ADDED", &slice);
        assert!(matches!(&put, Ok(StreamEvent::Put(_, version)) if version == "7"), "{put:?}");
        let gone = watched("DELETED", &slice);
        assert!(matches!(&gone, Ok(StreamEvent::Gone(_, version)) if version == "7"));
        let bookmark = watched("BOOKMARK", &slice);
        assert!(matches!(
            &bookmark,
            Ok(StreamEvent::Bookmark { version, ends_list: false }) if version == "7"
        ));
        let annotation = fields(&[(1, b"k8s.io/initial-events-end"), (2, b"true")]);
        let metadata_of_end = fields(&[(1, &fields(&[(6, b"7"), (12, &annotation)]))]);
        let end = typed("discovery.k8s.io/v1", "EndpointSlice", &metadata_of_end);
        let end = watched("BOOKMARK", &end);
        assert!(matches!(&end, Ok(StreamEvent::Bookmark { ends_list: true, .. })), "{end:?}");
        let pod = typed("v1", "Pod", &metadata("a", "7"));
        let unnamed = typed("discovery.k8s.io/v1", "EndpointSlice", &metadata("", "7"));
        let old = typed("discovery.k8s.io/v1", "EndpointSlice", &metadata("a", ""));
        for (event_type, object) in [
            ("ADDED", &pod[..]),
            ("BOOKMARK", &pod),
            ("MODIFIED", &unnamed),
            ("DELETED", &old),
            ("BOOKMARK", &old),
            ("ERROR", &pod),
            ("added", &slice),
            ("", &slice),
            ("ADDED", b"{}"),
            ("ADDED", b""),
        ] {
            let read = watched(event_type, object);
            assert!(read.is_err(), "{event_type} {object:?}: {read:?}");
        }
        let cut = error(event::<EndpointSlices>(&Bytes::from_static(b"\x12\x7f")));
        assert_eq!(
            cut,
            "invalid protobuf for a watch event of EndpointSlice: object: buffer underflow"
        );
    }

    #[test]
    fn protobuf_status_has_code_and_causes() {
        let cause = fields(&[(1, b"ResourceVersionTooLarge"), (2, b"too large")]);
        let raw = [
            fields(&[(3, b"m"), (4, b"Timeout"), (5, &fields(&[(4, &cause)]))]),
            vec![0x30, 0xf8, 3],
        ];
        let read = status(&typed("v1", "Status", &raw.concat())).unwrap();
        assert_eq!((read.code, &*read.message, &*read.reason), (504, "m", "Timeout"));
        assert_eq!(read.details.unwrap().causes[0].reason, "ResourceVersionTooLarge");
    }
}
