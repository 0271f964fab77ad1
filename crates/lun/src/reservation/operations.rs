//! The service actions of PERSISTENT RESERVE OUT (SPC-5 5.14.5 to 5.14.11, 6.17).

use super::{Attention, Effects, Held, MAXIMUM_REGISTRATIONS, Nexus, Refusal, Registration, Reservations};
use scsi::{
    persistent::{MoveList, OutAction, OutList, ReservationType},
    transport_id::TransportId,
};
use std::sync::Arc;

/// What an operation must know beyond the reservations: the ports of the target, and who is there.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Relative identifiers of all target ports of the device, for ALL_TG_PT and REGISTER AND MOVE.
    pub ports: &'a [u16],
    /// TransportIDs of the initiator ports with a session, which a TransportID of a whole device stands for.
    pub initiators: &'a [Arc<[u8]>],
}

impl Reservations {
    /// Every action but REGISTER AND MOVE. `scope_type` is byte 2 of the CDB.
    pub fn apply(
        &mut self,
        nexus: &Nexus,
        action: OutAction,
        scope_type: u8,
        list: &OutList,
        surroundings: Surroundings<'_>,
    ) -> Result<Effects, Refusal> {
        if self.exclusive.is_some() {
            return Err(Refusal::Conflict);
        }
        if list.initiators.is_some() && action != OutAction::Register {
            return Err(Refusal::InvalidListField(20));
        }
        match action {
            OutAction::Register => {
                if self.key(nexus).unwrap_or(0) != list.key {
                    return Err(Refusal::Conflict);
                }
                self.register(nexus, list, surroundings, Existing::MustMatch)
            }
            OutAction::RegisterAndIgnoreExistingKey => self.register(nexus, list, surroundings, Existing::Ignored),
            OutAction::RegisterAndMove | OutAction::ReplaceLostReservation => Err(Refusal::InvalidCdbField(1)),
            OutAction::Reserve => {
                self.check_key(nexus, list.key)?;
                self.reserve(nexus, parse_type(scope_type)?)
            }
            OutAction::Release => {
                self.check_key(nexus, list.key)?;
                self.release(nexus, scope_type)
            }
            OutAction::Clear => {
                self.check_key(nexus, list.key)?;
                Ok(self.clear(nexus))
            }
            OutAction::Preempt => {
                self.check_key(nexus, list.key)?;
                let mut effects = self.preempt(nexus, list.action_key, scope_type)?;
                effects.abort.clear();
                Ok(effects)
            }
            OutAction::PreemptAndAbort => {
                self.check_key(nexus, list.key)?;
                self.preempt(nexus, list.action_key, scope_type)
            }
        }
    }

    /// REPLACE LOST RESERVATION, on a state in which there is nothing: a registration of this nexus alone and a
    /// reservation in one, with which PRGENERATION begins anew.
    pub(super) fn replace_lost(
        &mut self,
        nexus: &Nexus,
        scope_type: u8,
        list: &OutList,
        surroundings: Surroundings<'_>,
    ) -> Result<Effects, Refusal> {
        if list.initiators.is_some() {
            return Err(Refusal::InvalidListField(20));
        }
        if list.key != 0 {
            return Err(Refusal::InvalidListField(0));
        }
        if list.action_key == 0 {
            return Err(Refusal::InvalidListField(8));
        }
        let kind = parse_type(scope_type)?;
        let alone = OutList { all_target_ports: false, ..list.clone() };
        self.register(nexus, &alone, surroundings, Existing::Ignored)?;
        let effects = self.reserve(nexus, kind)?;
        self.generation = 0;
        Ok(effects)
    }

    /// REGISTER AND MOVE (SPC-5 5.14.8): the reservation goes to another nexus, which is registered for it.
    pub fn register_and_move(
        &mut self,
        nexus: &Nexus,
        list: &MoveList,
        surroundings: Surroundings<'_>,
    ) -> Result<Effects, Refusal> {
        if self.exclusive.is_some() {
            return Err(Refusal::Conflict);
        }
        self.check_key(nexus, list.key)?;
        let kind = match &self.held {
            Some(Held { kind, holder: Some(holder) }) if holder == nexus => *kind,
            // Nothing to move, not ours to move, or everybody's.
            _ => return Err(Refusal::Conflict),
        };
        if list.action_key == 0 {
            return Err(Refusal::InvalidListField(8));
        }
        if !surroundings.ports.contains(&list.relative_port) {
            return Err(Refusal::InvalidListField(18));
        }
        let TransportId::Port { .. } = list.initiator else {
            return Err(Refusal::InvalidListField(24));
        };
        let destination = Nexus { initiator: list.initiator.encode().into(), relative_port: list.relative_port };
        if destination == *nexus {
            return Err(Refusal::InvalidListField(24));
        }
        let leaving = usize::from(list.unregister);
        if self.key(&destination).is_none() && self.registrations.len() - leaving >= MAXIMUM_REGISTRATIONS {
            return Err(Refusal::InsufficientResources);
        }
        if list.unregister {
            self.registrations.retain(|one| one.nexus != *nexus);
        }
        self.set_key(&destination, list.action_key);
        self.held = Some(Held { kind, holder: Some(destination) });
        self.advance();
        Ok(Effects { persist: self.set_persists(list.persist), ..Effects::default() })
    }

