//! Bounds the size of API server responses that kube reads itself: those to posted Events.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Limited;
use hyper::{Method, Request, Response};
use kube::client::Body;
use tower::Service;

/// The maximum size of a response to a write: the stored object.
const LONGEST: usize = 1 << 20;

/// A tower service that bounds responses to writes. `request.rs` bounds those to reads, some of
/// which are streams.
pub(super) struct Bounded<S>(pub(super) S);

fn limit(method: &Method) -> usize {
    if method == Method::GET { usize::MAX } else { LONGEST }
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Limited<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = limit(request.method());
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Limited::new(body, limit))) })
    }
}
