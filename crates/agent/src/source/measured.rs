//! Counts and times requests, for metrics.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::body::{Body as HttpBody, Buf, Frame, SizeHint};
use hyper::{Request, Response};
use kube::client::Body;
use prometheus::Histogram;
use tower::Service;

use super::throttle::is_watch;
use crate::metrics::RestClient;

/// A tower service that measures requests.
pub(super) struct Measured<S> {
    pub(super) inner: S,
    pub(super) metrics: RestClient,
}

impl<S, B> Service<Request<Body>> for Measured<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<CountedBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let metrics = self.metrics.clone();
        let (method, is_watch) = (request.method().clone(), is_watch(&request));
        if let Some(size) = request.body().size_hint().exact().filter(|size| *size > 0) {
            metrics.sent(method.as_str(), size);
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let begun = Instant::now();
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|response| response.status().as_u16());
            metrics.answered(code, method.as_str());
            if !is_watch {
                metrics.took(method.as_str(), begun.elapsed());
            }
            let size = if is_watch { None } else { metrics.response_size(method.as_str()) };
            Ok(answer?.map(|inner| CountedBody { inner, bytes: 0, size }))
        })
    }
}

/// A body whose size is observed at its end.
pub(super) struct CountedBody<B> {
    inner: B,
    bytes: usize,
    size: Option<Histogram>,
}

impl<B: HttpBody + Unpin> HttpBody for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, Buf::remaining),
            Some(Err(_)) => {}
            None => {
                let bytes = self.bytes as f64;
                self.size.take().into_iter().for_each(|size| size.observe(bytes));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Otherwise the end is not polled.
        self.size.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
