//! Watches of one kind begin no more often than once a second.
//!
//! A watch that ends well is no failure to kube's watcher, which asks for the next at once. Behind
//! a proxy that takes no streams that would be thousands of requests each second, from each node.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use kube::client::Body;
use tokio::time::{Instant, sleep_until};
use tower::Service;

/// The least time between the beginnings of two watches.
const PERIOD: Duration = Duration::from_secs(1);

/// A service that lets some requests wait.
pub(super) struct Throttle<S> {
    inner: S,
    /// When the last watch of a path began, or will.
    begun: HashMap<String, Instant>,
}

impl<S> Throttle<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, begun: HashMap::new() }
    }

    /// When a watch of a path may begin that is asked for now.
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
        let uri = request.uri();
        let is_watch = uri.query().is_some_and(|query| query.contains("watch=true"));
        let begins = is_watch.then(|| self.begin(uri.path(), Instant::now()));
        // Nothing is sent before it is awaited.
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
    fn each_path_has_a_second() {
        let start = Instant::now();
        let mut throttle = Throttle::new(());
        assert_eq!(throttle.begin("/a", start), start);
        assert_eq!(throttle.begin("/b", start), start);
        assert_eq!(throttle.begin("/a", start), start + PERIOD);
        assert_eq!(throttle.begin("/a", start), start + PERIOD * 2);
        assert_eq!(throttle.begin("/a", start + PERIOD * 9), start + PERIOD * 9);
    }
}
