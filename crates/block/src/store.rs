//! The two traits of the waist: a disk that exists once, and one worker's channel to it.

use crate::{Completion, Engine, Error, Limits, Request};
use std::rc::Rc;
use std::sync::Arc;

/// A disk that exists once in the process, shared by all workers.
pub trait Backend: Send + Sync {
    /// The store's facts as they are now.
    fn limits(&self) -> Arc<Limits>;

    /// What it is and where, for people.
    fn description(&self) -> Description;

    /// Opens this worker's channel. Called once for each worker that serves the disk.
    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error>;

    /// Looks again at what lies behind (a file or device that grew or shrank) and tells whether the
    /// limits changed.
    fn refresh(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Looks which medium lies behind a drive now. Nothing changes by that but what
    /// [`Backend::exchange`] would put in. May take a moment.
    fn look(&self) -> Medium {
        Medium::Same
    }

    /// Makes what the last [`Backend::look`] found the medium. Channels that are open stay with the old
    /// one; those that are opened from now on read the new one. Does not wait for anything.
    fn exchange(&self) {}

    /// What of its space is used and can still be had, where the store can say. May take a moment.
    fn space(&self) -> Option<Space> {
        None
    }

    /// The file that holds the data, byte for byte, for stores that let the system copy between them
    /// ([`crate::Operation::Copy`]).
    fn file(&self) -> Option<crate::OpenFile> {
        None
    }

    /// Forgets the key of all data for a new one, on stable storage, where
    /// [`crate::Limits::cryptographic_erase`]. What was written before is noise afterwards. May take a moment;
    /// nothing else may be under way.
    fn erase_key(&self) -> Result<(), Error> {
        Err(Error::new(crate::ErrorKind::Unsupported))
    }

    /// What another process needs of this one in order to go on with the store, while this one still has it. An
    /// error, why that cannot be.
    fn hand_over(&self) -> Result<Estate, &'static str> {
        Err("a store of its kind cannot be handed over")
    }

    /// Makes stable what the process before wrote into what it handed over ([`Backend::hand_over`]), where no channel
    /// was opened yet that could do that; `done` is called by any thread, when it is through. Stores of which nothing
    /// unstable goes over have nothing to do.
    fn flush_inherited(&self, done: Flushed) {
        done(Ok(()));
    }

    /// Changes the size, where the store can, to this many blocks.
    fn resize(&self, _blocks: u64) -> Result<(), Error> {
        Err(Error::new(crate::ErrorKind::Unsupported))
    }
}

/// Hears how a flush has ended; dropped unheard, that it has failed.
pub type Flushed = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What goes over from one process to another with a store.
#[derive(Clone, Default)]
pub struct Estate {
    /// Open files, with their locks.
    pub files: Vec<crate::OpenFile>,
    /// What is kept in memory and nowhere else.
    pub memory: Option<Arc<dyn Memory>>,
    /// Where whoever goes on opens the content for himself: what tells it from another.
    pub mark: Option<u64>,
}

/// A store's memory, as it is copied while the store is in use: first all of it, then again and again what has
/// changed meanwhile, and the last of it while nothing happens.
pub trait Memory: Send + Sync {
    /// Remembers from now on which pieces change. The numbers of all that are there.
    fn begin(&self) -> Vec<u64>;

    /// The pieces that have changed since this was last asked.
    fn changed(&self) -> Vec<u64>;

    /// Nobody copies any more.
    fn end(&self);

    /// A piece: which parts of it hold data, and its bytes. Nothing where it holds none.
    fn piece(&self, number: u64, out: &mut Vec<u8>) -> Option<u16>;

    /// Makes a piece what it is elsewhere: nothing, or these parts and bytes. False where there is no memory for it.
    fn put(&self, number: u64, piece: Option<(u16, &[u8])>) -> bool;
}

/// What lies behind a drive whose medium can be exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// What is served; where nothing is, still nothing.
    Same,
    /// Another one.
    Other,
    /// There is none any more, or none that can be read, for this reason.
    Gone(String),
}

/// The space behind a store whose blocks need not all have any. In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What the store uses.
    pub used: u64,
    /// What it could still be given, shared with others; `None` where nobody knows.
    pub available: Option<u64>,
}

/// What a store is, for listings and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The kind's name: `file`, `device`, `ram`, `null`.
    pub kind: &'static str,
    /// The address that a person gave: a path, a size.
    pub address: String,
}

/// One worker's channel to a [`Backend`]. It never blocks the worker for long and never sees a
/// request twice. All channels of a backend see each other's completed writes at once.
pub trait Store {
    /// Takes every request of the batch. Those that could be finished at once are in `done` on
    /// return; the others come out of [`Store::poll`].
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>);

    /// Moves what has completed since into `done`. The engine's wake-up tells when to call.
    fn poll(&mut self, done: &mut Vec<Completion>);

    /// The number of requests taken and not yet given back.
    fn in_flight(&self) -> usize;
}