    fn register(
        &mut self,
        nexus: &Nexus,
        list: &OutList,
        surroundings: Surroundings<'_>,
        existing: Existing,
    ) -> Result<Effects, Refusal> {
        let registered = self.key(nexus).is_some();
        if list.initiators.is_some() && (registered || list.action_key == 0) {
            return Err(Refusal::InvalidListField(20));
        }
        let affected = self.affected(nexus, list, surroundings)?;
        // All or nothing: each is processed as if it had sent the command itself.
        if existing == Existing::MustMatch && affected.iter().any(|one| self.key(one).unwrap_or(0) != list.key) {
            return Err(Refusal::Conflict);
        }
        let mut effects = Effects::default();
        if list.action_key == 0 && affected.iter().all(|one| self.key(one).is_none()) {
            // Nobody to unregister: GOOD, and nothing happened (SPC-5 5.14.7.1).
            return Ok(effects);
        }
        if list.action_key == 0 {
            for one in &affected {
                self.unregister(one, &mut effects);
            }
            // Those that leave with this command learn nothing from it.
            effects.attentions.retain(|(one, _)| !affected.contains(one));
        } else {
            let new = affected.iter().filter(|one| self.key(one).is_none()).count();
            if self.registrations.len() + new > MAXIMUM_REGISTRATIONS {
                return Err(Refusal::InsufficientResources);
            }
            for one in &affected {
                self.set_key(one, list.action_key);
            }
        }
        self.advance();
        effects.persist = self.set_persists(list.persist);
        Ok(effects)
    }

    /// The nexuses of a REGISTER: the sender's, those of SPEC_I_PT, and with ALL_TG_PT all of them at
    /// every port. Each once.
    fn affected(&self, nexus: &Nexus, list: &OutList, surroundings: Surroundings<'_>) -> Result<Vec<Nexus>, Refusal> {
        let mut initiators = vec![Arc::clone(&nexus.initiator)];
        for id in list.initiators.iter().flatten() {
            match id {
                TransportId::Port { .. } => initiators.push(id.encode().into()),
                TransportId::Device { name } => {
                    let known = surroundings
                        .initiators
                        .iter()
                        .filter(|port| TransportId::parse(port).is_ok_and(|(port, _)| port.name() == name));
                    let before = initiators.len();
                    initiators.extend(known.cloned());
                    if initiators.len() == before {
                        return Err(Refusal::InvalidListField(28));
                    }
                }
            }
            if initiators.len() > MAXIMUM_REGISTRATIONS {
                return Err(Refusal::InsufficientResources);
            }
        }
        initiators.sort();
        initiators.dedup();
        let own = [nexus.relative_port];
        let ports = if list.all_target_ports { surroundings.ports } else { &own };
        if initiators.len().saturating_mul(ports.len()) > MAXIMUM_REGISTRATIONS {
            return Err(Refusal::InsufficientResources);
        }
        let mut all: Vec<Nexus> = initiators
            .iter()
            .flat_map(|initiator| {
                ports.iter().map(|&relative_port| Nexus { initiator: Arc::clone(initiator), relative_port })
            })
            .collect();
        if !all.contains(nexus) {
            all.push(nexus.clone());
        }
        Ok(all)
    }

    fn reserve(&mut self, nexus: &Nexus, kind: ReservationType) -> Result<Effects, Refusal> {
        match &self.held {
            Some(held) if self.holds(nexus) && held.kind == kind => return Ok(Effects::default()),
            Some(_) => return Err(Refusal::Conflict),
            None => self.hold(nexus, kind),
        }
        Ok(Effects { persist: self.persists, ..Effects::default() })
    }

    fn release(&mut self, nexus: &Nexus, scope_type: u8) -> Result<Effects, Refusal> {
        let Some(held) = self.held.as_ref().filter(|_| self.holds(nexus)) else {
            return Ok(Effects::default());
        };
        if held.kind as u8 != scope_type {
            return Err(Refusal::InvalidRelease);
        }
        let mut effects = Effects { persist: self.persists, ..Effects::default() };
        if held.kind.admits_registrants() {
            self.tell_others(nexus, Attention::ReservationsReleased, &mut effects);
        }
        self.held = None;
        Ok(effects)
    }

