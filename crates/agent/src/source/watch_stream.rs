//! Watches: streams of events.

use std::ops::Range;

use hyper::body::Bytes;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue};
use kube::api::WatchParams;
use kube::client::Body;
use rulegen_model::protobuf::{FRAME_PREFIX, frame_length};

use super::answer::{StreamEvent, WrongAnswer};
use super::client::{ApiConnection, SILENCE};
use super::encoding::Encoding;
use super::object::Watched;
use super::request::{RequestError, next, send, within};
use super::{json_answer, protobuf_answer};

/// The maximum size of an event: one object. The API server accepts at most 3 MiB.
const LONGEST_EVENT: usize = 8 << 20;

/// The buffer size that is kept for events of usual size.
const KEPT: usize = 256 << 10;

/// Starts a watch from a resource version.
pub(super) async fn watch(
    connection: &ApiConnection,
    path: &str,
    parameters: &WatchParams,
    version: &str,
) -> Result<EventStream, RequestError> {
    let request = kube::core::Request::new(path).watch(parameters, version);
    let mut request =
        request.map_err(|error| RequestError::Unreachable(kube::Error::BuildRequest(error)))?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, connection.accept.watch.clone());
    // From 1.37 on the server compresses each event by itself, of which only the first would be
    // read (tower-http#737).
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let response = within(SILENCE, send(connection, request)).await?;
    let encoding = Encoding::of(response.headers());
    Ok(EventStream::new(encoding, response.into_body()))
}

/// The events of a watch: lines in JSON, or frames in protobuf, which begin with their length.
pub(super) struct EventStream {
    encoding: Encoding,
    body: Body,
    /// Received bytes; events before `begin` are consumed.
    buffer: Vec<u8>,
    begin: usize,
    /// There is no line end between `begin` and here.
    searched: usize,
}

impl EventStream {
    fn new(encoding: Encoding, body: Body) -> Self {
        Self { encoding, body, buffer: Vec::new(), begin: 0, searched: 0 }
    }

    /// The next event, or `None` at the end of the stream. An incomplete last event is dropped: the
    /// next watch sends it again.
    pub(super) async fn event<W: Watched>(
        &mut self,
    ) -> Result<Option<StreamEvent<W>>, RequestError> {
        loop {
            let Some(event) = within(SILENCE, self.fill()).await? else { return Ok(None) };
            let bytes = self.buffer.get(event.clone()).unwrap_or_default();
            let event = match self.encoding {
                Encoding::Json if bytes.trim_ascii().is_empty() => continue,
                Encoding::Json => json_answer::event(bytes)?,
                Encoding::Protobuf => protobuf_answer::event(&Bytes::copy_from_slice(bytes))?,
            };
            return Ok(Some(event));
        }
    }

    /// Reads until an event is complete, and consumes it. Returns its place in the buffer.
    async fn fill(&mut self) -> Result<Option<Range<usize>>, RequestError> {
        loop {
            if let Some(event) = self.complete()? {
                return Ok(Some(event));
            }
            self.buffer.drain(..self.begin);
            self.searched = self.searched.saturating_sub(self.begin);
            self.begin = 0;
            if self.buffer.len() > LONGEST_EVENT {
                return Err(too_long());
            }
            match next(&mut self.body).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Ok(None),
            }
            // Releases the memory of a long event.
            if self.buffer.capacity() > KEPT && self.buffer.len() < KEPT {
                self.buffer.shrink_to(KEPT);
            }
        }
    }

    /// Consumes the next event in the buffer. Returns its place.
    fn complete(&mut self) -> Result<Option<Range<usize>>, RequestError> {
        let (event, end) = match self.encoding {
            Encoding::Json => {
                let rest = self.buffer.get(self.searched..).unwrap_or_default();
                let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
                    self.searched = self.buffer.len();
                    return Ok(None);
                };
                let end = self.searched + at;
                (self.begin..end, end + 1)
            }
            Encoding::Protobuf => {
                let rest = self.buffer.get(self.begin..).unwrap_or_default();
                let Some(length) = frame_length(rest) else { return Ok(None) };
                if length > LONGEST_EVENT {
                    return Err(too_long());
                }
                let begin = self.begin + FRAME_PREFIX;
                let end = begin + length;
                if self.buffer.len() < end {
                    return Ok(None);
                }
                (begin..end, end)
            }
        };
        (self.begin, self.searched) = (end, end);
        Ok(Some(event))
    }
}

