//! Page-aligned memory, handed from hand to hand, and the pool it comes from.
//!
//! A buffer is reused without being cleared: whoever sends bytes sends only those that the store
//! or the peer put there for this task. The pool's limit is the memory that a worker may hold for
//! data in flight; it says no instead of growing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a [`Page`].
pub const PAGE_BYTES: usize = 4096;

/// One aligned page, so that direct I/O can be done into and out of buffers.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_BYTES]);

/// Page-aligned memory that one owner at a time reads and writes.
pub struct Buf(Box<[Page]>);

impl Buf {
    /// New zeroed memory of at least `length` bytes. Allocates; the data path takes from a [`Pool`].
    /// `None` when the system has no memory.
    pub fn new(length: usize) -> Option<Buf> {
        <[Page]>::new_box_zeroed_with_elems(length.div_ceil(PAGE_BYTES).max(1)).ok().map(Buf)
    }

    /// All of its bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// All of its bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }

    /// Its size in bytes: what was asked for, rounded up.
    pub fn capacity(&self) -> usize {
        self.0.len() * PAGE_BYTES
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({} bytes)", self.capacity())
    }
}

const CLASSES: usize = 14;

/// A worker's buffers: power-of-two sizes from 4 KiB to 32 MiB, bounded in all.
///
/// Cheap to clone; clones share the memory. What is given back is kept for the next task up to
/// `keep` bytes, the rest goes back to the system.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

struct Inner {
    /// Accounts that are open.
    accounts: Cell<usize>,
    /// The least that somebody was refused, 0 where nobody was, and whether there is room for it by now.
    refused: Cell<usize>,
    /// Somebody was refused since this was last asked.
    was_refused: Cell<bool>,
    /// Somebody was refused who wants more than his share, of which there is one portion at a time.
    refused_large: Cell<bool>,
    relieved: Cell<bool>,
    reliefs: Cell<u64>,
    /// Bytes of those portions that are out.
    large_bytes: Cell<usize>,
    free: RefCell<[Vec<Buf>; CLASSES]>,
    free_bytes: Cell<usize>,
    taken_bytes: Cell<usize>,
    limit: usize,
    /// The most that one account may hold.
    most: usize,
    keep: usize,
}

impl Inner {
    fn relieved(&self) {
        self.relieved.set(true);
        self.reliefs.set(self.reliefs.get() + 1);
    }
}

impl Pool {
    /// A pool from which at most `limit` bytes are out at a time, keeping up to `keep` bytes warm.
    pub fn new(limit: usize, keep: usize) -> Pool {
        Pool::shared(limit, limit, keep)
    }

    /// The same, of which one account may hold at most `most`.
    pub fn shared(limit: usize, most: usize, keep: usize) -> Pool {
        Pool(Rc::new(Inner {
            accounts: Cell::new(0),
            refused: Cell::new(0),
            was_refused: Cell::new(false),
            refused_large: Cell::new(false),
            relieved: Cell::new(false),
            reliefs: Cell::new(0),
            large_bytes: Cell::new(0),
            free: RefCell::default(),
            free_bytes: Cell::new(0),
            taken_bytes: Cell::new(0),
            limit,
            most,
            keep,
        }))
    }

    /// A buffer of at least `length` bytes with arbitrary content, or `None` at the limit, or for a
    /// length that no class holds.
    pub fn take(&self, length: usize) -> Option<Buf> {
        self.take_below(length, self.0.limit)
    }

    fn take_below(&self, length: usize, limit: usize) -> Option<Buf> {
        let bytes = Self::class_bytes(Self::class(length)?);
        if self.0.taken_bytes.get() + bytes > limit {
            self.refuse(bytes);
            return None;
        }
        self.take_beyond(length)
    }

    /// An account of this pool.
    pub fn account(&self) -> Account {
        self.0.accounts.set(self.0.accounts.get() + 1);
        Account { pool: self.clone(), held: Cell::new(0), large: Cell::new(0), refused: Cell::new(false) }
    }

