//! Requests to the API server, with limits on the size and duration of responses.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, HeaderValue};
use hyper::{Request, Response};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::Status;
use tokio::time::timeout;

use super::answer::{Page, StreamEvent, WrongAnswer, event, page};
use super::client::SILENCE;
use super::object::Watched;
use crate::error::with_causes;

/// The maximum size of a list page, in bytes. 500 slices of 100 endpoints take about 20 MB.
const LONGEST_PAGE: usize = 32 << 20;

/// The maximum size of a watch event: one object. The API server accepts at most 3 MiB.
const LONGEST_LINE: usize = 8 << 20;

/// The maximum size of an error response.
const LONGEST_REFUSAL: usize = 64 << 10;

/// The timeout of a page. The API server gives up after a minute (--request-timeout).
const PAGE_PATIENCE: Duration = Duration::from_secs(150);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// No response, or an incomplete one.
    #[error("{}", with_causes(.0))]
    Unreachable(#[source] kube::Error),
    /// The response stalled.
    #[error("no data for {} s", .0.as_secs())]
    Silent(Duration),
    /// The API server returned an error.
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
    /// The response is not what was requested.
    #[error("{0}")]
    Wrong(#[from] WrongAnswer),
}

/// Requests a page of a list.
pub(super) async fn list<W: Watched>(
    client: &Client,
    parameters: &ListParams,
) -> Result<Page<W>, RequestError> {
    let request = kube::core::Request::new(W::PATH).list(parameters);
    let mut request =
        request.map_err(|error| RequestError::Unreachable(kube::Error::BuildRequest(error)))?;
    allow_cache(&mut request, parameters);
    let answer = async {
        let response = send(client, request).await?;
        whole(response.into_body(), "the list", LONGEST_PAGE).await
    };
    let body = within(PAGE_PATIENCE, answer).await?;
    Ok(page(&body)?)
}

/// Adds resource version 0 to a request with a limit, as client-go does for servers without a watch
/// cache. kube leaves it out.
fn allow_cache(request: &mut Request<Vec<u8>>, parameters: &ListParams) {
    let from_cache = parameters.resource_version.as_deref() == Some("0");
    if from_cache
        && parameters.limit.is_some()
        && parameters.continue_token.is_none()
        && let Ok(uri) = format!("{}&resourceVersion=0", request.uri()).parse()
    {
        *request.uri_mut() = uri;
    }
}

/// Starts a watch from a resource version.
pub(super) async fn watch(
    client: &Client,
    path: &str,
    parameters: &WatchParams,
    version: &str,
) -> Result<Lines, RequestError> {
    let request = kube::core::Request::new(path).watch(parameters, version);
    let mut request =
        request.map_err(|error| RequestError::Unreachable(kube::Error::BuildRequest(error)))?;
    // From 1.37 on the server compresses each event by itself, of which only the first would be
    // read (tower-http#737).
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let response = within(SILENCE, send(client, request)).await?;
    Ok(Lines { body: response.into_body(), buffer: Vec::new(), begin: 0, searched: 0 })
}

async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    timeout(patience, answer).await.unwrap_or(Err(RequestError::Silent(patience)))
}

async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, RequestError> {
    let response = client.send(request.map(Body::from)).await.map_err(RequestError::Unreachable)?;
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let body = whole(response.into_body(), "the refusal", LONGEST_REFUSAL).await;
    Err(RequestError::Refused(Box::new(refused(code.as_u16(), &body.unwrap_or_default()))))
}

/// The API server returns a Status; proxies in between often return HTML.
fn refused(code: u16, body: &[u8]) -> Status {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if !status.message.is_empty() => Status { code, ..status },
        _ => Status { code, ..Status::default() },
    }
}

fn refusal(status: &Status) -> String {
    // The length of a message is not bounded by its sender.
    const MOST: usize = 500;
    let message: String = status.message.chars().take(MOST).collect();
    let colon = if message.is_empty() { "" } else { ": " };
    format!("status {}{colon}{message}", status.code)
}