fn too_long() -> RequestError {
    WrongAnswer::TooLong { what: "a watch event", limit: LONGEST_EVENT }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::object::Services;

    fn lines(content: impl Into<Vec<u8>>) -> EventStream {
        EventStream::new(Encoding::Json, Body::from(content.into()))
    }

    fn bookmark(version: &str) -> String {
        format!(
            "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"Service\",\"apiVersion\":\"v1\",\
             \"metadata\":{{\"resourceVersion\":{version:?}}}}}}}\n"
        )
    }

    async fn versions(mut lines: EventStream) -> (Vec<String>, Option<RequestError>) {
        let mut versions = Vec::new();
        loop {
            match lines.event::<Services>().await {
                Ok(Some(StreamEvent::Bookmark { version, .. })) => versions.push(version),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) => return (versions, None),
                Err(error) => return (versions, Some(error)),
            }
        }
    }

    #[tokio::test]
    async fn watch_lines_are_read_one_by_one_without_partial_line() {
        let text = format!("{}\n\r\n{}{}", bookmark("1"), bookmark("2"), &bookmark("3")[..20]);
        let (versions, error) = versions(lines(text)).await;
        assert_eq!(versions, ["1", "2"]);
        assert!(error.is_none(), "{error:?}");
    }

    #[tokio::test]
    async fn watch_line_over_limit_is_an_error() {
        let text = bookmark("1") + &"x".repeat(LONGEST_EVENT + 2);
        let (versions, error) = versions(lines(text)).await;
        assert_eq!(versions, ["1"]);
        assert!(
            matches!(error, Some(RequestError::Wrong(WrongAnswer::TooLong { .. }))),
            "{error:?}"
        );
    }

    /// A bookmark of a Service.
    fn frame(version: u8) -> Vec<u8> {
        let object = [
            b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07Service\x12\x07\x0a\x05\x32\x03\x31\x30".to_vec(),
            vec![version],
        ]
        .concat();
        let length = u8::try_from(object.len()).unwrap();
        let event =
            [b"\x0a\x08BOOKMARK\x12".to_vec(), vec![length + 2, 0x0a, length], object].concat();
        [&u32::try_from(event.len()).unwrap().to_be_bytes()[..], &event].concat()
    }

    fn frames(content: Vec<u8>) -> EventStream {
        EventStream::new(Encoding::Protobuf, Body::from(content))
    }

    #[tokio::test]
    async fn watch_frames_are_read_one_by_one_without_partial_frame() {
        let content = [frame(b'1'), frame(b'2'), frame(b'3')[..20].to_vec()].concat();
        let (versions, error) = versions(frames(content)).await;
        assert_eq!(versions, ["101", "102"]);
        assert!(error.is_none(), "{error:?}");
    }

    #[test]
    fn watch_frame_is_complete_with_its_last_byte() {
        let mut stream = frames(Vec::new());
        let content = [frame(b'1'), frame(b'2')].concat();
        let complete = content.iter().map(|byte| {
            stream.buffer.push(*byte);
            stream.complete().unwrap()
        });
        let complete: Vec<_> = complete.enumerate().filter_map(|(n, at)| Some((n, at?))).collect();
        let half = content.len() / 2;
        let expected = [(half - 1, 4..half), (2 * half - 1, half + 4..2 * half)];
        assert_eq!(complete, expected);
    }

    #[tokio::test]
    async fn watch_frame_over_limit_or_with_other_bytes_is_an_error() {
        for (after, expected) in [
            (&b"\xff\xff\xff\xff"[..], "a watch event exceeds 8388608 bytes"),
            (b"\x00\x80\x00\x01", "a watch event exceeds 8388608 bytes"),
            (b"<html>", "a watch event exceeds 8388608 bytes"),
            (
                b"\x00\x00\x00\x02\x0a\x05",
                "invalid protobuf for a watch event of Service: type: buffer underflow",
            ),
            (
                b"\x00\x00\x00\x00",
                "invalid protobuf for a watch event of Service: does not start with \"k8s\\0\" but with \"\"",
            ),
        ] {
            let (versions, error) = versions(frames([&frame(b'1')[..], after].concat())).await;
            assert_eq!(versions, ["101"]);
            assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(expected));
        }
    }
}
