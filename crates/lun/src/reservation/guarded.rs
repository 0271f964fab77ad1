//! Reservations as the lanes share them: behind a lock, with a number that tells when permissions
//! may have changed, written down before anybody hears of a change.

use super::{Class, Effects, Nexus, Refusal, Reservations, StoredError, Surroundings};
use crate::state::{StateError, StateKind, StateStore};
use scsi::persistent::{
    InAction, ListError, MoveList, OutAction, OutList, encode_capabilities, encode_full_status, encode_keys,
    encode_reservation,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// A PERSISTENT RESERVE OUT command (SPC-5 6.17).
#[derive(Debug, Clone, Copy)]
pub struct OutRequest<'a> {
    /// Byte 1 of the CDB, whose low five bits are the SERVICE ACTION.
    pub service_action: u8,
    /// Byte 2 of the CDB, SCOPE and TYPE.
    pub scope_type: u8,
    /// All of the parameter list, as long as PARAMETER LIST LENGTH says.
    pub list: &'a [u8],
}

/// A change that is not in force yet.
pub struct Prepared {
    next: Reservations,
    effects: Effects,
    /// What is to be saved first.
    pub(crate) bytes: Option<Vec<u8>>,
    replaces: bool,
}

/// The reservations of one unit, shared by all lanes.
pub struct Guarded {
    state: Mutex<Reservations>,
    epoch: AtomicU64,
    /// What was stored is damaged: nobody knows who may do what.
    lost: AtomicBool,
    /// A save has failed, perhaps after it had taken its place: what is stored is not what is in force.
    unsure: AtomicBool,
    unit: [u8; 16],
    store: Option<Arc<dyn StateStore>>,
}

