//! The queue between those who hear something and the reconciler.
//!
//! It has room for a bounded weight. Who has more to send waits, and so does what it reads from: a
//! flood of changes fills the API server's socket, not our memory. The kernel does not wait, so
//! where its events find no room, they are replaced by one that says that some were lost.
//!
//! Objects, events of the kernel and stale clients each have room of their own: a flood of one must
//! not hold up the others.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvError, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::input::{Input, TimedInput};

/// Room for objects, in KiB of their JSON. All objects of 10,000 Services with 5 endpoints have 20 MB.
const OBJECTS: u32 = 4096;

/// Room for events of the kernel, in their number.
const EVENTS: u32 = 4096;

/// Room for stale clients of session affinity, in their number.
const CLIENTS: u32 = 4096;

/// Nobody takes inputs any more: the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

/// The ends of the queue.
pub(crate) struct Queue {
    /// For objects of the cluster.
    pub(crate) objects: Sink,
    /// For what the kernel tells.
    pub(crate) events: Sink,
    /// For stale clients of session affinity.
    pub(crate) clients: Sink,
    /// For the reconciler.
    pub(crate) inputs: Inputs,
}

/// Takes inputs as far as there is room.
#[derive(Clone)]
pub(crate) struct Sink {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    capacity: u32,
    waiting: Waiting,
}

/// What the reconciler reads.
pub(crate) struct Inputs {
    receiver: mpsc::Receiver<Queued>,
    rooms: [Arc<Semaphore>; 3],
    waiting: Waiting,
    is_at_work: bool,
}

/// When each input was sent that the reconciler has not dealt with, the oldest first. Others
/// read it: a reconciler that hangs cannot say so itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<VecDeque<Instant>>>);

impl Waiting {
    /// When the oldest was sent.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lock().front().copied()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Queued {
    told: TimedInput,
    /// Free again once the input is taken out.
    _room: Option<OwnedSemaphorePermit>,
}

impl Queue {
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
        let inputs = Inputs { receiver, rooms, waiting, is_at_work: false };
        Self { objects, events, clients, inputs }
    }
}

impl Sink {
    /// Sends an input once there is room for its weight.
    pub(crate) async fn send(&self, input: Input, weight: usize) -> Result<(), Ended> {
        let told = TimedInput::now(input);
        let room = Arc::clone(&self.room).acquire_many_owned(self.permits(weight)).await;
        self.put(told, Some(room.map_err(|_| Ended)?))
    }

    /// The same for threads.
    pub(crate) fn send_blocking(&self, input: Input, weight: usize) -> Result<(), Ended> {
        futures::executor::block_on(self.send(input, weight))
    }

    /// Sends an input if there is room at once; returns whether there was.
    pub(crate) fn try_send(&self, input: Input, weight: usize) -> Result<bool, Ended> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.permits(weight)) {
            Ok(room) => self.put(TimedInput::now(input), Some(room)).map(|()| true),
            Err(TryAcquireError::NoPermits) => Ok(false),
            Err(TryAcquireError::Closed) => Err(Ended),
        }
    }

    /// Tells the reconciler to end, whether there is room or not.
    pub(crate) fn stop(&self) {
        let _ = self.put(TimedInput::now(Input::Stop), None);
    }

    /// Sends an input as if it had come at another time.
    #[cfg(test)]
    pub(crate) fn put_at(&self, input: Input, at: Instant) {
        self.put(TimedInput { input, at }, None).unwrap();
    }

    fn put(&self, told: TimedInput, room: Option<OwnedSemaphorePermit>) -> Result<(), Ended> {
        // Under one lock, so that both queues have one order.
        let mut waiting = self.waiting.lock();
        waiting.push_back(told.at);
        self.sender.send(Queued { told, _room: room }).map_err(|_| Ended)
    }

    /// What weighs more than there is room for waits until the queue is empty.
    fn permits(&self, weight: usize) -> u32 {
        u32::try_from(weight).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }
}

impl Inputs {
    /// The next input. The one before is dealt with.
    pub(crate) fn recv(&mut self) -> Result<TimedInput, RecvError> {
        self.done();
        let queued = self.receiver.recv();
        self.is_at_work = queued.is_ok();
        queued.map(|queued| queued.told)
    }

    /// The same, if it comes in time.
    pub(crate) fn recv_timeout(
        &mut self,
        patience: Duration,
    ) -> Result<TimedInput, RecvTimeoutError> {
        self.done();
        let queued = self.receiver.recv_timeout(patience);
        self.is_at_work = queued.is_ok();
        queued.map(|queued| queued.told)
    }

    /// The input that was taken last is dealt with.
    pub(crate) fn done(&mut self) {
        if std::mem::take(&mut self.is_at_work) {
            self.waiting.lock().pop_front();
        }
    }

    /// How long inputs have waited, for others to read.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        // Those who wait for room wait for nothing.
        self.rooms.iter().for_each(|room| room.close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn queued(inputs: &Inputs) -> usize {
        std::iter::from_fn(|| inputs.receiver.try_recv().ok()).count()
    }

    /// Ten threads send as fast as they can, and nobody takes anything.
    #[test]
    fn a_flood_fills_the_room_and_no_more() {
        let Queue { objects, mut inputs, .. } = Queue::with_room(16, 1);
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    while objects.send_blocking(Input::Addresses, 2).is_ok() {
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
            // One that is taken makes room for one.
            inputs.recv().unwrap();
            until(9);
            assert_eq!(sent.load(Ordering::SeqCst), 9);
            assert_eq!(objects.room.available_permits(), 0);
            // The end sets those free who wait.
            drop(inputs);
        });
        assert_eq!(objects.send_blocking(Input::Addresses, 1), Err(Ended));
    }

    #[test]
    fn what_is_heavier_than_the_room_goes_alone() {
        let Queue { objects, inputs, .. } = Queue::with_room(4, 1);
        assert_eq!(objects.try_send(Input::Addresses, 1_000_000), Ok(true));
        assert_eq!(objects.try_send(Input::Addresses, 0), Ok(false));
        assert_eq!(queued(&inputs), 1);
        assert_eq!(objects.try_send(Input::Addresses, 0), Ok(true));
    }

    #[test]
    fn a_full_queue_keeps_neither_the_end_nor_the_kernel_out() {
        let Queue { objects, events, inputs, .. } = Queue::with_room(1, 1);
        assert_eq!(objects.try_send(Input::Addresses, 1), Ok(true));
        assert_eq!(objects.try_send(Input::Addresses, 1), Ok(false));
        assert_eq!(events.try_send(Input::Addresses, 1), Ok(true));
        objects.stop();
        assert_eq!(queued(&inputs), 3);
    }

    #[test]
    fn an_input_waits_until_it_is_dealt_with() {
        let Queue { objects, mut inputs, .. } = Queue::with_room(16, 1);
        let (waiting, start) = (inputs.waiting(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(waiting.oldest(), None);
        for seconds in 1..=3 {
            objects.put_at(Input::Addresses, at(seconds));
        }
        assert_eq!(waiting.oldest(), Some(at(1)));
        inputs.recv().unwrap();
        assert_eq!(waiting.oldest(), Some(at(1)), "it is being dealt with");
        inputs.recv_timeout(Duration::ZERO).unwrap();
        assert_eq!(waiting.oldest(), Some(at(2)));
        inputs.done();
        inputs.done();
        assert_eq!(waiting.oldest(), Some(at(3)), "once each");
        inputs.recv().unwrap();
        inputs.recv_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(waiting.oldest(), None);
        assert!(waiting.lock().is_empty());
    }
}