async fn whole(mut body: Body, what: &'static str, limit: usize) -> Result<Vec<u8>, RequestError> {
    let mut content = Vec::new();
    while let Some(data) = next(&mut body).await? {
        if content.len() + data.len() > limit {
            return Err(WrongAnswer::TooLong { what, limit }.into());
        }
        content.extend_from_slice(&data);
    }
    Ok(content)
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, RequestError> {
    loop {
        match body.frame().await.transpose().map_err(RequestError::Unreachable)? {
            None => return Ok(None),
            Some(frame) => {
                // Trailers are ignored.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The lines of a watch stream.
pub(super) struct Lines {
    body: Body,
    /// Received bytes; lines before `begin` are consumed.
    buffer: Vec<u8>,
    begin: usize,
    /// There is no line end between `begin` and here.
    searched: usize,
}

impl Lines {
    /// The next event, or `None` at the end of the stream. An incomplete last line is dropped: the
    /// next watch sends the event again.
    pub(super) async fn event<W: Watched>(
        &mut self,
    ) -> Result<Option<StreamEvent<W>>, RequestError> {
        loop {
            let Some(end) = within(SILENCE, self.fill()).await? else { return Ok(None) };
            let line = self.buffer.get(self.begin..end).unwrap_or_default();
            let found = (!line.trim_ascii().is_empty()).then(|| event(line));
            (self.begin, self.searched) = (end + 1, end + 1);
            if let Some(event) = found {
                return Ok(Some(event?));
            }
        }
    }

    /// Reads until a line is complete, and returns its end.
    async fn fill(&mut self) -> Result<Option<usize>, RequestError> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.searched + at));
            }
            self.buffer.drain(..self.begin);
            self.begin = 0;
            self.searched = self.buffer.len();
            if self.buffer.len() > LONGEST_LINE {
                let (what, limit) = ("a watch event", LONGEST_LINE);
                return Err(WrongAnswer::TooLong { what, limit }.into());
            }
            match next(&mut self.body).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Ok(None),
            }
            // Releases the memory of a long line.
            if self.buffer.capacity() > KEPT && self.buffer.len() < KEPT {
                self.buffer.shrink_to(KEPT);
            }
        }
    }
}

/// The capacity kept for lines of usual length.
const KEPT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::object::Services;

    fn lines(content: impl Into<Vec<u8>>) -> Lines {
        let body = Body::from(content.into());
        Lines { body, buffer: Vec::new(), begin: 0, searched: 0 }
    }

    fn bookmark(version: &str) -> String {
        format!(
            "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"Service\",\"apiVersion\":\"v1\",\
             \"metadata\":{{\"resourceVersion\":{version:?}}}}}}}\n"
        )
    }

    async fn versions(mut lines: Lines) -> (Vec<String>, Option<RequestError>) {
        let mut versions = Vec::new();
        loop {
            match lines.event::<Services>().await {
                Ok(Some(StreamEvent::Bookmark(version))) => versions.push(version),
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
        let text = bookmark("1") + &"x".repeat(LONGEST_LINE + 2);
        let (versions, error) = versions(lines(text)).await;
        assert_eq!(versions, ["1"]);
        assert!(
            matches!(error, Some(RequestError::Wrong(WrongAnswer::TooLong { .. }))),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn response_body_over_limit_is_an_error() {
        let body = || Body::from(b"four".to_vec());
        assert_eq!(whole(body(), "the list", 4).await.unwrap(), b"four");
        let error = whole(body(), "the list", 3).await.unwrap_err().to_string();
        assert_eq!(error, "the list exceeds 3 bytes");
    }

    #[test]
    fn error_response_is_reported_with_http_status() {
        let status =
            refused(403, br#"{"kind":"Status","code":1,"message":"services is forbidden"}"#);
        assert_eq!(refusal(&status), "status 403: services is forbidden");
        assert_eq!(refusal(&refused(502, b"<html>Bad Gateway</html>")), "status 502");
    }
}
