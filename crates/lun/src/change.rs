//! What whoever administers the target does with a unit that is in use: offline and online, read-only, write cache,
//! size, names, reservations, and its end.
//!
//! Futures without a runtime: they wait for lanes by tickets and for saving by its callback, so that any executor
//! may drive them. Nothing of it takes a lock on the path of a command; a command sees flags, and lanes get letters.
//! Where no session ever used the unit there is no lane, and nothing to wait for.

use crate::commons::flag;
use crate::fault::condition_of;
use crate::mail::{Extent, Fence, Letter, Sweep, Ticket, Whom};
use crate::operation::Raised;
use crate::reservation::{Attention, Nexus};
use crate::{Identity, LogicalUnit, StateError, StateKind, StateStore, TaskTag, occupation};
use block::{Limits, WriteCache};
use scsi::persistent::ReservationType;
use scsi::{Condition, SenseKey};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a unit stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It has nothing of the kind.
    #[error("{0}")]
    Unsupported(&'static str),
    /// It is not in the state for it.
    #[error("{0}")]
    State(&'static str),
    /// What was written could not be made stable.
    #[error("what was written cannot be made stable: {0:?}")]
    NotFlushed(Condition),
    /// It could not be kept.
    #[error("it cannot be kept: {0}")]
    NotSaved(#[from] StateError),
    /// The store refuses.
    #[error("{0}")]
    Store(#[from] block::Error),
    /// A store does not answer what it was asked before. What was begun goes on, and is done when it does.
    #[error("its store does not answer; what was begun is done when it does")]
    Pending,
}

/// How a unit stands, for listings. A moment later it may be otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStanding {
    /// It serves its medium; otherwise it was taken offline.
    pub online: bool,
    /// Nobody may write: by the store, or by whoever administers it.
    pub read_only: bool,
    /// The write cache is in use: an answered write is stable after a flush. `None` where there is none to switch.
    pub write_cache: Option<bool>,
    /// An initiator has set the software write protection (SWP).
    pub write_protected: bool,
    /// An initiator has stopped it.
    pub stopped: bool,
    /// Its medium is not there.
    pub empty: bool,
    /// A SANITIZE or FORMAT UNIT is under way, or has left the unit of no use.
    pub occupied: bool,
    /// The store's facts.
    pub limits: Arc<Limits>,
}

/// A nexus that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its reservation key.
    pub key: u64,
    /// The TransportID of the initiator port ([`scsi::transport_id::TransportId::parse`]), and the target port.
    pub nexus: Nexus,
    /// It holds the reservation.
    pub holder: bool,
}

/// The reservations of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReservationsView {
    /// PRGENERATION.
    pub generation: u32,
    /// They outlive a loss of power (APTPL).
    pub persists: bool,
    /// What was stored of them is damaged: the unit serves nobody until they are replaced or cleared.
    pub lost: bool,
    /// The persistent reservation: its key, 0 where all registrants hold it, and its type. Its scope is always
    /// the unit.
    pub reservation: Option<(u64, ReservationType)>,
    /// Who is registered, in the order of coming.
    pub registrations: Vec<Registration>,
    /// The holder of a RESERVE of SPC-2.
    pub exclusive: Option<Nexus>,
    /// Who prevents the removal of the medium.
    pub preventing: Vec<Nexus>,
}

/// A unit that stands still as long as this lives.
pub struct Paused {
    _fence: Raised,
}

/// MODE PARAMETERS CHANGED.
const MODE_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x2a, 0x01);
/// CAPACITY DATA HAS CHANGED.
const CAPACITY_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x2a, 0x09);
/// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
const READY: Condition = Condition::new(SenseKey::UnitAttention, 0x28, 0x00);
/// INQUIRY DATA HAS CHANGED.
const INQUIRY_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x3f, 0x03);

impl LogicalUnit {
    /// How it stands.
    pub fn standing(&self) -> UnitStanding {
        let (flags, limits) = (self.commons.flags(), self.limits());
        UnitStanding {
            online: flags & flag::OFFLINE == 0,
            read_only: flags & flag::READ_ONLY != 0 || limits.read_only,
            write_cache: self.commons.values().facts().volatile_cache.then_some(flags & flag::WRITE_THROUGH == 0),
            write_protected: flags & flag::WRITE_PROTECT != 0,
            stopped: flags & flag::STOPPED != 0,
            empty: flags & (flag::EJECTED | flag::EMPTY) != 0,
            occupied: flags & flag::OCCUPIED != 0,
            limits,
        }
    }

