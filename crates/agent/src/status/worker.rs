//! The thread that makes pages.

use std::sync::mpsc::{self, SyncSender, TrySendError};

use hyper::StatusCode;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::http::Response;
use crate::threads;

/// Makes pages one after the other, in a thread of its own: they may wait for a lock or the kernel,
/// which the server must not. One thread, because each that allocates keeps a few megabytes; not
/// the runtime's, because those may all be waiting for a name server.
#[derive(Clone)]
pub(crate) struct Worker(SyncSender<Job>);

/// Pages that wait to be made. While the thread waits for a lock, who left is not seen to have left.
const QUEUED: usize = 64;

struct Job {
    work: Box<dyn FnOnce() -> Response + Send>,
    done: oneshot::Sender<Response>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start() -> Result<Self> {
        let (sender, jobs) = mpsc::sync_channel::<Job>(QUEUED);
        threads::start("pages", move || {
            for Job { work, done } in jobs {
                // Who does not wait any more has cost nothing but his connection.
                if !done.is_closed() {
                    let _ = done.send(work());
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Has a page made.
    pub(super) fn make(
        &self,
        work: impl FnOnce() -> Response + Send + 'static,
    ) -> oneshot::Receiver<Response> {
        let (done, response) = oneshot::channel();
        if let Err(TrySendError::Full(Job { done, .. })) =
            self.0.try_send(Job { work: Box::new(work), done })
        {
            let text = "503 too many pages are being made; try again\n";
            let _ = done.send(Response::text(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        // If the thread is gone, so is the other end of `done`.
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_make_in_time_is_refused() {
        let worker = Worker::start().unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let slow = worker.make(move || {
            let _ = began.send(());
            let _ = wait.recv();
            Response::not_found()
        });
        begun.recv().unwrap();
        let page = || Response::text(StatusCode::OK, "");
        let queued: Vec<_> = (0..QUEUED).map(|_| worker.make(page)).collect();
        let refused = worker.make(page).blocking_recv().unwrap();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        drop(go);
        assert_eq!(slow.blocking_recv().unwrap().status, StatusCode::NOT_FOUND);
        for page in queued {
            assert_eq!(page.blocking_recv().unwrap().status, StatusCode::OK);
        }
    }
}
