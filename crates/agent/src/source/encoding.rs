//! The encodings of the API server's answers.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use rulegen_config::ContentType;
use rulegen_model::protobuf;

/// The encoding of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// A server or proxy may ignore what the request accepts. Anything but protobuf is read as JSON;
    /// the error of other formats, such as HTML, shows how they start.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
        if media_type.trim().eq_ignore_ascii_case(protobuf::CONTENT_TYPE) {
            Self::Protobuf
        } else {
            Self::Json
        }
    }
}

/// The `Accept` headers of requests.
#[derive(Debug, Clone)]
pub(crate) struct Accept {
    pub(super) list: HeaderValue,
    pub(super) watch: HeaderValue,
}

impl Accept {
    /// Accepts these types, the first preferably.
    pub(super) fn new(types: &[ContentType]) -> Self {
        let header = |suffix: &str| {
            let name = |of: &ContentType| match of {
                ContentType::Protobuf => of.name().to_owned() + suffix,
                ContentType::Json => of.name().to_owned(),
            };
            let names: Vec<String> = types.iter().map(name).collect();
            let json = HeaderValue::from_static("application/json");
            HeaderValue::try_from(names.join(", ")).unwrap_or(json)
        };
        // The server negotiates the framing of a watch by this parameter.
        Self { list: header(""), watch: header(";stream=watch") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers_name_the_first_type_first() {
        let accept = Accept::new(&[ContentType::Protobuf, ContentType::Json]);
        assert_eq!(accept.list, "application/vnd.kubernetes.protobuf, application/json");
        assert_eq!(
            accept.watch,
            "application/vnd.kubernetes.protobuf;stream=watch, application/json"
        );
        let accept = Accept::new(&[ContentType::Json]);
        assert_eq!(
            (accept.list, accept.watch),
            ("application/json".parse().unwrap(), "application/json".parse().unwrap())
        );
    }

    #[test]
    fn encoding_is_that_of_the_answer() {
        for (value, encoding) in [
            ("application/vnd.kubernetes.protobuf", Encoding::Protobuf),
            ("Application/vnd.kubernetes.protobuf ;stream=watch", Encoding::Protobuf),
            ("application/json", Encoding::Json),
            ("application/json;stream=watch", Encoding::Json),
            ("text/html", Encoding::Json),
            ("", Encoding::Json),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(Encoding::of(&headers), encoding, "{value}");
        }
        assert_eq!(Encoding::of(&HeaderMap::new()), Encoding::Json);
    }
}
