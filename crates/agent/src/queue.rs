//! The queue between the event sources and the reconciler.
//!
//! Its capacity is bounded by weight. A sender waits for capacity and stops reading meanwhile, so a
//! flood of changes fills the API server's socket and not the agent's memory. The kernel does not
//! wait: events that do not fit are replaced by one that says that events were lost.
//!
//! Objects, kernel events and stale clients have separate capacities, so that a flood of one does
//! not block the others.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    capacity: u32,
}

/// The reconciler's end of the queue.
pub(crate) struct InputReceiver {
    queue: Arc<Queue>,
    rooms: [Arc<Semaphore>; 3],
}

/// The age of the inputs that are not yet handled. Health checks read it, because a hanging
/// reconciler cannot report itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Queue>);

impl Waiting {
    /// The send time of the oldest input. One that waits for the next does not count.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let inputs = self.0.lock();
        let first = || inputs.waiting.iter().find(|queued| queued.wakes);
        inputs.handling.or_else(|| first().map(|queued| queued.input.at))
    }
}

#[derive(Debug, Default)]
struct Queue {
    inputs: Mutex<QueueState>,
    /// An input arrived that wakes the reconciler.
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Queued>,
    /// The send time of the input that is being handled.
    handling: Option<Instant>,
    /// The receiver is gone.
    has_ended: bool,
}

#[derive(Debug)]
struct Queued {
    input: TimedInput,
    /// Whether it wakes the reconciler. Otherwise it waits for the next that does.
    wakes: bool,
    /// Released when the input is received.
    _room: Option<OwnedSemaphorePermit>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    /// The queue length for which memory is kept.
    const USUAL: usize = 64;

    /// Takes the next input. It is being handled from now on.
    fn next(&mut self) -> Option<TimedInput> {
        let Queued { input, wakes, .. } = self.waiting.pop_front()?;
        self.handling = wakes.then_some(input.at);
        if self.waiting.is_empty() && self.waiting.capacity() > Self::USUAL {
            self.waiting.shrink_to(Self::USUAL);
        }
        Some(input)
    }
}

impl EventQueue {
    pub(crate) fn new() -> Self {
        Self::with_room(OBJECTS, EVENTS)
    }

    fn with_room(objects: u32, events: u32) -> Self {
        let queue = Arc::new(Queue::default());
        let sink = |capacity: u32| Sink {
            queue: Arc::clone(&queue),
            room: Arc::new(Semaphore::new(usize::try_from(capacity).unwrap_or(usize::MAX))),
            capacity,
        };
        let (objects, events, clients) = (sink(objects), sink(events), sink(CLIENTS));
        let rooms = [&objects, &events, &clients].map(|sink| Arc::clone(&sink.room));
        Self { objects, events, clients, inputs: InputReceiver { queue, rooms } }
    }
}

impl Sink {
    /// Sends an input once there is capacity for its weight.
    pub(crate) async fn send(&self, input: ReconcilerInput, weight: usize) -> Result<(), Ended> {
        let input = TimedInput::now(input);
        let room = Arc::clone(&self.room).acquire_many_owned(self.permits(weight)).await;
        self.put(input, Some(room.map_err(|_| Ended)?), true)
    }

    /// Like `send`, from outside the runtime.
    pub(crate) fn send_blocking(&self, input: ReconcilerInput, weight: usize) -> Result<(), Ended> {
        futures::executor::block_on(self.send(input, weight))
    }

    /// Sends an input if there is capacity now. Returns whether it was sent.
    pub(crate) fn try_send(&self, input: ReconcilerInput, weight: usize) -> Result<bool, Ended> {
        self.put_if_room(input, weight, true)
    }

    /// Like `try_send`, but the reconciler receives the input with the next one: for what it does not
    /// have to act upon.
    pub(crate) fn try_send_later(
        &self,
        input: ReconcilerInput,
        weight: usize,
    ) -> Result<bool, Ended> {
        self.put_if_room(input, weight, false)
    }

