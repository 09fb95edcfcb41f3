//! Connections, one thread each.

use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{self, Answer};
use super::http::{self, Request};
use super::state::{Canned, Shared};
use super::watch;

pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
    stream: TcpStream,
}

/// Accepts connections until the server stops. The thread's network namespace does not matter: a
/// socket belongs to the network namespace in which it was created.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while !shared.read().is_stopped {
        let Ok((stream, _)) = listener.accept() else { continue };
        let number = shared.change(|state| state.connect(&stream));
        if let Some(number) = number {
            let connection = Connection { number, shared: shared.clone(), stream };
            spawn(shared, move || {
                // An error ends the connection, not the server.
                let _ = connection.serve();
                connection.end();
            });
        }
    }
}

/// Runs code in a counted thread, so that the server can wait until all threads have ended.
pub(super) fn spawn(shared: &Arc<Shared>, code: impl FnOnce() + Send + 'static) {
    struct Count(Arc<Shared>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.change(|state| state.threads -= 1);
        }
    }
    shared.change(|state| state.threads += 1);
    let count = Count(shared.clone());
    thread::spawn(move || {
        let _count = count;
        code();
    });
}

impl Connection {
    fn serve(&self) -> io::Result<()> {
        // Send each event immediately, not only when the previous one is acknowledged.
        self.stream.set_nodelay(true)?;
        let mut reader = BufReader::new(&self.stream);
        while let Some(request) = Request::read(&mut reader)? {
            self.pass()?;
            let is_last = request.is_last();
            let number = self.number;
            let is_protobuf = request.prefers_protobuf() && !self.shared.read().has_only_json;
            match self.shared.change(|state| answer::answer(state, number, &request)) {
                Answer::Whole(response) => {
                    let (head, body) = response.bytes(is_last, is_protobuf);
                    self.send(&[head, body].concat())?;
                }
                Answer::Truncated(response) => {
                    let (head, body) = response.bytes(true, is_protobuf);
                    return self.send(&[&head[..], &body[..body.len() / 2]].concat());
                }
                Answer::Canned(canned) => self.send_canned(&canned)?,
                Answer::Watch(deadline) => watch::run(self, deadline, is_last, is_protobuf)?,
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Sends a canned response. An endless one ends when the client hangs up.
    fn send_canned(&self, canned: &Canned) -> io::Result<()> {
        let mut media_type = http::JSON;
        let body = match canned {
            Canned::Body(body) => body.clone(),
            Canned::Protobuf(body) => {
                media_type = http::PROTOBUF;
                body.clone()
            }
            Canned::Pages(start) => {
                static NUMBER: AtomicUsize = AtomicUsize::new(0);
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                format!(
                    "{start}\"metadata\":{{\"resourceVersion\":\"1\",\"continue\":\"{number}\"}}}}"
                )
                .into_bytes()
            }
            Canned::Endless(start) => {
                let head =
                    http::head(200, media_type, false) + "Transfer-Encoding: chunked\r\n\r\n";
                self.send(&[head.as_bytes(), &http::chunk(start.as_bytes())].concat())?;
                let blanks = http::chunk(&b" ".repeat(1 << 20));
                loop {
                    self.send(&blanks)?;
                }
            }
        };
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        self.send((http::head(200, media_type, false) + &length).as_bytes())?;
        (&self.stream).write_all(&body)
    }

    /// Sends bytes with the current slowness of connections.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.pass()?;
            let slowness = self.shared.read().slowness;
            let bytes = slowness.map_or(rest.len(), |slowness| slowness.bytes.min(rest.len()));
            let (piece, after) = rest.split_at(bytes);
            (&self.stream).write_all(piece)?;
            self.shared.sent.fetch_add(piece.len(), Ordering::Relaxed);
            rest = after;
            if let Some(slowness) = slowness {
                let end = Instant::now() + slowness.delay;
                self.shared.wait(end, |state| (!state.is_connected(self.number)).then_some(()));
            }
        }
        Ok(())
    }

    /// Waits while the server is paused; an error if the connection is cut.
    fn pass(&self) -> io::Result<()> {
        let far = Instant::now() + Duration::from_secs(3600);
        let passed = self.shared.wait(far, |state| match state.is_connected(self.number) {
            true if state.is_paused => None,
            is_connected => Some(is_connected),
        });
        if passed == Some(true) { Ok(()) } else { Err(ErrorKind::ConnectionAborted.into()) }
    }

    /// Ends the connection as soon as its client hangs up: a watch that writes nothing would
    /// not notice it. Other data from the client is left for the next request.
    pub(super) fn expect_hangup(&self) -> io::Result<()> {
        let stream = self.stream.try_clone()?;
        let (shared, number) = (self.shared.clone(), self.number);
        spawn(&self.shared, move || {
            if !matches!(stream.peek(&mut [0]), Ok(1..)) {
                shared.change(|state| state.disconnect(number));
            }
        });
        Ok(())
    }

    fn end(&self) {
        self.shared.change(|state| state.disconnect(self.number));
    }
}