    /// Whether there is room for what somebody was refused. Tells it once.
    pub fn take_relief(&self) -> bool {
        self.0.relieved.replace(false)
    }

    /// Whether somebody had to wait since this was last asked.
    pub fn take_refusal(&self) -> bool {
        self.0.was_refused.replace(false)
    }

    /// How often there was room again: whoever was refused and sees another number asks again.
    pub fn reliefs(&self) -> u64 {
        self.0.reliefs.get()
    }

    /// As [`Pool::take`], past the limit. For memory that must be had so that others can be given
    /// back; the caller bounds it.
    pub fn take_beyond(&self, length: usize) -> Option<Buf> {
        let class = Self::class(length)?;
        let bytes = Self::class_bytes(class);
        let kept = self.0.free.borrow_mut()[class].pop();
        let buffer = match kept {
            Some(buffer) => {
                self.0.free_bytes.set(self.0.free_bytes.get() - bytes);
                buffer
            }
            None => Buf::new(bytes)?,
        };
        self.0.taken_bytes.set(self.0.taken_bytes.get() + bytes);
        Some(buffer)
    }

    /// Gives a buffer of this pool back.
    pub fn give(&self, buffer: Buf) {
        let bytes = buffer.capacity();
        self.0.taken_bytes.set(self.0.taken_bytes.get().saturating_sub(bytes));
        self.relieve();
        if let Some(class) = Self::class(bytes)
            && Self::class_bytes(class) == bytes
            && self.0.free_bytes.get() + bytes <= self.0.keep
        {
            self.0.free_bytes.set(self.0.free_bytes.get() + bytes);
            self.0.free.borrow_mut()[class].push(buffer);
        }
    }

    fn refuse(&self, bytes: usize) {
        self.0.was_refused.set(true);
        let least = self.0.refused.get();
        self.0.refused.set(if least == 0 { bytes } else { least.min(bytes) });
    }

    /// Nobody is woken for what he cannot have: where many wait, that would be all that is done.
    fn relieve(&self) {
        let least = self.0.refused.get();
        if least > 0 && self.0.taken_bytes.get() + least <= self.0.limit {
            self.0.refused.set(0);
            self.0.relieved();
        }
    }

    /// Bytes that are out.
    pub fn taken_bytes(&self) -> usize {
        self.0.taken_bytes.get()
    }

    /// The most bytes that may be out.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Gives the kept memory back to the system; for a worker that has gone idle.
    pub fn trim(&self) {
        *self.0.free.borrow_mut() = Default::default();
        self.0.free_bytes.set(0);
    }

    fn class(length: usize) -> Option<usize> {
        let pages = length.div_ceil(PAGE_BYTES).max(1).next_power_of_two();
        let class = pages.trailing_zeros() as usize;
        (class < CLASSES).then_some(class)
    }

    fn class_bytes(class: usize) -> usize {
        PAGE_BYTES << class
    }
}

/// What one session holds of a pool, and what it may still take: a fair share, so that one that is slow
/// or greedy cannot keep the others from their work.
///
/// A session that holds nothing may always take something, past the limit, and all of them together up to
/// twice the limit. What is more than a share waits for its turn, one after the other. What is small against
/// the memory that is left is had at once; so the memory is never used up by those who take and keep it, and
/// whoever works with little goes on beside any number of them. Data that came unasked, which cannot be
/// refused, may use all but a last eighth.
pub struct Account {
    pool: Pool,
    held: Cell<usize>,
    /// What it took above its share.
    large: Cell<usize>,
    /// It was refused more for what it holds itself.
    refused: Cell<bool>,
}

/// A portion of what is left that a session may take which holds nothing.
const SMALL: usize = 32;

