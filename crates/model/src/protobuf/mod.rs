//! Reads objects in protobuf, the encoding that Kubernetes' own clients use.
//!
//! ```text
//! list, object:  "k8s\0" | runtime.Unknown { typeMeta, raw: the list or object }
//! watch:         length (4 bytes, big endian) | meta/v1 WatchEvent { type, object.raw: "k8s\0" … } | length …
//! ```
//!
//! Nothing is allocated for a length that the input only claims to have: a length beyond the end of
//! the input is an error.

mod convert;
mod messages;

use prost::bytes::Bytes;
use prost::{DecodeError, Message};

use crate::details::ServiceLabels;
use crate::kind::{Kind, Object};
use crate::problem::{ObjectName, Problem, Severity};
use convert::ApiMessage;
use messages::{
    EndpointSliceMessage, HeadMessage, NodeObjectMessage, ObjectMetaMessage, ServiceCidrMessage,
    ServiceMessage,
};

/// Precedes each list and object in protobuf (apimachinery, `protobuf.NewSerializer`).
const MAGIC: &[u8] = b"k8s\0";

/// The content type of protobuf.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The annotation of the bookmark at which a streaming list is complete.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The size of the length before an event of a watch, in bytes.
pub const FRAME_PREFIX: usize = 4;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProtobufError {
    /// Another format, such as HTML.
    #[error("does not start with \"k8s\\0\" but with {0:?}")]
    Magic(String),
    /// The object within is compressed or has another format.
    #[error("unsupported encoding {0:?} of the object")]
    Encoding(String),
    /// A field has the wrong type or is truncated.
    #[error("{}{message}", .path.as_deref().map(|path| format!("{path}: ")).unwrap_or_default())]
    Field {
        /// The path of the field, such as `spec.ports.port`; none if the message has no fields.
        path: Option<String>,
        /// The error of the decoder.
        message: String,
    },
}

/// A list or object whose type is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypedBytes {
    /// Group and version, such as `discovery.k8s.io/v1`.
    pub api_version: String,
    /// The kind, such as `EndpointSliceList`.
    pub kind: String,
    /// The list or object.
    pub raw: Bytes,
}

/// A page of a list, its items not yet decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListBytes {
    /// Whether it has metadata.
    pub has_metadata: bool,
    /// `metadata.resourceVersion`; may be empty.
    pub resource_version: String,
    /// `metadata.continue`; may be empty.
    pub next: String,
    /// The objects.
    pub items: Vec<Bytes>,
}

/// An event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct EventBytes {
    /// The type, such as `ADDED`.
    pub event: String,
    /// The object: input for [`typed`].
    pub object: Bytes,
}

/// An object of a known kind.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadObject {
    /// `metadata.namespace`; empty if it is unknown.
    pub namespace: String,
    /// `metadata.name`; empty if it is unknown.
    pub name: String,
    /// `metadata.resourceVersion`; empty if it is unknown.
    pub resource_version: String,
    /// Whether it is the bookmark at which a streaming list is complete.
    pub ends_list: bool,
    /// The object. The problem of an invalid one has its name and field if they are known.
    pub object: Result<Object, Box<Problem>>,
}

/// The fields of a meta/v1 Status that are used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatusFields {
    /// The message for people.
    pub message: String,
    /// The reason, one word.
    pub reason: String,
    /// The HTTP status.
    pub code: i32,
    /// Reason, message and field of each cause.
    pub causes: Vec<[String; 3]>,
}

/// The length of the event after the prefix; `None` if the prefix is incomplete.
pub fn frame_length(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.first_chunk::<FRAME_PREFIX>()?;
    Some(usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX))
}

/// Reads the type of a list or object.
///
/// # Errors
/// The bytes are something else.
pub fn typed(bytes: &Bytes) -> Result<TypedBytes, ProtobufError> {
    if !bytes.starts_with(MAGIC) {
        return Err(ProtobufError::Magic(start(bytes)));
    }
    let unknown: messages::UnknownMessage = decode(bytes.slice(MAGIC.len()..))?;
    let messages::UnknownMessage { typeMeta, raw, contentEncoding, contentType } = unknown;
    let encoding = [contentEncoding, contentType].into_iter().find(|text| !text.is_empty());
    if let Some(encoding) = encoding.filter(|text| text != CONTENT_TYPE) {
        return Err(ProtobufError::Encoding(start(encoding.as_bytes())));
    }
    let messages::TypeMetaMessage { apiVersion, kind } = typeMeta.unwrap_or_default();
    Ok(TypedBytes { api_version: apiVersion, kind, raw })
}

