//! What the reconciler is told.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvError, RecvTimeoutError, SendError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rulegen_kernel::nftables;
use rulegen_model::{Kind, ObjectKey, Problem, StoreEvent};

/// Something that may change what is wanted, or what is held.
#[derive(Debug)]
pub(crate) enum Input {
    /// An object came or went.
    Object(StoreEvent),
    /// Several did, of which none makes sense without the others.
    Objects(Vec<StoreEvent>),
    /// An object is there, but cannot be read: it counts as if it were not.
    Unreadable(Kind, ObjectKey, Box<Problem>),
    /// Objects of this kind, or of the manifests, do not come, or come again.
    Source(&'static str, Option<Trouble>),
    /// Something else is wrong with what was read.
    Problem(Box<Problem>),
    /// When what an EndpointSlice tells began, by the cluster's clock.
    Triggered(std::time::SystemTime),
    /// The kernel told of commits to the ruleset.
    Rules(Vec<nftables::Event>),
    /// An address came to this machine or went.
    Addresses,
    /// The agent shall end.
    Stop,
}

/// Why objects do not come.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    /// In words.
    pub(crate) why: String,
    /// When it is over unless it is told again, as far as that is known: a watch that works again in a
    /// quiet cluster has nothing to tell.
    pub(crate) until: Option<Instant>,
}

impl Trouble {
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An input, and when it was there.
#[derive(Debug)]
pub(crate) struct Told {
    /// What is told.
    pub(crate) input: Input,
    /// When its last byte had come.
    pub(crate) at: Instant,
}

impl Told {
    /// Told now.
    pub(crate) fn now(input: Input) -> Self {
        Self { input, at: Instant::now() }
    }
}

/// A queue to the reconciler. Others see how long the oldest input in it has waited: a reconciler
/// that hangs cannot say so itself.
pub(crate) fn queue() -> (Sink, Inputs) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Waiting::default();
    let sink = Sink { sender, waiting: waiting.clone() };
    (sink, Inputs { receiver, waiting, is_at_work: false })
}

/// Where inputs go.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    sender: Sender<Told>,
    waiting: Waiting,
}

impl Sink {
    /// Puts an input into the queue.
    ///
    /// # Errors
    /// The reconciler is gone.
    pub(crate) fn send(&self, told: Told) -> Result<(), SendError<Told>> {
        // Before it can be taken: what is counted there is never missing here.
        self.waiting.lock().push_back(told.at);
        self.sender.send(told)
    }

    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }
}

/// Where the reconciler takes them from.
#[derive(Debug)]
pub(crate) struct Inputs {
    receiver: Receiver<Told>,
    waiting: Waiting,
    is_at_work: bool,
}

impl Inputs {
    /// The next input. Who asks for it is done with the one before.
    pub(crate) fn recv(&mut self) -> Result<Told, RecvError> {
        self.done();
        let told = self.receiver.recv();
        self.is_at_work = told.is_ok();
        told
    }

    /// The same, if it comes in time.
    pub(crate) fn recv_timeout(&mut self, patience: Duration) -> Result<Told, RecvTimeoutError> {
        self.done();
        let told = self.receiver.recv_timeout(patience);
        self.is_at_work = told.is_ok();
        told
    }

    /// The input that was taken last is dealt with.
    pub(crate) fn done(&mut self) {
        if std::mem::take(&mut self.is_at_work) {
            self.waiting.lock().pop_front();
        }
    }
}

/// When each input came that the reconciler has not dealt with, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<VecDeque<Instant>>>);

impl Waiting {
    /// Since when the oldest has waited.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lock().front().copied()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_waits_until_it_is_dealt_with() {
        let (sink, mut inputs) = queue();
        let (waiting, start) = (sink.waiting(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(waiting.oldest(), None);
        for seconds in 1..=3 {
            sink.send(Told { input: Input::Addresses, at: at(seconds) }).unwrap();
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