    fn put_if_room(
        &self,
        input: ReconcilerInput,
        weight: usize,
        wakes: bool,
    ) -> Result<bool, Ended> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.permits(weight)) {
            Ok(room) => self.put(TimedInput::now(input), Some(room), wakes).map(|()| true),
            Err(TryAcquireError::NoPermits) => Ok(false),
            Err(TryAcquireError::Closed) => Err(Ended),
        }
    }

    /// Tells the reconciler to stop, regardless of capacity.
    pub(crate) fn stop(&self) {
        let _ = self.put(TimedInput::now(ReconcilerInput::Stop), None, true);
    }

    /// Sends an input with another time stamp.
    #[cfg(test)]
    pub(crate) fn put_at(&self, input: ReconcilerInput, at: Instant) {
        self.put(TimedInput { input, at }, None, true).unwrap();
    }

    fn put(
        &self,
        input: TimedInput,
        room: Option<OwnedSemaphorePermit>,
        wakes: bool,
    ) -> Result<(), Ended> {
        let mut inputs = self.queue.lock();
        if inputs.has_ended {
            return Err(Ended);
        }
        inputs.waiting.push_back(Queued { input, wakes, _room: room });
        drop(inputs);
        // Without the lock, for which the woken reconciler would have to wait.
        if wakes {
            self.queue.arrived.notify_one();
        }
        Ok(())
    }

    /// An input heavier than the capacity waits until the queue is empty.
    fn permits(&self, weight: usize) -> u32 {
        u32::try_from(weight).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }
}

impl InputReceiver {
    /// Returns the next input and marks the previous one as handled.
    pub(crate) fn recv(&mut self) -> TimedInput {
        let mut inputs = self.queue.lock();
        inputs.handling = None;
        loop {
            if let Some(next) = inputs.next() {
                return next;
            }
            inputs = self.queue.arrived.wait(inputs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Like `recv`; `None` if there was no input in time.
    pub(crate) fn recv_timeout(&mut self, patience: Duration) -> Option<TimedInput> {
        let begun = Instant::now();
        let mut inputs = self.queue.lock();
        inputs.handling = None;
        loop {
            if let Some(next) = inputs.next() {
                return Some(next);
            }
            let left = patience.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
            let waited = self.queue.arrived.wait_timeout(inputs, left);
            (inputs, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Marks the last input as handled.
    pub(crate) fn done(&mut self) {
        self.queue.lock().handling = None;
    }

    /// A handle to read how long inputs have been waiting.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(Arc::clone(&self.queue))
    }
}

impl Drop for InputReceiver {
    fn drop(&mut self) {
        let mut inputs = self.queue.lock();
        inputs.has_ended = true;
        inputs.waiting.clear();
        drop(inputs);
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

    fn queued(inputs: &mut InputReceiver) -> usize {
        std::iter::from_fn(|| inputs.recv_timeout(Duration::ZERO)).count()
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
            inputs.recv();
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
        let EventQueue { objects, mut inputs, .. } = EventQueue::with_room(4, 1);
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 1_000_000), Ok(true));
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 0), Ok(false));
        assert_eq!(queued(&mut inputs), 1);
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 0), Ok(true));
    }

    #[test]
    fn queue_full_of_objects_accepts_kernel_events_and_stop() {
        let EventQueue { objects, events, mut inputs, .. } = EventQueue::with_room(1, 1);
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 1), Ok(true));
        assert_eq!(objects.try_send(ReconcilerInput::Addresses, 1), Ok(false));
        assert_eq!(events.try_send(ReconcilerInput::Addresses, 1), Ok(true));
        objects.stop();
        assert_eq!(queued(&mut inputs), 3);
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
        inputs.recv();
        assert_eq!(waiting.oldest(), Some(at(1)), "it is being handled");
        inputs.recv_timeout(Duration::ZERO).unwrap();
        assert_eq!(waiting.oldest(), Some(at(2)));
        inputs.done();
        inputs.done();
        assert_eq!(waiting.oldest(), Some(at(3)), "done counts once per input");
        inputs.recv();
        assert!(inputs.recv_timeout(Duration::ZERO).is_none());
        assert_eq!(waiting.oldest(), None);
    }

    #[test]
    fn queue_input_for_later_arrives_with_the_next_and_does_not_count_as_waiting() {
        let EventQueue { objects, events, mut inputs, .. } = EventQueue::with_room(16, 1);
        let waiting = inputs.waiting();
        assert_eq!(events.try_send_later(ReconcilerInput::Rules(Vec::new()), 1), Ok(true));
        assert_eq!(events.try_send_later(ReconcilerInput::Rules(Vec::new()), 1), Ok(false));
        assert_eq!(waiting.oldest(), None);
        let (sent, received) = thread::scope(|scope| {
            let receiver = scope.spawn(|| inputs.recv());
            let sent = Instant::now();
            objects.try_send(ReconcilerInput::Addresses, 1).unwrap();
            (sent, receiver.join().unwrap())
        });
        assert!(matches!(received.input, ReconcilerInput::Rules(_)));
        assert!(waiting.oldest().is_some_and(|oldest| oldest >= sent));
        assert!(matches!(inputs.recv().input, ReconcilerInput::Addresses));
        inputs.done();
        assert_eq!(waiting.oldest(), None);
    }
}