impl Guarded {
    /// Reservations of this unit, restored from what was stored. Where that is damaged they are lost, and
    /// the unit must serve nobody as if there had been none ([`Guarded::is_lost`]).
    pub fn open(unit: [u8; 16], store: Option<Arc<dyn StateStore>>) -> Result<Guarded, StateError> {
        let stored = match &store {
            Some(store) => store.load(unit, StateKind::Reservations),
            None => Ok(None),
        };
        let restored = match stored {
            Ok(Some(bytes)) => match Reservations::from_stored(&bytes) {
                Ok(state) => Some(state.powered_on()),
                // A later program's state is whole; it is not ours to replace.
                Err(error @ StoredError::Version(_)) => return Err(StateError::Failed(error.to_string())),
                Err(_) => None,
            },
            Ok(None) => Some(Reservations::default()),
            Err(StateError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        let lost = AtomicBool::new(restored.is_none());
        let state = Mutex::new(restored.unwrap_or_default());
        Ok(Guarded { state, epoch: AtomicU64::new(0), lost, unsure: AtomicBool::new(false), unit, store })
    }

    /// Whether the reservations are lost: until REPLACE LOST RESERVATION the unit answers next to nothing.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Reservations of this unit that end with the process.
    pub fn volatile(unit: [u8; 16]) -> Guarded {
        Guarded {
            state: Mutex::default(),
            epoch: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
            unit,
            store: None,
        }
    }

    /// Changes whenever an answer of [`Guarded::permits`] may have changed. A lane that remembers answers
    /// compares this first; it is one atomic load.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a command of this class may run for this nexus.
    pub fn permits(&self, nexus: &Nexus, class: Class) -> bool {
        self.lock().permits(nexus, class)
    }

    /// The state as it is now.
    pub fn snapshot(&self) -> Reservations {
        self.lock().clone()
    }

    /// PERSISTENT RESERVE IN: the whole answer, which the caller cuts at the allocation length. Byte 1 of
    /// the CDB carries the service action.
    pub fn read(&self, service_action: u8, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let action = InAction::from_code(service_action & 0x1F).ok_or(Refusal::InvalidCdbField(1))?;
        let state = self.lock();
        match action {
            InAction::ReadKeys => encode_keys(state.generation(), state.keys(), out),
            InAction::ReadReservation => encode_reservation(state.generation(), state.reservation(), out),
            InAction::ReportCapabilities => encode_capabilities(self.store.is_some(), state.persists(), out),
            InAction::ReadFullStatus => encode_full_status(state.generation(), state.full_status(), out),
        }
        Ok(())
    }

    /// PERSISTENT RESERVE OUT, begun: what it comes to, and what is to be saved before it is in force. Changes
    /// are one after the other: nothing else is prepared before this was committed or dropped.
    pub fn prepare(
        &self,
        nexus: &Nexus,
        request: OutRequest<'_>,
        surroundings: Surroundings<'_>,
    ) -> Result<Prepared, Refusal> {
        let action = OutAction::from_code(request.service_action & 0x1F).ok_or(Refusal::InvalidCdbField(1))?;
        if action == OutAction::ReplaceLostReservation {
            return self.prepare_replacement(nexus, request, surroundings);
        }
        let mut next = self.lock().clone();
        let (effects, persist) = if action == OutAction::RegisterAndMove {
            let list = MoveList::parse(request.list).map_err(refusal)?;
            (next.register_and_move(nexus, &list, surroundings)?, list.persist)
        } else {
            let list = OutList::parse(request.list).map_err(refusal)?;
            let registers = matches!(action, OutAction::Register | OutAction::RegisterAndIgnoreExistingKey);
            (next.apply(nexus, action, request.scope_type, &list, surroundings)?, registers && list.persist)
        };
        if persist && self.store.is_none() {
            // PTPL_C is 0: what cannot be kept is not promised (SPC-5 6.17.3).
            return Err(Refusal::InvalidListField(if action == OutAction::RegisterAndMove { 17 } else { 20 }));
        }
        let save = effects.persist || self.unsure.load(Ordering::Acquire);
        let bytes = (save && self.store.is_some()).then(|| next.to_stored());
        Ok(Prepared { next, effects, bytes, replaces: false })
    }

    /// REPLACE LOST RESERVATION (SPC-5 5.14.12): in place of what nobody knows any more comes this nexus with
    /// this key and this reservation. A copy of what was damaged is kept.
    fn prepare_replacement(
        &self,
        nexus: &Nexus,
        request: OutRequest<'_>,
        surroundings: Surroundings<'_>,
    ) -> Result<Prepared, Refusal> {
        if !self.is_lost() {
            return Err(Refusal::InvalidRelease);
        }
        let list = OutList::parse(request.list).map_err(refusal)?;
        let mut next = Reservations::default();
        let effects = next.replace_lost(nexus, request.scope_type, &list, surroundings)?;
        if let Some(store) = &self.store {
            store.set_aside(self.unit, StateKind::Reservations).map_err(|_| Refusal::NotSaved)?;
        }
        let bytes = self.store.is_some().then(|| next.to_stored());
        Ok(Prepared { next, effects, bytes, replaces: true })
    }

    /// What is prepared, and saved where it had to be, is in force. GOOD may be answered once the tasks of
    /// [`Effects::abort`] have ended.
    pub fn commit(&self, prepared: Prepared) -> Effects {
        let Prepared { mut next, effects, replaces, .. } = prepared;
        let mut state = self.lock();
        // RESERVE (6, 10) and lost nexuses may have come between.
        next.exclusive = state.exclusive.take();
        *state = next;
        if replaces {
            self.lost.store(false, Ordering::Release);
        }
        self.epoch.fetch_add(1, Ordering::Release);
        effects
    }

    /// What is left when an administrator clears everything: nothing but the generation, which counts it.
    pub(crate) fn cleared(&self) -> Reservations {
        self.lock().cleared()
    }

    /// Nothing is reserved or registered any more, by no kind of command; tells who was.
    pub(crate) fn clear(&self, next: Reservations) -> Vec<Nexus> {
        let mut state = self.lock();
        let mut told: Vec<Nexus> = state.registered().map(|(_, nexus, _)| nexus).collect();
        if let Some(holder) = state.exclusive.take().filter(|holder| !told.contains(holder)) {
            told.push(holder);
        }
        *state = next;
        self.lost.store(false, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::Release);
        told
    }

    /// Where a change by nobody's command is to be saved; `None` where what is saved stays true.
    pub(crate) fn to_save(&self) -> Option<Arc<dyn StateStore>> {
        let stored = self.lock().persists() || self.is_lost() || self.unsure.load(Ordering::Acquire);
        self.store.clone().filter(|_| stored)
    }

    /// What is left without the registration of this nexus, and who is told of a reservation that ended with it;
    /// `None` where it has none.
    pub(crate) fn without(&self, nexus: &Nexus) -> Option<(Reservations, Vec<(Nexus, super::Attention)>)> {
        let mut next = self.lock().clone();
        let attentions = next.unregister_for(nexus)?;
        Some((next, attentions))
    }

    /// This is in force now. Changes are one after the other; RESERVE (6, 10) is none of them.
    pub(crate) fn replace(&self, mut next: Reservations) {
        let mut state = self.lock();
        next.exclusive = state.exclusive.take();
        *state = next;
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// What was prepared is saved, or perhaps not.
    pub(crate) fn saved(&self, whole: bool) {
        self.unsure.store(!whole, Ordering::Release);
    }

    /// Where changes are saved.
    pub(crate) fn store(&self) -> Option<Arc<dyn StateStore>> {
        self.store.clone()
    }

    /// PERSISTENT RESERVE OUT from its beginning to its end. Blocks while it saves.
    pub fn write(
        &self,
        nexus: &Nexus,
        request: OutRequest<'_>,
        surroundings: Surroundings<'_>,
    ) -> Result<Effects, Refusal> {
        let prepared = self.prepare(nexus, request, surroundings)?;
        if let (Some(bytes), Some(store)) = (&prepared.bytes, &self.store) {
            let saved = store.save(self.unit, StateKind::Reservations, bytes);
            self.saved(saved.is_ok());
            saved.map_err(|_| Refusal::NotSaved)?;
        }
        Ok(self.commit(prepared))
    }

    /// RESERVE (6) and (10).
    pub fn reserve_exclusive(&self, nexus: &Nexus) -> Result<(), Refusal> {
        self.change(|state| state.reserve_exclusive(nexus))
    }

    /// RELEASE (6) and (10).
    pub fn release_exclusive(&self, nexus: &Nexus) -> Result<(), Refusal> {
        self.change(|state| state.release_exclusive(nexus))
    }

    /// The nexus is lost (SPC-5 5.14.1): what only lived with it ends.
    pub fn nexus_lost(&self, nexus: &Nexus) {
        self.change_if(|state| state.nexus_lost(nexus));
    }

    /// LOGICAL UNIT RESET or power on.
    pub fn reset(&self) {
        self.change_if(Reservations::reset);
    }

    /// Lanes ask anew only where something has changed.
    /// The unit goes on with these.
    pub(crate) fn revive(&self, reservations: Reservations) {
        self.change(|state| *state = reservations);
    }

    fn change_if(&self, change: impl FnOnce(&mut Reservations) -> bool) {
        if change(&mut self.lock()) {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Reservations) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.epoch.fetch_add(1, Ordering::Release);
        result
    }

    /// The state is replaced whole, so that a panic elsewhere under the lock leaves no half of one.
    fn lock(&self) -> MutexGuard<'_, Reservations> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(error: ListError) -> Refusal {
    match error {
        ListError::Length => Refusal::ListLength,
        ListError::Field(byte) => Refusal::InvalidListField(byte),
    }
}
