//! The thread that makes pages.

use std::sync::mpsc::{self, Sender};

use anyhow::Result;
use tokio::sync::oneshot;

use crate::http::Response;
use crate::threads;

/// Makes pages one after the other, in a thread of its own: they may wait for a lock or the kernel,
/// which the server must not. One thread, because each that allocates keeps a few megabytes; not
/// the runtime's, because those may all be waiting for a name server.
#[derive(Clone)]
pub(crate) struct Worker(Sender<Job>);

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
        let (sender, jobs) = mpsc::channel::<Job>();
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
        // If the thread is gone, so is the other end of `done`.
        let _ = self.0.send(Job { work: Box::new(work), done });
        response
    }
}