    /// Takes the unit offline, and comes back when nothing touches its medium any more and all that was answered
    /// is stable.
    ///
    /// Sessions stay. From now on commands that need the medium, READ CAPACITY among them, hear NOT READY, MANUAL
    /// INTERVENTION REQUIRED (04h/03h); what a store has already ends as it ends, the rest of what is under way
    /// hears the same. INQUIRY, REPORT LUNS, REQUEST SENSE, MODE SENSE, persistent reservations and reports of
    /// access states go on. A unit that is busy with a SANITIZE or FORMAT UNIT is refused. Where the flush fails
    /// the unit is offline none the less.
    pub async fn take_offline(self: &Arc<LogicalUnit>) -> Result<(), ChangeError> {
        if matches!(self.commons.occupation.state(), occupation::State::Sanitizing | occupation::State::Formatting) {
            return Err(ChangeError::State("a SANITIZE or FORMAT UNIT is under way; it cannot be interrupted"));
        }
        self.commons.set_flags(flag::OFFLINE, 0);
        self.sweep(Sweep::Medium).await;
        self.flush().await
    }

    /// Puts it online again, of which every nexus hears: NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED
    /// (28h/00h).
    pub fn bring_online(self: &Arc<LogicalUnit>) {
        if self.commons.flags() & flag::OFFLINE != 0 {
            // Not before the letters are there: a command that finds the medium also finds the unit attention.
            self.attention(Whom::Everyone, READY);
            self.commons.set_flags(0, flag::OFFLINE);
        }
    }

    /// Refuses every write with WRITE PROTECTED (27h/00h) from now on, and comes back when none is under way and
    /// all is stable; or lets them through again. The WP bit of the mode parameters says which, and every nexus
    /// hears MODE PARAMETERS CHANGED. An error where the store itself is read-only.
    pub async fn set_read_only(self: &Arc<LogicalUnit>, read_only: bool) -> Result<(), ChangeError> {
        let was = self.commons.flags() & flag::READ_ONLY != 0;
        if !read_only && self.backend().limits().read_only {
            return Err(ChangeError::Unsupported("its store is opened read-only"));
        }
        match read_only {
            true => self.commons.set_flags(flag::READ_ONLY, 0),
            false => self.commons.set_flags(0, flag::READ_ONLY),
        }
        if was != read_only {
            self.attention(Whom::Everyone, MODE_CHANGED);
        }
        if read_only {
            self.sweep(Sweep::Writes).await;
            self.flush().await?;
        }
        Ok(())
    }

    /// Switches the write cache, as MODE SELECT of WCE does, for good: it is saved where mode pages are. Off, it
    /// comes back when everything that was answered is stable, whatever was promised when it was written; writes
    /// that come meanwhile are durable. Every nexus hears MODE PARAMETERS CHANGED. Where the flush or the saving
    /// fails, all is as it was.
    pub async fn set_write_cache(self: &Arc<LogicalUnit>, on: bool) -> Result<(), ChangeError> {
        if !self.commons.values().facts().volatile_cache || self.backend().limits().write_cache == WriteCache::None {
            return Err(ChangeError::Unsupported("it has no write cache to switch"));
        }
        let _turn = self.stand_still(Extent::STATE).await;
        let mut next = self.commons.values();
        let was = next.write_cache_enabled();
        next.set_write_cache(on);
        if !on {
            self.commons.set_flags(flag::WRITE_THROUGH, 0);
        }
        let kept = async {
            if !on {
                self.sweep(Sweep::Durable).await;
                self.flush().await?;
            }
            match self.commons.store() {
                Some(store) => self.save(store, StateKind::ModePages, next.to_saved()).await,
                None => Ok(()),
            }
        };
        if let Err(error) = kept.await {
            if was {
                self.commons.set_flags(0, flag::WRITE_THROUGH);
            }
            return Err(error);
        }
        if self.commons.apply(next) {
            self.attention(Whom::Everyone, MODE_CHANGED);
        }
        Ok(())
    }

    /// Keeps everybody from the medium until the guard falls: what is under way has ended when this comes back,
    /// what comes waits. For what must not be done beside commands, like [`LogicalUnit::resize`] to less.
    pub async fn pause(self: &Arc<LogicalUnit>) -> Paused {
        Paused { _fence: self.stand_still(Extent::WHOLE).await }
    }

