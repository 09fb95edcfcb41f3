//! Requests to the API server, with limits on the size and duration of responses.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper::{Request, Response};
use kube::api::ListParams;
use kube::client::Body;
use kube::core::Status;
use tokio::time::timeout;

use super::answer::{ListPage, WrongAnswer};
use super::client::ApiConnection;
use super::encoding::Encoding;
use super::object::Watched;
use super::{json_answer, protobuf_answer};
use crate::error::with_causes;

/// The maximum size of a list page, in bytes. 500 slices of 100 endpoints take about 20 MB.
const LONGEST_PAGE: usize = 32 << 20;

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
    connection: &ApiConnection,
    parameters: &ListParams,
) -> Result<ListPage<W>, RequestError> {
    let request = kube::core::Request::new(W::PATH).list(parameters);
    let mut request =
        request.map_err(|error| RequestError::Unreachable(kube::Error::BuildRequest(error)))?;
    allow_cache(&mut request, parameters);
    request.headers_mut().insert(ACCEPT, connection.accept.list.clone());
    let answer = async {
        let response = send(connection, request).await?;
        let encoding = Encoding::of(response.headers());
        Ok((encoding, whole(response.into_body(), "the list", LONGEST_PAGE).await?))
    };
    let (encoding, body) = within(PAGE_PATIENCE, answer).await?;
    Ok(match encoding {
        Encoding::Json => json_answer::page(&body)?,
        Encoding::Protobuf => protobuf_answer::page(&body.into())?,
    })
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

/// Waits for an answer for a limited time.
///
/// # Errors
/// The time is over, or the request failed.
pub(super) async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    timeout(patience, answer).await.unwrap_or(Err(RequestError::Silent(patience)))
}

/// Sends a request.
///
/// # Errors
/// There is no answer, or it is an error.
pub(super) async fn send(
    connection: &ApiConnection,
    request: Request<Vec<u8>>,
) -> Result<Response<Body>, RequestError> {
    let response = connection.client.send(request.map(Body::from)).await;
    let response = response.map_err(RequestError::Unreachable)?;
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let encoding = Encoding::of(response.headers());
    let body = whole(response.into_body(), "the refusal", LONGEST_REFUSAL).await;
    let status = refused(code.as_u16(), encoding, body.unwrap_or_default());
    Err(RequestError::Refused(Box::new(status)))
}

/// The API server returns a Status; proxies in between often return HTML.
fn refused(code: u16, encoding: Encoding, body: Vec<u8>) -> Status {
    let status = match encoding {
        Encoding::Json => serde_json::from_slice(&body).ok(),
        Encoding::Protobuf => protobuf_answer::status(&body.into()).ok(),
    };
    match status {
        Some(Status { message, .. }) if message.is_empty() => Status { code, ..Status::default() },
        status => Status { code, ..status.unwrap_or_default() },
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

/// The next data of a body; `None` at its end.
///
/// # Errors
/// The connection was lost.
pub(super) async fn next(body: &mut Body) -> Result<Option<Bytes>, RequestError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn response_body_over_limit_is_an_error() {
        let body = || Body::from(b"four".to_vec());
        assert_eq!(whole(body(), "the list", 4).await.unwrap(), b"four");
        let error = whole(body(), "the list", 3).await.unwrap_err().to_string();
        assert_eq!(error, "the list exceeds 3 bytes");
    }

    #[test]
    fn error_response_is_reported_with_http_status() {
        let json = |code, body: &[u8]| refused(code, Encoding::Json, body.to_vec());
        let status = json(403, br#"{"kind":"Status","code":1,"message":"services is forbidden"}"#);
        assert_eq!(refusal(&status), "status 403: services is forbidden");
        assert_eq!(refusal(&json(502, b"<html>Bad Gateway</html>")), "status 502");
        assert_eq!(refusal(&json(502, br#"{"code":1}"#)), "status 502");
        let protobuf = |code, body: &[u8]| refused(code, Encoding::Protobuf, body.to_vec());
        let body = b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Status\x12\x0b\x1a\x09forbidden";
        assert_eq!(refusal(&protobuf(403, body)), "status 403: forbidden");
        assert_eq!(refusal(&protobuf(502, b"<html>Bad Gateway</html>")), "status 502");
    }
}
