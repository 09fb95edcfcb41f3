//! A bounded queue of log lines for standard error.
//!
//! The reader may be slow, stopped or gone, and the disk may be full. So a separate thread writes, and
//! lines that do not fit into the queue are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Capacity in bytes, not lines: a line about a large object may have a hundred kilobytes.
const ROOM: usize = 1 << 20;

/// Bytes per line in addition to its text.
const OVERHEAD: usize = 64;

/// The queue. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LogQueue(Arc<QueueShared>);

#[derive(Default)]
struct QueueShared {
    state: Mutex<QueuedLines>,
    changed: Condvar,
}

#[derive(Default)]
struct QueuedLines {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    lost: u64,
}

impl LogQueue {
    /// Starts a thread that writes the queue to `output` until the process exits.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::default();
        let writer = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let line = writer.next();
                let is_lost = output.write_all(&line).is_err();
                writer.written(is_lost);
            }
        })?;
        Ok(queue)
    }

    /// Adds a line, or drops it if the queue is full. Never blocks.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let size = line.len().saturating_add(OVERHEAD);
        if state.bytes.saturating_add(size) > ROOM {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.bytes += size;
        state.lines.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    /// Number of dropped lines.
    pub(crate) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Waits until all lines are written, at most for this time.
    pub(crate) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while state.is_writing || !state.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.is_writing = true;
                state.bytes = state.bytes.saturating_sub(line.len().saturating_add(OVERHEAD));
                return line;
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn written(&self, is_lost: bool) {
        let mut state = self.lock();
        state.is_writing = false;
        state.lost = state.lost.saturating_add(u64::from(is_lost));
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueuedLines> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each write is a line.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Accepts one line per message on a channel, like a pipe with a slow reader.
    struct Slow {
        may: Receiver<()>,
        taken: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.may.recv();
            self.taken.lock().unwrap().push(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_queue_that_is_full_loses_and_counts_lines_without_blocking() {
        let (go, may) = channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let queue = LogQueue::start(Slow { may, taken: Arc::clone(&taken) }).unwrap();
        for size in [1 << 19, 1 << 20, 1 << 21] {
            queue.push(&vec![b'x'; size]);
        }
        assert!(queue.lost() >= 2);
        let before = queue.lost();
        (0..100_000).for_each(|_| queue.push(b"a line\n"));
        assert!(queue.lost() > before + 80_000);
        assert!(queue.lock().bytes <= ROOM);
        queue.flush(Duration::from_millis(1));
        assert!(taken.lock().unwrap().is_empty(), "flush returns after its timeout");
        drop(go);
        queue.flush(PATIENCE);
        let all = 100_003 - usize::try_from(queue.lost()).unwrap();
        assert_eq!(taken.lock().unwrap().len(), all);
    }

    #[test]
    fn log_queue_loses_and_counts_lines_on_full_disk() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let queue = LogQueue::start(full).unwrap();
        (0..10).for_each(|_| queue.push(b"a line\n"));
        queue.flush(PATIENCE);
        assert_eq!(queue.lost(), 10);
    }
}