    /// Gives the store this many blocks, and tells every nexus: CAPACITY DATA HAS CHANGED (2Ah/09h). May take a
    /// moment. What lies behind a smaller end is gone; commands that reach there hear LOGICAL BLOCK ADDRESS OUT OF
    /// RANGE. A store that cannot (a device) is looked at again instead by [`LogicalUnit::refresh`].
    pub fn resize(self: &Arc<LogicalUnit>, blocks: u64) -> Result<(), ChangeError> {
        if self.backend().limits().read_only {
            return Err(ChangeError::Unsupported("its store is opened read-only"));
        }
        if self.backend().limits().blocks == blocks {
            return Ok(());
        }
        self.backend().resize(blocks)?;
        self.commons.broadcast(|| Letter::Limits { unit: Arc::clone(self) });
        self.attention(Whom::Everyone, CAPACITY_CHANGED);
        Ok(())
    }

    /// Changes what INQUIRY says: vendor, product, revision, serial number. Only offline, for an initiator takes a
    /// disk with another name for another disk; the UUID, by which its state is kept, must stay. Every nexus hears
    /// INQUIRY DATA HAS CHANGED (3Fh/03h).
    pub fn rename(self: &Arc<LogicalUnit>, identity: Identity) -> Result<(), ChangeError> {
        if self.commons.flags() & flag::OFFLINE == 0 {
            return Err(ChangeError::State("its names change only while it is offline"));
        }
        if identity.uuid != self.identity().uuid {
            return Err(ChangeError::State("its identity is that of its store"));
        }
        if *self.identity() != identity {
            self.set_identity(identity);
            self.attention(Whom::Everyone, INQUIRY_CHANGED);
        }
        Ok(())
    }

    /// The target has the unit no more. To be called when no map leads to it ([`crate::Lane::change_nexus`]): tasks
    /// that are left end with LOGICAL UNIT NOT SUPPORTED, its own operations too (a SANITIZE is found failed when
    /// the store is served again), and it comes back when all lanes have closed their channels and all is
    /// stable. When the last handle to it is dropped after that, the store is closed. What is kept of it
    /// (reservations with APTPL, mode pages, names) stays, by its UUID, for when it is served again.
    pub async fn retire(self: &Arc<LogicalUnit>) -> Result<(), ChangeError> {
        self.commons.set_flags(flag::OFFLINE, 0);
        self.sweep(Sweep::Medium).await;
        let flushed = self.flush().await;
        self.commons.set_flags(flag::RETIRED, 0);
        let (ticket, closed) = Ticket::awaited();
        self.commons.broadcast(|| Letter::Retire { unit: Arc::clone(self), ticket: ticket.clone() });
        drop(ticket);
        closed.await;
        flushed
    }

    /// Its reservations as they are now.
    pub fn reservations(&self) -> ReservationsView {
        let state = self.commons.reservations.snapshot();
        ReservationsView {
            generation: state.generation(),
            persists: state.persists(),
            lost: self.reservations_lost(),
            reservation: state.reservation(),
            registrations: state.registered().map(|(key, nexus, holder)| Registration { key, nexus, holder }).collect(),
            exclusive: state.exclusive().cloned(),
            preventing: self.commons.preventing(),
        }
    }

    /// Ends all reservations and registrations, persistent or of SPC-2, those that were lost too, and every
    /// prevention of the medium's removal. Every nexus that was registered or held the unit hears RESERVATIONS
    /// PREEMPTED (2Ah/03h), as by CLEAR (SPC-5 5.14.11.2.5). It is saved before it is in force.
    pub async fn clear_reservations(self: &Arc<LogicalUnit>) -> Result<(), ChangeError> {
        let _turn = self.stand_still(Extent::STATE).await;
        let reservations = &self.commons.reservations;
        let lost = reservations.is_lost();
        let next = reservations.cleared();
        if let Some(store) = reservations.to_save() {
            if lost {
                store.set_aside(self.identity().uuid, StateKind::Reservations)?;
            }
            let saved = self.save(store, StateKind::Reservations, next.to_stored()).await;
            reservations.saved(saved.is_ok());
            saved?;
        }
        for nexus in reservations.clear(next) {
            self.preempted(nexus, Attention::ReservationsPreempted);
        }
        self.commons.set_flags(0, flag::RESERVATIONS_LOST);
        self.commons.allow_removal();
        Ok(())
    }

