//! The thread that renders pages.

use std::sync::mpsc::{self, SyncSender, TrySendError};

use hyper::StatusCode;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::http::Response;
use crate::threads;

/// Renders pages one after the other, in a separate thread: they may wait for a lock or the kernel,
/// which the server must not do. It is a single thread, because each thread that allocates keeps a
/// few megabytes. It is not one of the runtime's blocking threads, because they may all be waiting
/// for a name server.
#[derive(Clone)]
pub(crate) struct Worker(SyncSender<Job>);

/// The maximum number of waiting pages. While the thread waits for a lock, pages whose client has
/// disconnected stay in the queue.
const QUEUED: usize = 64;

struct Job {
    work: Box<dyn FnOnce() -> Response + Send>,
    done: oneshot::Sender<Response>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start() -> Result<Self> {
        let (sender, jobs) = mpsc::sync_channel::<Job>(QUEUED);
        threads::start("pages", move || {
            for Job { work, done } in jobs {
                // If the client has disconnected, the page is not rendered.
                if !done.is_closed() {
                    let _ = done.send(work());
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Queues a page. Responds with 503 if the queue is full.
    pub(super) fn render(
        &self,
        work: impl FnOnce() -> Response + Send + 'static,
    ) -> oneshot::Receiver<Response> {
        let (done, response) = oneshot::channel();
        if let Err(TrySendError::Full(Job { done, .. })) =
            self.0.try_send(Job { work: Box::new(work), done })
        {
            let text = "503 too many pages are waiting to be rendered; try again\n";
            let _ = done.send(Response::text(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        // If the thread has exited, the receiver gets an error, because `done` is dropped.
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_rejects_pages_when_the_queue_is_full() {
        let worker = Worker::start().unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let slow = worker.render(move || {
            let _ = began.send(());
            let _ = wait.recv();
            Response::not_found()
        });
        begun.recv().unwrap();
        let page = || Response::text(StatusCode::OK, "");
        let queued: Vec<_> = (0..QUEUED).map(|_| worker.render(page)).collect();
        let refused = worker.render(page).blocking_recv().unwrap();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        drop(go);
        assert_eq!(slow.blocking_recv().unwrap().status, StatusCode::NOT_FOUND);
        for page in queued {
            assert_eq!(page.blocking_recv().unwrap().status, StatusCode::OK);
        }
    }
}
