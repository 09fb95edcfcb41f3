//! Limits each kind to one new watch per second.
//!
//! kube's watcher does not treat a normal end of a watch as a failure and reconnects at once.
//! Behind a proxy that does not support streaming this would cause thousands of requests per second
//! from each node.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use kube::client::Body;
use tokio::time::{Instant, sleep_until};
use tower::Service;

use crate::metrics::RestClient;

/// The minimum time between the starts of two watches.
const PERIOD: Duration = Duration::from_secs(1);

/// A tower service that delays watch requests.
pub(super) struct Throttle<S> {
    inner: S,
    /// The start of the last watch per path, which may be in the future.
    begun: HashMap<String, Instant>,
    metrics: RestClient,
}

/// Whether a request starts a watch that begins with a list. Lists have their own backoff.
fn is_list(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("sendInitialEvents=true"))
}

/// Whether a request starts a watch.
pub(super) fn is_watch(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("watch=true"))
}

impl<S> Throttle<S> {
    pub(super) fn new(inner: S, metrics: RestClient) -> Self {
        Self { inner, begun: HashMap::new(), metrics }
    }

    /// When a watch of a path that is requested now may start.
    fn begin(&mut self, path: &str, now: Instant) -> Instant {
        let last = self.begun.get(path);
        let begins = last.map_or(now, |last| now.max(*last + PERIOD));
        self.begun.insert(path.to_owned(), begins);
        begins
    }
}

impl<S> Service<Request<Body>> for Throttle<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let is_delayed = is_watch(&request) && !is_list(&request);
        let begins = is_delayed.then(|| self.begin(request.uri().path(), now));
        let delay = begins.map(|begins| begins - now).unwrap_or_default();
        self.metrics.delayed(request.method().as_str(), delay);
        // Nothing is sent before the future is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            if let Some(begins) = begins {
                sleep_until(begins).await;
            }
            answer.await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_allows_one_request_per_path_and_second() {
        let start = Instant::now();
        let mut throttle = Throttle::new((), RestClient::new(String::new()).unwrap());
        assert_eq!(throttle.begin("/a", start), start);
        assert_eq!(throttle.begin("/b", start), start);
        assert_eq!(throttle.begin("/a", start), start + PERIOD);
        assert_eq!(throttle.begin("/a", start), start + PERIOD * 2);
        assert_eq!(throttle.begin("/a", start + PERIOD * 9), start + PERIOD * 9);
    }
}