    fn clear(&mut self, nexus: &Nexus) -> Effects {
        let mut effects = Effects { persist: self.persists, ..Effects::default() };
        self.tell_others(nexus, Attention::ReservationsPreempted, &mut effects);
        self.registrations.clear();
        self.held = None;
        self.advance();
        effects
    }

    /// What is left when somebody who is no nexus ends everything, for good.
    pub(super) fn cleared(&self) -> Reservations {
        Reservations { generation: self.generation.wrapping_add(1), ..Reservations::default() }
    }

    /// Somebody who is no nexus ends one registration. Tells what others hear of it; `None` where there is none.
    pub(super) fn unregister_for(&mut self, nexus: &Nexus) -> Option<Vec<(Nexus, Attention)>> {
        self.key(nexus)?;
        let mut effects = Effects::default();
        self.unregister(nexus, &mut effects);
        self.advance();
        Some(effects.attentions)
    }

    /// SPC-5 5.14.11.4. The effects list the losers for PREEMPT AND ABORT.
    fn preempt(&mut self, nexus: &Nexus, victim: u64, scope_type: u8) -> Result<Effects, Refusal> {
        let old = self.held.as_ref().map(|held| (held.kind, held.holder.as_ref().and_then(|one| self.key(one))));
        let takes_over = match old {
            None => false,
            Some((_, None)) => victim == 0,
            Some((_, Some(key))) => victim == key,
        };
        if victim == 0 && !takes_over {
            return Err(Refusal::InvalidListField(8));
        }
        let mut effects = Effects { persist: self.persists, ..Effects::default() };
        if let (true, Some((old_kind, _))) = (takes_over, old) {
            let kind = parse_type(scope_type)?;
            self.remove(|one| one.nexus != *nexus && (victim == 0 || one.key == victim), nexus, &mut effects);
            if kind != old_kind {
                self.tell_others(nexus, Attention::ReservationsReleased, &mut effects);
            }
            self.hold(nexus, kind);
        } else {
            if !self.registrations.iter().any(|one| one.key == victim) {
                return Err(Refusal::Conflict);
            }
            self.remove(|one| one.key == victim, nexus, &mut effects);
            if self.registrations.is_empty() {
                self.held = None;
            }
        }
        self.advance();
        Ok(effects)
    }

    /// Removes registrations that were preempted; all but the sender hear of it and lose their tasks.
    fn remove(&mut self, is_victim: impl Fn(&Registration) -> bool, sender: &Nexus, effects: &mut Effects) {
        let gone = self.registrations.extract_if(.., |one| is_victim(one));
        for one in gone.filter(|one| one.nexus != *sender) {
            effects.attentions.push((one.nexus.clone(), Attention::RegistrationsPreempted));
            effects.abort.push(one.nexus);
        }
    }

    /// Ends one registration; a reservation that nobody holds any more ends with it (SPC-5 5.14.11.2).
    fn unregister(&mut self, nexus: &Nexus, effects: &mut Effects) {
        self.registrations.retain(|one| one.nexus != *nexus);
        match &self.held {
            Some(Held { kind, holder: Some(holder) }) if holder == nexus => {
                if kind.admits_registrants() {
                    self.tell_others(nexus, Attention::ReservationsReleased, effects);
                }
                self.held = None;
            }
            Some(Held { holder: None, .. }) if self.registrations.is_empty() => self.held = None,
            _ => {}
        }
    }

    fn hold(&mut self, nexus: &Nexus, kind: ReservationType) {
        self.held = Some(Held { kind, holder: (!kind.is_all_registrants()).then(|| nexus.clone()) });
    }

    fn set_key(&mut self, nexus: &Nexus, key: u64) {
        match self.registrations.iter_mut().find(|one| one.nexus == *nexus) {
            Some(one) => one.key = key,
            None => self.registrations.push(Registration { nexus: nexus.clone(), key }),
        }
    }

    fn check_key(&self, nexus: &Nexus, key: u64) -> Result<(), Refusal> {
        if self.key(nexus) == Some(key) { Ok(()) } else { Err(Refusal::Conflict) }
    }

    fn tell_others(&self, sender: &Nexus, attention: Attention, effects: &mut Effects) {
        let others = self.registrations.iter().filter(|one| one.nexus != *sender);
        effects.attentions.extend(others.map(|one| (one.nexus.clone(), attention)));
    }

    /// PRGENERATION wraps (SPC-5 6.16.2).
    fn advance(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether the state must be written: it persists now, or a stored one must cease to be true.
    fn set_persists(&mut self, persists: bool) -> bool {
        std::mem::replace(&mut self.persists, persists) || persists
    }
}

/// Whether the key that is already registered must have been given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    MustMatch,
    Ignored,
}

fn parse_type(scope_type: u8) -> Result<ReservationType, Refusal> {
    // A scope other than LU_SCOPE makes the byte larger than any type.
    ReservationType::from_code(scope_type).ok_or(Refusal::InvalidCdbField(2))
}
