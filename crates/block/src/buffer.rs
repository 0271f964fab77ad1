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
    /// Somebody was refused, and what has been given back since.
    refused: Cell<bool>,
    relieved: Cell<bool>,
    free: RefCell<[Vec<Buf>; CLASSES]>,
    free_bytes: Cell<usize>,
    taken_bytes: Cell<usize>,
    limit: usize,
    keep: usize,
}

impl Pool {
    /// A pool from which at most `limit` bytes are out at a time, keeping up to `keep` bytes warm.
    pub fn new(limit: usize, keep: usize) -> Pool {
        Pool(Rc::new(Inner {
            accounts: Cell::new(0),
            refused: Cell::new(false),
            relieved: Cell::new(false),
            free: RefCell::default(),
            free_bytes: Cell::new(0),
            taken_bytes: Cell::new(0),
            limit,
            keep,
        }))
    }

    /// A buffer of at least `length` bytes with arbitrary content, or `None` at the limit, or for a
    /// length that no class holds.
    pub fn take(&self, length: usize) -> Option<Buf> {
        self.take_below(length, self.0.limit)
    }

    fn take_below(&self, length: usize, limit: usize) -> Option<Buf> {
        if self.0.taken_bytes.get() + Self::class_bytes(Self::class(length)?) > limit {
            self.0.refused.set(true);
            return None;
        }
        self.take_beyond(length)
    }

    /// An account of this pool.
    pub fn account(&self) -> Account {
        self.0.accounts.set(self.0.accounts.get() + 1);
        Account { pool: self.clone(), held: Cell::new(0) }
    }

    /// Whether memory has come back since somebody was refused. Tells it once.
    pub fn take_relief(&self) -> bool {
        self.0.relieved.replace(false)
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

    fn relieve(&self) {
        if self.0.refused.replace(false) {
            self.0.relieved.set(true);
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
/// A session that holds nothing may always take once, up to twice the pool's limit; data that came
/// unasked, which cannot be refused, up to three times.
pub struct Account {
    pool: Pool,
    held: Cell<usize>,
}

impl Account {
    /// Memory for data that was not asked for yet. `None`: not now; [`Pool::take_relief`] tells when.
    pub fn take(&self, length: usize) -> Option<Buf> {
        let (held, limit) = (self.held.get(), self.pool.0.limit);
        let buffer = match held {
            0 => self.pool.take_below(length, limit * 2)?,
            _ if held + length > self.share() => {
                self.pool.0.refused.set(true);
                return None;
            }
            _ => self.pool.take(length)?,
        };
        self.charge(&buffer);
        Some(buffer)
    }

    /// Memory for data that comes whether there is memory or not.
    pub fn take_owed(&self, length: usize) -> Option<Buf> {
        let buffer = self.pool.take_below(length, self.pool.0.limit * 3)?;
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
        // Its own tasks may go on although the pool has not got anything back.
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
        self.pool.0.limit / (self.pool.0.accounts.get() + 1) * 2
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let accounts = &self.pool.0.accounts;
        accounts.set(accounts.get().saturating_sub(1));
        self.pool.relieve();
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

    #[test]
    fn a_greedy_session_leaves_the_others_their_share() {
        const K: usize = 1024;
        let pool = Pool::new(64 * K, 0);
        let (greedy, other) = (pool.account(), pool.account());
        let mut held: Vec<Buf> = std::iter::from_fn(|| greedy.take(8 * K)).collect();
        assert_eq!(held.len() * 8, 40, "two sessions have two thirds each");
        let first = other.take(32 * K).unwrap();
        assert!(other.take(8 * K).is_none());
        let third = pool.account();
        assert!(third.take(32 * K).is_some(), "who holds nothing may take once, past the limit");
        assert!(!pool.take_relief());
        greedy.give(held.pop().unwrap());
        assert!(pool.take_relief(), "who was refused hears of it");
        other.give(first);
        let owed = [(); 3].map(|()| third.take_owed(64 * K).is_some());
        assert_eq!(owed, [true, true, false], "and even what cannot be refused has an end");
    }

    #[test]
    fn lengths_no_class_holds_are_refused() {
        let pool = Pool::new(usize::MAX / 2, 0);
        assert!(pool.take(usize::MAX / 4).is_none());
        assert_eq!(pool.take(0).unwrap().capacity(), PAGE_BYTES);
    }
}
