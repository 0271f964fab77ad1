//! Persistent reservations as bytes that survive loss of power (SPC-5 5.14.5, APTPL).
//!
//! ```text
//! "LunettPR"  version u16  flags u8  type u8  PRGENERATION u32  holder u32  count u32
//! count × ( key u64  relative port u16  length u16  TransportID )
//! FNV-1a of all before, u64                                   (all big-endian)
//! ```
//! `type` is 0 where nothing is reserved; `holder` is the number of a registration, or FFFFFFFFh
//! where all registrants hold. Damage is found by the checksum, and then nothing is believed.

use super::{Held, MAXIMUM_REGISTRATIONS, Nexus, Registration, Reservations};
use scsi::{persistent::ReservationType, transport_id::TransportId};

/// Why stored bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// These are no stored reservations.
    #[error("not a file of stored reservations")]
    Foreign,
    /// A later program wrote them.
    #[error("stored reservations of version {0}; this program knows version {VERSION}")]
    Version(u16),
    /// Bytes are missing or differ from what was written.
    #[error("stored reservations are damaged")]
    Damaged,
}

impl Reservations {
    /// The state as bytes. Without APTPL there is nothing to remember: an empty state.
    pub fn to_stored(&self) -> Vec<u8> {
        if self.persists { self.written() } else { Reservations::default().written() }
    }

    /// All of it for a process that goes on with it, and who holds the unit by RESERVE of SPC-2.
    pub(crate) fn at_rest(&self) -> (Vec<u8>, Option<Nexus>) {
        (self.written(), self.exclusive.clone())
    }

    /// The inverse of [`Reservations::at_rest`].
    pub(crate) fn revive(bytes: &[u8], exclusive: Option<Nexus>) -> Result<Reservations, StoredError> {
        Ok(Reservations { exclusive, ..Reservations::from_stored(bytes)? })
    }

    fn written(&self) -> Vec<u8> {
        let state = self;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.push(u8::from(state.persists));
        out.push(state.held.as_ref().map_or(0, |held| held.kind as u8));
        out.extend_from_slice(&state.generation.to_be_bytes());
        let holder = state.held.as_ref().and_then(|held| held.holder.as_ref());
        let holder = holder.and_then(|holder| state.registrations.iter().position(|one| one.nexus == *holder));
        out.extend_from_slice(&holder.map_or(NOBODY, number).to_be_bytes());
        out.extend_from_slice(&number(state.registrations.len()).to_be_bytes());
        for one in &state.registrations {
            out.extend_from_slice(&one.key.to_be_bytes());
            out.extend_from_slice(&one.nexus.relative_port.to_be_bytes());
            out.extend_from_slice(&u16::try_from(one.nexus.initiator.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(&one.nexus.initiator);
        }
        let sum = fnv_1a(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// The state of stored bytes, whole or not at all.
    pub fn from_stored(bytes: &[u8]) -> Result<Reservations, StoredError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(StoredError::Foreign)?;
        let version = u16::from_be_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(StoredError::Version(version));
        }
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or(StoredError::Damaged)?;
        if fnv_1a(body) != u64::from_be_bytes(*sum) {
            return Err(StoredError::Damaged);
        }
        let [flags, kind] = take(&mut rest)?;
        let generation = u32::from_be_bytes(take(&mut rest)?);
        let holder = u32::from_be_bytes(take(&mut rest)?);
        let count = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).map_err(|_| StoredError::Damaged)?;
        if count > MAXIMUM_REGISTRATIONS {
            return Err(StoredError::Damaged);
        }
        let mut state = Reservations { generation, persists: flags & 1 != 0, ..Reservations::default() };
        for _ in 0..count {
            let key = u64::from_be_bytes(take(&mut rest)?);
            let relative_port = u16::from_be_bytes(take(&mut rest)?);
            let length = usize::from(u16::from_be_bytes(take(&mut rest)?));
            let (initiator, after) = rest.split_at_checked(length).ok_or(StoredError::Damaged)?;
            rest = after;
            let nexus = Nexus { initiator: initiator.into(), relative_port };
            let readable = TransportId::parse(initiator).is_ok_and(|(_, used)| used == length);
            if key == 0 || !readable || state.key(&nexus).is_some() {
                return Err(StoredError::Damaged);
            }
            state.registrations.push(Registration { nexus, key });
        }
        if rest.len() != 8 {
            return Err(StoredError::Damaged);
        }
        if kind != 0 {
            let kind = ReservationType::from_code(kind).ok_or(StoredError::Damaged)?;
            let holder = usize::try_from(holder).ok().and_then(|holder| state.registrations.get(holder));
            let holder = holder.map(|one| one.nexus.clone());
            if kind.is_all_registrants() == holder.is_some() || state.registrations.is_empty() {
                return Err(StoredError::Damaged);
            }
            state.held = Some(Held { kind, holder });
        }
        Ok(state)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StoredError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(StoredError::Damaged)?;
    *rest = tail;
    Ok(*head)
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NOBODY)
}

/// FNV-1a, 64 bits: finds every single changed byte, which is all that a torn or rotten file needs.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

const MAGIC: &[u8] = b"LunettPR";
const VERSION: u16 = 1;
const NOBODY: u32 = u32::MAX;