impl Account {
    /// Memory for data that was not asked for yet. `None`: not now; [`Pool::take_relief`] tells when.
    pub fn take(&self, length: usize) -> Option<Buf> {
        let bytes = Pool::class_bytes(Pool::class(length)?);
        let inner = &*self.pool.0;
        let (held, taken, share) = (self.held.get(), inner.taken_bytes.get(), self.share());
        if held + bytes <= share && taken + bytes <= inner.limit {
            return self.take_now(length);
        }
        if held > 0 {
            match held + bytes <= share {
                true => self.pool.refuse(bytes),
                false => {
                    inner.was_refused.set(true);
                    self.refused.set(true);
                }
            }
            return None;
        }
        let most = inner.limit * 2;
        if bytes <= most.saturating_sub(taken) / SMALL {
            return self.take_now(length);
        }
        // A share waits for ordinary memory; what is more than one, for its turn.
        let large = inner.large_bytes.get();
        let turn = large == 0 || large + bytes <= inner.limit / 2;
        if taken == 0 || turn && taken + bytes <= most - most / 8 {
            inner.large_bytes.set(large + bytes);
            self.large.set(bytes);
            return self.take_now(length);
        }
        self.pool.refuse(bytes);
        inner.refused_large.set(true);
        None
    }

    /// Memory for data that comes whether there is memory or not.
    pub fn take_owed(&self, length: usize) -> Option<Buf> {
        let most = self.pool.0.limit * 2;
        let buffer = self.pool.take_below(length, most - most / 8)?;
        self.charge(&buffer);
        Some(buffer)
    }

    fn take_now(&self, length: usize) -> Option<Buf> {
        let Some(buffer) = self.pool.take_beyond(length) else {
            // The system has none; it may when something has come back.
            self.pool.refuse(1);
            return None;
        };
        self.charge(&buffer);
        Some(buffer)
    }

    /// The buffer is this session's from now on.
    pub fn charge(&self, buffer: &Buf) {
        self.held.set(self.held.get() + buffer.capacity());
    }

