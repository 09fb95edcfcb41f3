//! The encodings of the API server's answers.

use crate::choice::NamedChoice;
use crate::value_error::ValueError;

/// An encoding of the API server's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentType {
    /// A third of JSON's bytes.
    #[default]
    Protobuf,
    /// `application/json`.
    Json,
}

impl ContentType {
    /// The media type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Json => "application/json",
        }
    }
}

impl NamedChoice for ContentType {
    const WHAT: &'static str = "content type";
    const ALL: &'static [Self] = &[Self::Protobuf, Self::Json];

    fn as_str(self) -> &'static str {
        self.name()
    }
}

/// Reads the value of `acceptContentTypes`, as in an Accept header. Parameters such as `q=1` are
/// ignored.
///
/// # Errors
/// A type is not supported.
pub(crate) fn parse_content_types(text: &str) -> Result<Vec<ContentType>, ValueError> {
    let names = text.split(',').map(|name| name.split(';').next().unwrap_or_default().trim());
    names.filter(|name| !name.is_empty()).map(ContentType::parse).collect()
}

/// The types that a client accepts, the first preferably. JSON is the second choice unless
/// `acceptContentTypes` is set.
pub(crate) fn accepted(content_type: ContentType, accept: &[ContentType]) -> Vec<ContentType> {
    match (accept, content_type) {
        ([], ContentType::Protobuf) => vec![ContentType::Protobuf, ContentType::Json],
        ([], ContentType::Json) => vec![ContentType::Json],
        (accept, _) => accept.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_content_types_override_content_type() {
        let (protobuf, json) = (ContentType::Protobuf, ContentType::Json);
        assert_eq!(accepted(protobuf, &[]), [protobuf, json]);
        assert_eq!(accepted(json, &[]), [json]);
        let accept = |text| parse_content_types(text).map(|types| accepted(json, &types));
        let both = "application/vnd.kubernetes.protobuf;q=1, application/json";
        assert_eq!(accept(both), Ok(vec![protobuf, json]));
        assert_eq!(accept("application/vnd.kubernetes.protobuf"), Ok(vec![protobuf]));
        assert_eq!(accept(","), Ok(vec![json]));
        assert_eq!(
            accept("application/json,application/cbor").unwrap_err().to_string(),
            "unsupported content type \"application/cbor\" (use \
             application/vnd.kubernetes.protobuf or application/json)"
        );
    }
}