/// Splits a list.
///
/// # Errors
/// The bytes are not a list.
pub fn list(raw: &Bytes) -> Result<ListBytes, ProtobufError> {
    let messages::ListMessage { metadata, items } = decode(raw.clone())?;
    let has_metadata = metadata.is_some();
    let metadata = metadata.unwrap_or_default();
    let (resource_version, next) = (metadata.resourceVersion, metadata.r#continue);
    Ok(ListBytes { has_metadata, resource_version, next, items })
}

/// Reads an event of a watch, without its length.
///
/// # Errors
/// The bytes are not an event.
pub fn event(frame: &Bytes) -> Result<EventBytes, ProtobufError> {
    let messages::WatchEventMessage { r#type, object } = decode(frame.clone())?;
    Ok(EventBytes { event: r#type, object: object.unwrap_or_default().raw })
}

/// Reads a Status.
///
/// # Errors
/// The bytes are not a Status.
pub fn status(raw: &Bytes) -> Result<StatusFields, ProtobufError> {
    let messages::StatusMessage { message, reason, details, code } = decode(raw.clone())?;
    let causes = details.unwrap_or_default().causes.into_iter();
    let causes = causes.map(|cause| [cause.reason, cause.message, cause.field]).collect();
    Ok(StatusFields { message, reason, code, causes })
}

/// Reads an object. An invalid one has a name nevertheless, if that can be read.
pub fn object(kind: Kind, raw: &Bytes) -> ReadObject {
    match kind {
        Kind::Service => read::<ServiceMessage>(kind, raw),
        Kind::EndpointSlice => read::<EndpointSliceMessage>(kind, raw),
        Kind::Node => read::<NodeObjectMessage>(kind, raw),
        Kind::ServiceCidr => read::<ServiceCidrMessage>(kind, raw),
    }
}

/// All labels of an object, as [`crate::read_labels`] reads them from JSON.
pub fn labels(raw: &Bytes) -> ServiceLabels {
    let metadata = decode::<HeadMessage>(raw.clone()).ok().and_then(|head| head.metadata);
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let labels = metadata.unwrap_or_default().labels.into_iter();
    labels.map(|entry| (text(entry.key), text(entry.value))).collect()
}

fn read<M: ApiMessage>(kind: Kind, raw: &Bytes) -> ReadObject {
    match decode::<M>(raw.clone()) {
        Ok(mut message) => {
            let metadata = message.take_metadata();
            with_metadata(&metadata, Ok(message.into_object(&metadata)))
        }
        Err(error) => {
            let head: HeadMessage = decode(raw.clone()).unwrap_or_default();
            let metadata = head.metadata.unwrap_or_default();
            with_metadata(&metadata, Err(problem(kind, &metadata, error)))
        }
    }
}

fn with_metadata(metadata: &ObjectMetaMessage, object: Result<Object, Box<Problem>>) -> ReadObject {
    ReadObject {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        resource_version: metadata.resourceVersion.clone(),
        ends_list: metadata.annotation(INITIAL_EVENTS_END).as_deref() == Some("true"),
        object,
    }
}

fn problem(kind: Kind, metadata: &ObjectMetaMessage, error: ProtobufError) -> Box<Problem> {
    let problem = match error {
        ProtobufError::Field { path: Some(path), message } => Problem::warning(path, message),
        error => Problem::new(Severity::Warning, error.to_string()),
    };
    let namespace = match (kind, metadata.namespace.as_str()) {
        (Kind::Service | Kind::EndpointSlice, "") => "default",
        (_, namespace) => namespace,
    };
    Box::new(problem.about(&ObjectName {
        kind: kind.name(),
        namespace: namespace.to_owned(),
        name: metadata.name.clone(),
    }))
}

fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, ProtobufError> {
    M::decode(bytes).map_err(|error| field_error(&error))
}

/// Separates the path of the field from prost's message, which has the innermost field first:
/// `failed to decode Protobuf message: ServiceSpec.ports: Service.spec: invalid varint`. prost has no
/// other access to it. Only for people: nothing is decided by it, and an unknown form is shown whole.
fn field_error(error: &DecodeError) -> ProtobufError {
    let text = error.to_string();
    let mut rest = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
    let mut path = Vec::new();
    while let Some((step, after)) = rest.split_once(": ")
        && let Some((_, field)) = step.split_once('.').filter(|_| !step.contains(' '))
    {
        path.push(field.strip_prefix("r#").unwrap_or(field));
        rest = after;
    }
    path.reverse();
    let path = Some(path.join(".")).filter(|path| !path.is_empty());
    ProtobufError::Field { path, message: rest.to_owned() }
}

/// The start of bytes that are something else, for messages.
fn start(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    String::from_utf8_lossy(bytes.get(..MOST).unwrap_or(bytes)).into_owned()
}
