//! The queue between the event sources and the reconciler.
//!
//! Its capacity is bounded by weight. A sender waits for capacity and stops reading meanwhile, so a
//! flood of changes fills the API server's socket and not the agent's memory. The kernel does not
//! wait: events that do not fit are replaced by one that says that events were lost.
//!
//! Objects, kernel events and stale clients have separate capacities, so that a flood of one does
//! not block the others.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvError, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::input::{ReconcilerInput, TimedInput};

/// The capacity for objects, in KiB of JSON. 10,000 Services with 5 endpoints each take 20 MB.
const OBJECTS: u32 = 4096;

/// The capacity for kernel events, in events.
const EVENTS: u32 = 4096;

/// The capacity for stale affinity clients, in clients.
const CLIENTS: u32 = 4096;

/// The receiver is gone: the agent is exiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

/// The ends of the queue.
pub(crate) struct EventQueue {
    /// Sender for cluster objects.
    pub(crate) objects: Sink,
    /// Sender for kernel events.
    pub(crate) events: Sink,
    /// Sender for stale affinity clients.
    pub(crate) clients: Sink,
    /// Receiver for the reconciler.
    pub(crate) inputs: InputReceiver,
}

/// A sender with a bounded capacity.
#[derive(Clone)]
pub(crate) struct Sink {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    capacity: u32,
    waiting: Waiting,
}

/// The reconciler's end of the queue.
pub(crate) struct InputReceiver {
    receiver: mpsc::Receiver<Queued>,
    rooms: [Arc<Semaphore>; 3],
    waiting: Waiting,
    /// Whether the last input is not yet handled.
    is_handling: bool,
}

/// The send times of the inputs that are not yet handled, oldest first. Health checks read it,
/// because a hanging reconciler cannot report itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<VecDeque<Instant>>>);

impl Waiting {
    /// The send time of the oldest input.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lock().front().copied()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Queued {
    input: TimedInput,
    /// Released when the input is received.
    _room: Option<OwnedSemaphorePermit>,
}

impl EventQueue {
    pub(crate) fn new() -> Self {
        Self::with_room(OBJECTS, EVENTS)
    }

    fn with_room(objects: u32, events: u32) -> Self {
        let (sender, receiver) = mpsc::channel();
        let waiting = Waiting::default();
        let sink = |capacity: u32| Sink {
            sender: sender.clone(),
            room: Arc::new(Semaphore::new(usize::try_from(capacity).unwrap_or(usize::MAX))),
            capacity,
            waiting: waiting.clone(),
        };
        let (objects, events, clients) = (sink(objects), sink(events), sink(CLIENTS));
        let rooms = [&objects, &events, &clients].map(|sink| Arc::clone(&sink.room));
        let inputs = InputReceiver { receiver, rooms, waiting, is_handling: false };
        Self { objects, events, clients, inputs }
    }
}

impl Sink {
    /// Sends an input once there is capacity for its weight.
    pub(crate) async fn send(&self, input: ReconcilerInput, weight: usize) -> Result<(), Ended> {
        let input = TimedInput::now(input);
        let room = Arc::clone(&self.room).acquire_many_owned(self.permits(weight)).await;
        self.put(input, Some(room.map_err(|_| Ended)?))
    }

    /// Like `send`, for threads outside the runtime.
    pub(crate) fn send_blocking(&self, input: ReconcilerInput, weight: usize) -> Result<(), Ended> {
        futures::executor::block_on(self.send(input, weight))
    }

    /// Sends an input if there is capacity now. Returns whether it was sent.
    pub(crate) fn try_send(&self, input: ReconcilerInput, weight: usize) -> Result<bool, Ended> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.permits(weight)) {
            Ok(room) => self.put(TimedInput::now(input), Some(room)).map(|()| true),
            Err(TryAcquireError::NoPermits) => Ok(false),
            Err(TryAcquireError::Closed) => Err(Ended),
        }
    }

    /// Tells the reconciler to stop, regardless of capacity.
    pub(crate) fn stop(&self) {
        let _ = self.put(TimedInput::now(ReconcilerInput::Stop), None);
    }

    /// Sends an input with another time stamp.
    #[cfg(test)]
    pub(crate) fn put_at(&self, input: ReconcilerInput, at: Instant) {
        self.put(TimedInput { input, at }, None).unwrap();
    }

    fn put(&self, input: TimedInput, room: Option<OwnedSemaphorePermit>) -> Result<(), Ended> {
        // Both queues are updated under one lock, so that their order is the same.
        let mut waiting = self.waiting.lock();
        waiting.push_back(input.at);
        self.sender.send(Queued { input, _room: room }).map_err(|_| Ended)
    }

    /// An input heavier than the capacity waits until the queue is empty.
    fn permits(&self, weight: usize) -> u32 {
        u32::try_from(weight).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }
}