    /// Takes the registration of one nexus, and with it the reservation where that was its own: it hears
    /// REGISTRATIONS PREEMPTED (2Ah/05h), and where a reservation has ended the other registrants hear RESERVATIONS
    /// RELEASED (2Ah/04h), as SPC-5 5.14.11.3 has it of an unregistration. False where it had none.
    pub async fn unregister(self: &Arc<LogicalUnit>, nexus: &Nexus) -> Result<bool, ChangeError> {
        let _turn = self.stand_still(Extent::STATE).await;
        let reservations = &self.commons.reservations;
        let Some((next, attentions)) = reservations.without(nexus) else { return Ok(false) };
        if let Some(store) = reservations.to_save() {
            let saved = self.save(store, StateKind::Reservations, next.to_stored()).await;
            reservations.saved(saved.is_ok());
            saved?;
        }
        reservations.replace(next);
        attentions.into_iter().for_each(|(nexus, attention)| self.preempted(nexus, attention));
        self.preempted(nexus.clone(), Attention::RegistrationsPreempted);
        Ok(true)
    }

    fn preempted(self: &Arc<LogicalUnit>, nexus: Nexus, attention: Attention) {
        let (code, qualifier) = attention.code();
        self.attention(Whom::Port(nexus), Condition::new(SenseKey::UnitAttention, code, qualifier));
    }

    /// Makes stable what was written by anybody.
    pub async fn flush(self: &Arc<LogicalUnit>) -> Result<(), ChangeError> {
        if self.backend().limits().read_only {
            return Ok(());
        }
        let flushed = Arc::new(Mutex::new(None));
        let (ticket, done) = Ticket::awaited();
        let letter = || Letter::Flush { unit: Arc::clone(self), flushed: Arc::clone(&flushed), ticket };
        if !self.commons.post_to_one(letter) {
            return self.flush_inherited().await;
        }
        done.await;
        let result = flushed.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.unwrap_or(Err(Condition::INTERNAL_TARGET_FAILURE)).map_err(ChangeError::NotFlushed)
    }

    /// Nobody has used it since the process began; but the one before may have written.
    async fn flush_inherited(&self) -> Result<(), ChangeError> {
        let outcome = Arc::new(Mutex::new(None));
        let (ticket, done) = Ticket::awaited();
        let told = Arc::clone(&outcome);
        self.backend().flush_inherited(Box::new(move |result| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            drop(ticket);
        }));
        done.await;
        let result = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let block_length = self.limits().block_length;
        let condition = |error| ChangeError::NotFlushed(condition_of(&error, true, block_length));
        result.unwrap_or_else(|| Err(block::Error::new(block::ErrorKind::Aborted))).map_err(condition)
    }

    async fn sweep(self: &Arc<LogicalUnit>, sweep: Sweep) {
        let (ticket, done) = Ticket::awaited();
        self.commons.broadcast(|| Letter::Sweep { unit: Arc::clone(self), sweep, ticket: ticket.clone() });
        drop(ticket);
        done.await;
    }

    /// A fence of nobody's task.
    async fn stand_still(self: &Arc<LogicalUnit>, extent: Extent) -> Raised {
        let number = self.commons.fence_number();
        let raised = Raised::new(self, number);
        let fence = Fence { number, extent, lane: 0, owner: TaskTag(u64::MAX) };
        let (turn, its_turn) = Ticket::awaited();
        self.commons.queue_fence(fence, turn);
        its_turn.await;
        let (ticket, alone) = Ticket::awaited();
        self.commons.broadcast(|| Letter::Raise { unit: Arc::clone(self), fence, ticket: ticket.clone() });
        drop(ticket);
        alone.await;
        raised
    }

    async fn save(&self, store: Arc<dyn StateStore>, kind: StateKind, bytes: Vec<u8>) -> Result<(), ChangeError> {
        let outcome = Arc::new(Mutex::new(None));
        let (ticket, done) = Ticket::awaited();
        let told = Arc::clone(&outcome);
        let tell = move |result| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            drop(ticket);
        };
        store.save_later(self.identity().uuid, kind, bytes, Box::new(tell));
        done.await;
        let result = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.unwrap_or_else(|| Err(StateError::Failed("nobody saves any more".to_owned()))).map_err(Into::into)
    }
}
