//! Shows the first so many blocks of a store, whatever lies behind them.
//!
//! A disk whose size is configured has this size: what is behind it may be larger, because it was made larger
//! before that is in force, or is no longer to be shown whole. So nothing is ever cut off by being made smaller here,
//! and what was made smaller can be made larger again with its content.

use crate::{Backend, Description, Engine, Error, Limits, Medium, OpenFile, Space, Store};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A backend of which only the beginning is shown.
pub struct Bounded {
    inner: Arc<dyn Backend>,
    state: Mutex<State>,
}

struct State {
    /// Blocks that are shown at most; all where there is none.
    bound: Option<u64>,
    /// What was made of these limits of the inner store at last.
    of: Arc<Limits>,
    shown: Arc<Limits>,
    /// What whoever looks now and then knows.
    told: Arc<Limits>,
}

impl Bounded {
    /// Before this backend: at most so many blocks of it, all where there is no bound.
    pub fn new(inner: Arc<dyn Backend>, bound: Option<u64>) -> Arc<Bounded> {
        let of = inner.limits();
        let shown = shown(&of, bound);
        let state = State { bound, told: Arc::clone(&shown), shown, of };
        Arc::new(Bounded { inner, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets another bound; the next [`Backend::refresh`] tells of it.
    pub fn bind(&self, bound: Option<u64>) {
        let of = self.inner.limits();
        let mut state = self.state();
        (state.bound, state.shown) = (bound, shown(&of, bound));
        state.of = of;
    }

    /// Makes what lies behind it large enough for so many blocks, and shows nothing of that. Returns how large it
    /// was, for [`Bounded::give_back`].
    pub fn make_room(&self, blocks: u64) -> Result<u64, Error> {
        let before = self.inner.limits().blocks;
        if blocks > before {
            let (shown, bound) = (self.limits().blocks, self.bound());
            self.bind(Some(shown));
            // One that stays as it is goes on to follow what lies behind it.
            self.inner.resize(blocks).inspect_err(|_| self.bind(bound))?;
        }
        Ok(before)
    }

    /// Undoes what [`Bounded::make_room`] did, before anything of it was shown.
    pub fn give_back(&self, blocks: u64, bound: Option<u64>) {
        if self.inner.limits().blocks > blocks {
            // What remains is room that nobody sees.
            let _ = self.inner.resize(blocks);
        }
        self.bind(bound);
    }

    /// How many blocks are shown at most.
    pub fn bound(&self) -> Option<u64> {
        self.state().bound
    }
}

fn shown(of: &Arc<Limits>, bound: Option<u64>) -> Arc<Limits> {
    match bound {
        Some(bound) if bound < of.blocks => Arc::new(Limits { blocks: bound, ..(**of).clone() }),
        _ => Arc::clone(of),
    }
}

impl Backend for Bounded {
    fn limits(&self) -> Arc<Limits> {
        let of = self.inner.limits();
        let mut state = self.state();
        if !Arc::ptr_eq(&of, &state.of) {
            state.shown = shown(&of, state.bound);
            state.of = of;
        }
        Arc::clone(&state.shown)
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        // Whoever sends requests keeps to the limits.
        self.inner.open(engine)
    }

    fn space(&self) -> Option<Space> {
        self.inner.space()
    }

    fn file(&self) -> Option<OpenFile> {
        self.inner.file()
    }

    fn erase_key(&self) -> Result<(), Error> {
        self.inner.erase_key()
    }

    fn refresh(&self) -> Result<bool, Error> {
        self.inner.refresh()?;
        let now = self.limits();
        let mut state = self.state();
        let changed = *now != *state.told;
        state.told = now;
        Ok(changed)
    }

    fn look(&self) -> Medium {
        self.inner.look()
    }

    fn exchange(&self) {
        self.inner.exchange();
    }

    /// What lies behind it grows where it has to, and never shrinks.
    fn hand_over(&self) -> Result<crate::Estate, &'static str> {
        self.inner.hand_over()
    }

    fn flush_inherited(&self, done: crate::Flushed) {
        self.inner.flush_inherited(done);
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        if blocks > self.inner.limits().blocks {
            self.inner.resize(blocks)?;
        }
        self.bind(Some(blocks));
        // Whoever resizes it tells of it.
        let mut state = self.state();
        state.told = Arc::clone(&state.shown);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::Ram;
    use crate::testing::Bench;

    #[test]
    fn what_is_made_smaller_keeps_what_is_behind_it() {
        let ram = Ram::new(512, 64);
        let bounded = Bounded::new(ram.clone(), Some(128));
        assert_eq!(bounded.limits().blocks, 64, "no more than there is");
        let mut bench = Bench::new(bounded.clone());
        bench.write(63 * 512, &[7; 512]).unwrap();
        bounded.resize(32).unwrap();
        assert_eq!((bounded.limits().blocks, ram.limits().blocks), (32, 64));
        assert_eq!(bounded.refresh(), Ok(false));
        bounded.resize(96).unwrap();
        assert_eq!((bounded.limits().blocks, ram.limits().blocks), (96, 96));
        assert_eq!(bench.read(63 * 512, 512).unwrap(), vec![7; 512]);
        bounded.bind(Some(8));
        assert_eq!((bounded.limits().blocks, bounded.refresh(), bounded.refresh()), (8, Ok(true), Ok(false)));
        bounded.bind(None);
        assert_eq!((bounded.limits().blocks, bounded.refresh()), (96, Ok(true)));
    }

    #[test]
    fn room_is_made_before_it_is_shown_and_can_be_given_back() {
        let ram = Ram::new(512, 64);
        let bounded = Bounded::new(ram.clone(), None);
        assert_eq!(bounded.make_room(128), Ok(64));
        assert_eq!((ram.limits().blocks, bounded.limits().blocks, bounded.refresh()), (128, 64, Ok(false)));
        bounded.give_back(64, None);
        assert_eq!((ram.limits().blocks, bounded.limits().blocks, bounded.refresh()), (64, 64, Ok(false)));
        bounded.make_room(96).unwrap();
        bounded.bind(Some(96));
        assert_eq!((bounded.limits().blocks, bounded.refresh()), (96, Ok(true)));
        assert_eq!(bounded.make_room(8), Ok(96), "nothing is cut off");
    }

    /// A store that can be made no larger by whoever asks.
    struct Narrow(Arc<Ram>);

    impl Backend for Narrow {
        fn limits(&self) -> Arc<Limits> {
            self.0.limits()
        }
        fn description(&self) -> Description {
            self.0.description()
        }
        fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
            self.0.open(engine)
        }
        fn resize(&self, _: u64) -> Result<(), Error> {
            Err(Error::new(crate::ErrorKind::Unsupported))
        }
    }

    #[test]
    fn where_no_room_can_be_made_it_follows_what_is_behind_it_as_before() {
        let ram = Ram::new(512, 64);
        let bounded = Bounded::new(Arc::new(Narrow(ram.clone())), None);
        assert_eq!((bounded.make_room(128), bounded.bound()), (Err(Error::new(crate::ErrorKind::Unsupported)), None));
        ram.resize(96).unwrap();
        assert_eq!(bounded.limits().blocks, 96);
    }

    #[test]
    fn what_grows_behind_it_is_shown_up_to_the_bound() {
        let ram = Ram::new(512, 8);
        let bounded = Bounded::new(ram.clone(), Some(16));
        ram.resize(12).unwrap();
        assert_eq!((bounded.limits().blocks, bounded.refresh()), (12, Ok(true)));
        ram.resize(20).unwrap();
        assert_eq!((bounded.limits().blocks, bounded.refresh()), (16, Ok(true)));
        ram.resize(24).unwrap();
        assert_eq!(bounded.refresh(), Ok(false));
    }
}
