//! What lanes tell each other: letters in mailboxes, and tickets that tell when the last has acted.
//!
//! A lane looks into its mailbox before every command (one atomic load), so that what was posted
//! before a command's status is seen by every command that is sent after it.

use crate::reservation::Nexus;
use crate::{LogicalUnit, NexusId, TaskTag};
use scsi::Condition;
use scsi::mmc::event::MediaEvent;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Wakes a lane's worker, from any thread; the worker then calls [`crate::Lane::run`].
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A nexus among all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The lane, by its mailbox's address.
    pub lane: usize,
    pub nexus: NexusId,
}

/// A run of bytes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub offset: u64,
    pub length: u64,
}

impl Extent {
    /// No byte of it, but the turn to change what is kept of the unit.
    pub const STATE: Extent = Extent { offset: u64::MAX - 1, length: 1 };
    /// No byte of it.
    pub const NOTHING: Extent = Extent { offset: 0, length: 0 };
    /// All bytes of a unit. What is kept of it is changed beside what happens on the medium.
    pub const WHOLE: Extent = Extent { offset: 0, length: u64::MAX - 1 };

    pub fn overlaps(self, other: Extent) -> bool {
        self.offset < other.offset.saturating_add(other.length)
            && other.offset < self.offset.saturating_add(self.length)
    }
}

/// A stretch of a unit that one task has to itself (SBC-4 5.3: COMPARE AND WRITE and its like).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fence {
    /// Its number; no unit uses one twice.
    pub number: u64,
    pub extent: Extent,
    /// The lane and the task that own it.
    pub lane: usize,
    pub owner: TaskTag,
}

/// To whom a unit attention is owed.
#[derive(Debug, Clone)]
pub(crate) enum Whom {
    Everyone,
    /// Everyone but the nexus that caused it.
    AllBut(Place),
    /// One I_T nexus as reservations know it.
    Port(Nexus),
}

/// Whose tasks end.
#[derive(Debug, Clone)]
pub(crate) enum Whose {
    Everyone,
    /// Those of these I_T nexuses.
    Ports(Arc<[Nexus]>),
}

/// What a unit whose use changes does with the tasks that it has. What a store has already is waited for, and
/// ends as it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Those that write end with WRITE PROTECTED.
    Writes,
    /// Those that need the medium end with what an offline unit says.
    Medium,
    /// Those that write and have not begun make durable what they write.
    Durable,
}

/// What came of a flush, for who asked.
pub(crate) type Flushed = Arc<Mutex<Option<Result<(), Condition>>>>;

/// One message to a lane. It concerns one unit.
pub(crate) enum Letter {
    /// The unit's use changes; drop the ticket when nothing is under way any more that the change concerns.
    Sweep { unit: Arc<LogicalUnit>, sweep: Sweep, ticket: Ticket },
    /// Nobody is to be served by the unit any more; drop the ticket when its channel is closed.
    Retire { unit: Arc<LogicalUnit>, ticket: Ticket },
    /// For one lane alone: what was written goes to stable storage.
    Flush { unit: Arc<LogicalUnit>, flushed: Flushed, ticket: Ticket },
    /// A unit attention.
    Attention { unit: Arc<LogicalUnit>, whom: Whom, condition: Condition },
    /// End these tasks but `spare`; drop the ticket when nothing of them can touch the medium.
    Abort { unit: Arc<LogicalUnit>, whose: Whose, by: Place, spare: Option<TaskTag>, cleared: bool, ticket: Ticket },
    /// Start nothing in the fence; drop the ticket when nothing of it is under way.
    Raise { unit: Arc<LogicalUnit>, fence: Fence, ticket: Ticket },
    /// The fence is gone.
    Lift { unit: Arc<LogicalUnit>, number: u64 },
    /// The store's facts have changed.
    Limits { unit: Arc<LogicalUnit> },
    /// Something happened to the medium of a drive; with `exchanged` another one lies behind it, or none.
    Medium { unit: Arc<LogicalUnit>, event: MediaEvent, exchanged: bool },
    /// The last ticket of this number was dropped.
    Proceed(u64),
    /// A limit has changed for which somebody may wait.
    Paced,
}

/// Where a lane's letters lie.
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    waiting: AtomicBool,
    wake: Wake,
}

impl Mailbox {
    pub fn new(wake: Wake) -> Arc<Mailbox> {
        Arc::new(Mailbox { letters: Mutex::default(), waiting: AtomicBool::new(false), wake })
    }

    /// Its name among lanes.
    pub fn address(self: &Arc<Mailbox>) -> usize {
        Arc::as_ptr(self).addr()
    }

    pub fn post(&self, letter: Letter) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        self.waiting.store(true, Ordering::Release);
        (self.wake)();
    }

    /// Whether there are letters.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// All letters, oldest first.
    pub fn take(&self) -> Vec<Letter> {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut letters)
    }
}

/// Held by everyone who has still to act; the last one to drop it tells the lane that asked.
#[derive(Clone)]
pub(crate) struct Ticket(#[expect(dead_code, reason = "its drop is what it is for")] Arc<Receipt>);

enum Receipt {
    /// A lane asked.
    Lane { home: Weak<Mailbox>, key: u64 },
    /// Somebody who is no lane.
    Other(Arc<Mutex<Told>>),
}

#[derive(Default)]
struct Told {
    done: bool,
    waker: Option<Waker>,
}

/// Ready when the last of its tickets was dropped.
pub(crate) struct Awaited(Arc<Mutex<Told>>);

impl Ticket {
    pub fn new(home: &Arc<Mailbox>, key: u64) -> Ticket {
        Ticket(Arc::new(Receipt::Lane { home: Arc::downgrade(home), key }))
    }

    /// One that somebody awaits who is no lane.
    pub fn awaited() -> (Ticket, Awaited) {
        let told = Arc::<Mutex<Told>>::default();
        (Ticket(Arc::new(Receipt::Other(Arc::clone(&told)))), Awaited(told))
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        match self {
            Receipt::Lane { home, key } => {
                if let Some(home) = home.upgrade() {
                    home.post(Letter::Proceed(*key));
                }
            }
            Receipt::Other(told) => {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.done = true;
                let waker = told.waker.take();
                drop(told);
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl Future for Awaited {
    type Output = ();

    fn poll(self: Pin<&mut Awaited>, cx: &mut Context<'_>) -> Poll<()> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.done {
            return Poll::Ready(());
        }
        told.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_overlap_where_they_share_a_byte() {
        let extent = |offset, length| Extent { offset, length };
        assert!(extent(0, 10).overlaps(extent(9, 1)) && extent(9, 1).overlaps(extent(0, 10)));
        assert!(!extent(0, 10).overlaps(extent(10, 1)) && !extent(10, 1).overlaps(extent(0, 10)));
        assert!(!extent(5, 0).overlaps(extent(5, 0)), "nothing overlaps nothing");
        assert!(Extent::WHOLE.overlaps(extent(u64::MAX - 2, 1)));
        assert!(!Extent::WHOLE.overlaps(Extent::STATE) && !Extent::STATE.overlaps(Extent::WHOLE));
    }

    #[test]
    fn the_last_ticket_tells() {
        let mailbox = Mailbox::new(Arc::new(|| {}));
        let ticket = Ticket::new(&mailbox, 7);
        let copy = ticket.clone();
        drop(ticket);
        assert!(!mailbox.is_waiting());
        drop(copy);
        assert!(matches!(mailbox.take()[..], [Letter::Proceed(7)]));
        assert!(!mailbox.is_waiting());
    }
}