impl InputReceiver {
    /// Returns the next input and marks the previous one as handled.
    pub(crate) fn recv(&mut self) -> Result<TimedInput, RecvError> {
        self.done();
        let queued = self.receiver.recv();
        self.is_handling = queued.is_ok();
        queued.map(|queued| queued.input)
    }

    /// Like `recv`, with a timeout.
    pub(crate) fn recv_timeout(
        &mut self,
        patience: Duration,
    ) -> Result<TimedInput, RecvTimeoutError> {
        self.done();
        let queued = self.receiver.recv_timeout(patience);
        self.is_handling = queued.is_ok();
        queued.map(|queued| queued.input)
    }

    /// Marks the last input as handled.
    pub(crate) fn done(&mut self) {
        if std::mem::take(&mut self.is_handling) {
            self.waiting.lock().pop_front();
        }
    }

    /// A handle to read how long inputs have been waiting.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }
}

impl Drop for InputReceiver {
    fn drop(&mut self) {
        // Closing the semaphore releases the waiting senders.
        self.rooms.iter().for_each(|room| room.close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn queued(inputs: &InputReceiver) -> usize {
        std::iter::from_fn(|| inputs.receiver.try_recv().ok()).count()
    }

    /// Ten threads send as fast as they can, and nothing is received.
    #[test]
    fn queue_flood_is_bounded_by_capacity() {
        let EventQueue { objects, mut inputs, .. } = EventQueue::with_room(16, 1);
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    while objects.send_blocking(ReconcilerInput::Addresses, 2).is_ok() {
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let until = |count| {
                let deadline = Instant::now() + Duration::from_secs(10);
                while sent.load(Ordering::SeqCst) < count {
                    assert!(Instant::now() < deadline, "{sent:?}, not {count}");
                    thread::yield_now();
                }
            };
            until(8);
            assert_eq!(objects.room.available_permits(), 0);
            // Receiving one input makes room for one more.
            inputs.recv().unwrap();
            until(9);
            assert_eq!(sent.load(Ordering::SeqCst), 9);
            assert_eq!(objects.room.available_permits(), 0);
            // Dropping the receiver releases the waiting senders.
            drop(inputs);
        });
        assert_eq!(objects.send_blocking(ReconcilerInput::Addresses, 1), Err(Ended));
    }

    #[test]
    fn queue_input_heavier_than_the_capacity_is_sent_alone() {
        let EventQueue { objects, inputs, .. } = EventQueue::with_room(4, 1);
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 1_000_000), Ok(true));
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 0), Ok(false));
        assert_eq!(queued(&inputs), 1);
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 0), Ok(true));
    }

    #[test]
    fn queue_full_of_objects_accepts_kernel_events_and_stop() {
        let EventQueue { objects, events, inputs, .. } = EventQueue::with_room(1, 1);
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 1), Ok(true));
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 1), Ok(false));
        assert_eq!(events.try_send(ReconcilerInput::Addresses, 1), Ok(true));
        objects.stop();
        assert_eq!(queued(&inputs), 3);
    }

    #[test]
    fn queue_input_counts_as_waiting_until_it_is_handled() {
        let EventQueue { objects, mut inputs, .. } = EventQueue::with_room(16, 1);
        let (waiting, start) = (inputs.waiting(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(waiting.oldest(), None);
        for seconds in 1..=3 {
            objects.put_at(ReconcilerInput::Addresses, at(seconds));
        }
        assert_eq!(waiting.oldest(), Some(at(1)));
        inputs.recv().unwrap();
        assert_eq!(waiting.oldest(), Some(at(1)), "it is being handled");
        inputs.recv_timeout(Duration::ZERO).unwrap();
        assert_eq!(waiting.oldest(), Some(at(2)));
        inputs.done();
        inputs.done();
        assert_eq!(waiting.oldest(), Some(at(3)), "done counts once per input");
        inputs.recv().unwrap();
        inputs.recv_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(waiting.oldest(), None);
        assert!(waiting.lock().is_empty());
    }
}