    /// The buffer is no longer this session's, wherever it is.
    pub fn discharge(&self, buffer: &Buf) {
        self.held.set(self.held.get().saturating_sub(buffer.capacity()));
        if self.large.get() > 0 && (self.large.get() == buffer.capacity() || self.held.get() == 0) {
            self.end_turn();
        }
        // Its own tasks may go on although the pool has not got anything back.
        if self.refused.replace(false) {
            self.pool.0.relieved();
        }
        self.pool.relieve();
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: Buf) {
        self.discharge(&buffer);
        self.pool.give(buffer);
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// All of the pool for one session, less for each of many, together up to twice the pool.
    fn share(&self) -> usize {
        let inner = &*self.pool.0;
        (inner.limit / (inner.accounts.get() + 1) * 2).min(inner.most)
    }

    /// It holds no more than its share again.
    fn end_turn(&self) {
        let inner = &*self.pool.0;
        inner.large_bytes.set(inner.large_bytes.get().saturating_sub(self.large.replace(0)));
        if inner.refused_large.replace(false) {
            inner.relieved();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let inner = &*self.pool.0;
        inner.accounts.set(inner.accounts.get().saturating_sub(1));
        self.end_turn();
        // The shares of the others have grown.
        inner.relieved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_page_aligned_and_zeroed() {
        let buffer = Buf::new(5000).unwrap();
        assert_eq!(buffer.capacity(), 8192);
        assert_eq!(buffer.as_slice().as_ptr() as usize % PAGE_BYTES, 0);
        assert!(buffer.as_slice().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_pool_says_no_at_its_limit_and_yes_again_after_a_return() {
        let pool = Pool::new(12 << 10, 64 << 10);
        let first = pool.take(8192).unwrap();
        assert!(pool.take(8192).is_none());
        let second = pool.take(1).unwrap();
        assert!(pool.take(1).is_none());
        pool.give(first);
        assert_eq!(pool.taken_bytes(), 4096);
        assert!(pool.take(5000).is_some());
        drop(second);
    }

    const K: usize = 1024;

    #[test]
    fn a_session_that_ends_gives_room_though_nobody_had_to_wait() {
        let pool = Pool::new(64 * K, 0);
        let (one, other) = (pool.account(), pool.account());
        drop(one);
        assert!(pool.take_relief() && !pool.take_refusal());
        let held: Vec<Buf> = std::iter::from_fn(|| other.take(8 * K)).collect();
        assert!(pool.take_refusal() && !pool.take_refusal(), "told once");
        drop(held);
    }

    #[test]
    fn a_greedy_session_leaves_the_others_their_share() {
        let pool = Pool::new(64 * K, 0);
        let (greedy, other) = (pool.account(), pool.account());
        let mut held: Vec<Buf> = std::iter::from_fn(|| greedy.take(8 * K)).collect();
        assert_eq!(held.len() * 8, 40, "two sessions have two thirds each");
        let first = other.take(16 * K).unwrap();
        assert!(other.take(16 * K).is_none());
        let third = pool.account();
        let large = third.take(32 * K).expect("who holds nothing may take once, past the limit");
        assert!(!pool.take_relief());
        greedy.give(held.pop().unwrap());
        assert!(pool.take_relief(), "what was refused to it for what it held itself");
        other.give(first);
        drop((third, large));
        assert!(pool.take_relief(), "the shares have grown");
    }

    #[test]
    fn whoever_keeps_what_he_takes_leaves_something_for_the_small() {
        let pool = Pool::new(12 << 20, 0);
        let accounts: Vec<_> = (0..100).map(|_| pool.account()).collect();
        // A hundred that take as much as they can and keep it: large, unasked, and small.
        let mut kept: Vec<Buf> = accounts.iter().filter_map(|account| account.take(8 << 20)).collect();
        assert_eq!(kept.len(), 1, "what is more than a share goes by turns");
        for account in &accounts {
            kept.extend(std::iter::from_fn(|| account.take_owed(64 * K)));
        }
        for account in accounts.iter().filter(|account| account.held() == 0) {
            kept.extend([256, 128, 64, 32, 16, 8].iter().find_map(|size| account.take(size * K)));
        }
        assert!(pool.taken_bytes() <= 24 << 20, "{} bytes", pool.taken_bytes());
        let small = pool.account();
        for _ in 0..3 {
            let buffer = small.take(4 * K).expect("a small one goes on");
            assert!(small.take(64 * K).is_none());
            small.give(buffer);
        }
    }

    #[test]
    fn turns_are_passed_on_and_nobody_is_woken_for_nothing() {
        let pool = Pool::new(12 << 20, 0);
        let (one, two, three) = (pool.account(), pool.account(), pool.account());
        let large = one.take(8 << 20).unwrap();
        assert!(two.take(8 << 20).is_none());
        let small = three.take(4 * K).unwrap();
        three.give(small);
        assert!(!pool.take_relief(), "that is not what it waits for");
        one.give(large);
        assert!(pool.take_relief() && two.take(8 << 20).is_some());
        drop(two);
        assert!(three.take(8 << 20).is_some(), "the turn of one that is gone");
    }

    #[test]
    fn one_account_is_bounded_by_itself() {
        let pool = Pool::shared(64 << 20, 1 << 20, 0);
        let account = pool.account();
        let held: Vec<Buf> = std::iter::from_fn(|| account.take(256 * K)).collect();
        assert_eq!(held.len(), 4);
        let other = pool.account();
        assert!(other.take(8 << 20).is_some(), "one command may be larger");
    }

    #[test]
    fn lengths_no_class_holds_are_refused() {
        let pool = Pool::new(usize::MAX / 2, 0);
        assert!(pool.take(usize::MAX / 4).is_none());
        assert_eq!(pool.take(0).unwrap().capacity(), PAGE_BYTES);
    }
}
