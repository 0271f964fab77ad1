//! Parameter data of PERSISTENT RESERVE IN and OUT (SPC-5 6.16, 6.17): layouts only. What the
//! service actions mean is the device server's matter.

use crate::{field, transport_id::TransportId};

/// Service actions of PERSISTENT RESERVE OUT (SPC-5 6.17.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OutAction {
    /// REGISTER.
    Register = 0x00,
    /// RESERVE.
    Reserve = 0x01,
    /// RELEASE.
    Release = 0x02,
    /// CLEAR.
    Clear = 0x03,
    /// PREEMPT.
    Preempt = 0x04,
    /// PREEMPT AND ABORT.
    PreemptAndAbort = 0x05,
    /// REGISTER AND IGNORE EXISTING KEY.
    RegisterAndIgnoreExistingKey = 0x06,
    /// REGISTER AND MOVE.
    RegisterAndMove = 0x07,
    /// REPLACE LOST RESERVATION.
    ReplaceLostReservation = 0x08,
}

impl OutAction {
    /// The action of a SERVICE ACTION field; `None` for a reserved one.
    pub fn from_code(code: u8) -> Option<OutAction> {
        Some(match code {
            0x00 => OutAction::Register,
            0x01 => OutAction::Reserve,
            0x02 => OutAction::Release,
            0x03 => OutAction::Clear,
            0x04 => OutAction::Preempt,
            0x05 => OutAction::PreemptAndAbort,
            0x06 => OutAction::RegisterAndIgnoreExistingKey,
            0x07 => OutAction::RegisterAndMove,
            0x08 => OutAction::ReplaceLostReservation,
            _ => return None,
        })
    }
}

/// Service actions of PERSISTENT RESERVE IN (SPC-5 6.16.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum InAction {
    /// READ KEYS.
    ReadKeys = 0x00,
    /// READ RESERVATION.
    ReadReservation = 0x01,
    /// REPORT CAPABILITIES.
    ReportCapabilities = 0x02,
    /// READ FULL STATUS.
    ReadFullStatus = 0x03,
}

impl InAction {
    /// The action of a SERVICE ACTION field; `None` for a reserved one.
    pub fn from_code(code: u8) -> Option<InAction> {
        Some(match code {
            0x00 => InAction::ReadKeys,
            0x01 => InAction::ReadReservation,
            0x02 => InAction::ReportCapabilities,
            0x03 => InAction::ReadFullStatus,
            _ => return None,
        })
    }
}

/// The types of a persistent reservation (SPC-5 6.16.3.4). The scope is always LU_SCOPE, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Only the holder writes.
    WriteExclusive = 1,
    /// Only the holder reads and writes.
    ExclusiveAccess = 3,
    /// Only registrants write.
    WriteExclusiveRegistrantsOnly = 5,
    /// Only registrants read and write.
    ExclusiveAccessRegistrantsOnly = 6,
    /// Only registrants write; each of them is a holder.
    WriteExclusiveAllRegistrants = 7,
    /// Only registrants read and write; each of them is a holder.
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// All six, ascending.
    pub const ALL: [ReservationType; 6] = [
        ReservationType::WriteExclusive,
        ReservationType::ExclusiveAccess,
        ReservationType::WriteExclusiveRegistrantsOnly,
        ReservationType::ExclusiveAccessRegistrantsOnly,
        ReservationType::WriteExclusiveAllRegistrants,
        ReservationType::ExclusiveAccessAllRegistrants,
    ];

    /// The type of a TYPE field; `None` for a reserved one.
    pub fn from_code(code: u8) -> Option<ReservationType> {
        ReservationType::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Its name for people, as the words of the command line are too.
    pub fn name(self) -> &'static str {
        match self {
            ReservationType::WriteExclusive => "write-exclusive",
            ReservationType::ExclusiveAccess => "exclusive-access",
            ReservationType::WriteExclusiveRegistrantsOnly => "write-exclusive-registrants-only",
            ReservationType::ExclusiveAccessRegistrantsOnly => "exclusive-access-registrants-only",
            ReservationType::WriteExclusiveAllRegistrants => "write-exclusive-all-registrants",
            ReservationType::ExclusiveAccessAllRegistrants => "exclusive-access-all-registrants",
        }
    }

    /// The type of this name, of the initials in it (`we`, `eaar`), or of its code.
    pub fn from_name(name: &str) -> Option<ReservationType> {
        let initials = |kind: &ReservationType| -> String {
            kind.name().split('-').filter_map(|word| word.chars().next()).collect()
        };
        let same =
            |kind: &ReservationType| name == kind.name() || name == initials(kind) || name.parse() == Ok(*kind as u8);
        ReservationType::ALL.into_iter().find(same)
    }

    /// Every registrant is a holder.
    pub fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Every registrant, holder or not, may do what the holder may.
    pub fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Others may read.
    pub fn admits_readers(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants)
    }
}

/// Why a parameter list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// PARAMETER LIST LENGTH ERROR, 1Ah/00h.
    #[error("parameter list length")]
    Length,
    /// INVALID FIELD IN PARAMETER LIST, 26h/00h, and the byte where it stands.
    #[error("invalid field at byte {0} of the parameter list")]
    Field(u16),
}

/// The parameter list of every action but REGISTER AND MOVE (SPC-5 6.17.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutList {
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub action_key: u64,
    /// The initiators of SPEC_I_PT; `None` where the bit is 0.
    pub initiators: Option<Vec<TransportId>>,
    /// ALL_TG_PT.
    pub all_target_ports: bool,
    /// APTPL.
    pub persist: bool,
}

impl OutList {
    /// Reads a list; its length must be what its SPEC_I_PT bit makes it.
    pub fn parse(bytes: &[u8]) -> Result<OutList, ListError> {
        let flags = field::byte(bytes, 20).ok_or(ListError::Length)?;
        let initiators = if flags & SPEC_I_PT == 0 {
            if bytes.len() != 24 {
                return Err(ListError::Length);
            }
            None
        } else {
            let length = field::be32(bytes, 24).ok_or(ListError::Length)?;
            let ids = bytes.get(28..).ok_or(ListError::Length)?;
            if u32::try_from(ids.len()) != Ok(length) {
                return Err(ListError::Length);
            }
            Some(TransportId::parse_list(ids).map_err(|_| ListError::Field(28))?)
        };
        Ok(OutList {
            key: field::be64(bytes, 0).ok_or(ListError::Length)?,
            action_key: field::be64(bytes, 8).ok_or(ListError::Length)?,
            initiators,
            all_target_ports: flags & ALL_TG_PT != 0,
            persist: flags & APTPL != 0,
        })
    }

    /// Writes the list.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&self.action_key.to_be_bytes());
        let specified = if self.initiators.is_some() { SPEC_I_PT } else { 0 };
        let all_ports = if self.all_target_ports { ALL_TG_PT } else { 0 };
        out.extend_from_slice(&[0, 0, 0, 0, specified | all_ports | u8::from(self.persist), 0, 0, 0]);
        if let Some(initiators) = &self.initiators {
            let ids: Vec<u8> = initiators.iter().flat_map(TransportId::encode).collect();
            out.extend_from_slice(&u32::try_from(ids.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(&ids);
        }
        out
    }
}

/// The parameter list of REGISTER AND MOVE (SPC-5 6.17.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveList {
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub action_key: u64,
    /// UNREG: the sender's registration ends.
    pub unregister: bool,
    /// APTPL.
    pub persist: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of the new holder's nexus.
    pub relative_port: u16,
    /// The new holder's initiator port.
    pub initiator: TransportId,
}

impl MoveList {
    /// Reads a list.
    pub fn parse(bytes: &[u8]) -> Result<MoveList, ListError> {
        let flags = field::byte(bytes, 17).ok_or(ListError::Length)?;
        let length = field::be32(bytes, 20).ok_or(ListError::Length)?;
        let id = bytes.get(24..).ok_or(ListError::Length)?;
        if u32::try_from(id.len()) != Ok(length) {
            return Err(ListError::Length);
        }
        let (initiator, used) = TransportId::parse(id).map_err(|_| ListError::Field(24))?;
        if used != id.len() {
            return Err(ListError::Field(20));
        }
        Ok(MoveList {
            key: field::be64(bytes, 0).ok_or(ListError::Length)?,
            action_key: field::be64(bytes, 8).ok_or(ListError::Length)?,
            unregister: flags & 0x02 != 0,
            persist: flags & APTPL != 0,
            relative_port: field::be16(bytes, 18).ok_or(ListError::Length)?,
            initiator,
        })
    }

    /// Writes the list.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(72);
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&self.action_key.to_be_bytes());
        out.extend_from_slice(&[0, u8::from(self.unregister) << 1 | u8::from(self.persist)]);
        out.extend_from_slice(&self.relative_port.to_be_bytes());
        let id = self.initiator.encode();
        out.extend_from_slice(&u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&id);
        out
    }
}

/// One registration in READ FULL STATUS (SPC-5 6.16.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullStatus<'a> {
    /// Its key.
    pub key: u64,
    /// The type, where this registrant holds the reservation.
    pub holds: Option<ReservationType>,
    /// The relative target port identifier of its nexus.
    pub relative_port: u16,
    /// The TransportID of its initiator port.
    pub initiator: &'a [u8],
}

/// Appends the data of READ KEYS (SPC-5 6.16.2). ADDITIONAL LENGTH is the full one.
pub fn encode_keys(generation: u32, keys: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    with_header(generation, out, |out| out.extend(keys.flat_map(u64::to_be_bytes)));
}

/// Appends the data of READ RESERVATION (SPC-5 6.16.3). The key is 0 for the all registrants types.
pub fn encode_reservation(generation: u32, reservation: Option<(u64, ReservationType)>, out: &mut Vec<u8>) {
    with_header(generation, out, |out| {
        if let Some((key, kind)) = reservation {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 0, 0, kind as u8, 0, 0]);
        }
    });
}

/// Appends the data of READ FULL STATUS (SPC-5 6.16.5).
pub fn encode_full_status<'a>(generation: u32, list: impl Iterator<Item = FullStatus<'a>>, out: &mut Vec<u8>) {
    with_header(generation, out, |out| {
        for one in list {
            out.extend_from_slice(&one.key.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&[u8::from(one.holds.is_some()), one.holds.map_or(0, |kind| kind as u8)]);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&one.relative_port.to_be_bytes());
            out.extend_from_slice(&u32::try_from(one.initiator.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(one.initiator);
        }
    });
}

/// Appends the data of REPORT CAPABILITIES (SPC-5 6.16.4): everything but REPLACE LOST RESERVATION,
/// compatible reservation handling, all six types. `persists` is PTPL_A, the state of APTPL;
/// `can_persist` is PTPL_C.
pub fn encode_capabilities(can_persist: bool, persists: bool, out: &mut Vec<u8>) {
    const RLR_C: u8 = 0x80;
    const CRH: u8 = 0x10;
    const SIP_C: u8 = 0x08;
    const ATP_C: u8 = 0x04;
    const TMV: u8 = 0x80;
    // What is never kept is never lost.
    let replaces = if can_persist { RLR_C } else { 0 };
    out.extend_from_slice(&[0, 8, replaces | CRH | SIP_C | ATP_C | u8::from(can_persist), TMV | u8::from(persists)]);
    out.extend_from_slice(&[0xEA, 0x01, 0, 0]);
}

fn with_header(generation: u32, out: &mut Vec<u8>, list: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    list(out);
    let length = u32::try_from(out.len() - start - 8).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// The keys of a READ KEYS answer and its PRGENERATION; as many as came, though more are announced.
pub fn parse_keys(bytes: &[u8]) -> Option<(u32, Vec<u64>)> {
    let generation = field::be32(bytes, 0)?;
    let length = usize::try_from(field::be32(bytes, 4)?).ok()?;
    let list = bytes.get(8..)?;
    let keys = list.get(..length.min(list.len()))?.chunks_exact(8).filter_map(|chunk| field::be64(chunk, 0));
    Some((generation, keys.collect()))
}

/// The key and type of a READ RESERVATION answer, `None` inside where nothing is reserved.
pub fn parse_reservation(bytes: &[u8]) -> Option<(u32, Option<(u64, ReservationType)>)> {
    let generation = field::be32(bytes, 0)?;
    if field::be32(bytes, 4)? == 0 {
        return Some((generation, None));
    }
    let kind = ReservationType::from_code(field::byte(bytes, 21)? & 0x0F)?;
    Some((generation, Some((field::be64(bytes, 8)?, kind))))
}

/// What REPORT CAPABILITIES tells (SPC-5 6.16.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// RLR_C: REPLACE LOST RESERVATION.
    pub replaces_lost: bool,
    /// CRH: RESERVE and RELEASE of old are served as a registered initiator's own.
    pub compatible: bool,
    /// SIP_C: other initiators can be registered (SPEC_I_PT).
    pub specifies_initiators: bool,
    /// ATP_C: registrations for all target ports (ALL_TG_PT).
    pub all_target_ports: bool,
    /// PTPL_C: reservations can outlive a loss of power.
    pub can_persist: bool,
    /// PTPL_A: they do.
    pub persists: bool,
    /// ALLOW COMMANDS.
    pub allow_commands: u8,
    /// The types; `None` where the target does not tell them (TMV 0).
    pub types: Option<Vec<ReservationType>>,
}

/// Reads the data of REPORT CAPABILITIES.
pub fn parse_capabilities(bytes: &[u8]) -> Option<Capabilities> {
    let [_, _, first, second, mask, mask_high, _, _] = field::array::<8>(bytes, 0)?;
    let has = |kind: &ReservationType| match *kind as u8 {
        8 => mask_high & 1 != 0,
        code => mask >> code & 1 != 0,
    };
    Some(Capabilities {
        replaces_lost: first & 0x80 != 0,
        compatible: first & 0x10 != 0,
        specifies_initiators: first & 0x08 != 0,
        all_target_ports: first & 0x04 != 0,
        can_persist: first & 0x01 != 0,
        persists: second & 0x01 != 0,
        allow_commands: second >> 4 & 7,
        types: (second & 0x80 != 0).then(|| ReservationType::ALL.into_iter().filter(has).collect()),
    })
}

/// The registrations of a READ FULL STATUS answer and its PRGENERATION; as many as came whole.
pub fn parse_full_status(bytes: &[u8]) -> Option<(u32, Vec<FullStatus<'_>>)> {
    let generation = field::be32(bytes, 0)?;
    let length = usize::try_from(field::be32(bytes, 4)?).ok()?;
    let list = bytes.get(8..)?;
    let mut rest = list.get(..length.min(list.len()))?;
    let mut registrations = Vec::new();
    while let Some(id_bytes) = field::be32(rest, 20) {
        let end = usize::try_from(id_bytes).ok()?.checked_add(24)?;
        let Some(initiator) = rest.get(24..end) else { break };
        let holder = field::byte(rest, 12)? & 1 != 0;
        registrations.push(FullStatus {
            key: field::be64(rest, 0)?,
            holds: ReservationType::from_code(field::byte(rest, 13)? & 0x0F).filter(|_| holder),
            relative_port: field::be16(rest, 18)?,
            initiator,
        });
        rest = rest.get(end..)?;
    }
    Some((generation, registrations))
}

const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::*;

    fn initiator() -> TransportId {
        TransportId::port("iqn.2026-01.org.example:a", [0, 2, 0x3D, 0, 0, 1])
    }

    #[test]
    fn prs_10_a_list_without_spec_i_pt_is_24_bytes_or_refused() {
        let list = OutList { key: 1, action_key: 2, persist: true, all_target_ports: true, initiators: None };
        let bytes = list.encode();
        assert_eq!(OutList::parse(&bytes), Ok(list));
        for length in (0..60).filter(|length| *length != 24) {
            let mut cut = bytes.clone();
            cut.resize(length, 0);
            assert_eq!(OutList::parse(&cut), Err(ListError::Length), "{length}");
        }
    }

    #[test]
    fn prs_10_lists_with_transport_ids_come_back_and_every_truncation_is_refused() {
        let list = OutList { initiators: Some(vec![initiator(), initiator()]), ..OutList::default() };
        let bytes = list.encode();
        assert_eq!(OutList::parse(&bytes), Ok(list));
        let moved = MoveList {
            key: 3,
            action_key: 4,
            unregister: true,
            persist: false,
            relative_port: 2,
            initiator: initiator(),
        };
        let move_bytes = moved.encode();
        assert_eq!(MoveList::parse(&move_bytes), Ok(moved));
        for length in 0..bytes.len() {
            assert_eq!(OutList::parse(&bytes[..length]), Err(ListError::Length), "{length}");
        }
        for length in 0..move_bytes.len() {
            assert_eq!(MoveList::parse(&move_bytes[..length]), Err(ListError::Length), "{length}");
        }
        let mut other = bytes.clone();
        other[28] = 0x46;
        assert_eq!(OutList::parse(&other), Err(ListError::Field(28)));
    }

    #[test]
    fn prs_01_answers_are_laid_out_as_the_standard_has_them() {
        let mut out = Vec::new();
        encode_keys(7, [1, 2].into_iter(), &mut out);
        assert_eq!(out[..8], [0, 0, 0, 7, 0, 0, 0, 16]);
        assert_eq!(parse_keys(&out), Some((7, vec![1, 2])));
        assert_eq!(parse_keys(&out[..17]), Some((7, vec![1])), "cut by the allocation length");

        let mut out = Vec::new();
        encode_reservation(7, Some((9, ReservationType::ExclusiveAccess)), &mut out);
        assert_eq!((out.len(), out[7], out[21]), (24, 16, 3));
        assert_eq!(parse_reservation(&out), Some((7, Some((9, ReservationType::ExclusiveAccess)))));

        let mut out = Vec::new();
        encode_capabilities(true, false, &mut out);
        assert_eq!(out, [0, 8, 0x9D, 0x80, 0xEA, 0x01, 0, 0]);
        out.clear();
        encode_capabilities(false, false, &mut out);
        assert_eq!(out[2], 0x1C, "what is never kept is never lost");

        let id = initiator().encode();
        let status =
            FullStatus { key: 5, holds: Some(ReservationType::WriteExclusive), relative_port: 3, initiator: &id };
        let mut out = Vec::new();
        encode_full_status(7, [status].into_iter(), &mut out);
        assert_eq!(out.len(), 8 + 24 + id.len());
        assert_eq!((out[20], out[21], out[27], usize::from(out[31])), (1, 1, 3, id.len()));
        assert_eq!(out[32..], id);
    }

    #[test]
    fn answers_are_read_back_and_no_length_is_believed() {
        let mut out = Vec::new();
        encode_capabilities(true, false, &mut out);
        let capabilities = parse_capabilities(&out).unwrap();
        assert!(capabilities.can_persist && !capabilities.persists && capabilities.replaces_lost);
        assert_eq!(capabilities.types, Some(ReservationType::ALL.to_vec()));
        assert!((0..8).all(|length| parse_capabilities(&out[..length]).is_none()));

        let id = initiator().encode();
        let status = |key, holds| FullStatus { key, holds, relative_port: 3, initiator: &id };
        let list = [status(1, None), status(2, Some(ReservationType::ExclusiveAccess))];
        let mut out = Vec::new();
        encode_full_status(9, list.iter().cloned(), &mut out);
        assert_eq!(parse_full_status(&out), Some((9, list.to_vec())));
        assert_eq!(parse_full_status(&out[..out.len() - 1]).unwrap().1.len(), 1, "the last is cut");
        out[8 + 20..8 + 24].fill(0xff);
        assert_eq!(parse_full_status(&out).unwrap().1.len(), 0, "a name of 4 GiB");
    }

    #[test]
    fn types_have_names_and_initials() {
        for kind in ReservationType::ALL {
            assert_eq!(ReservationType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(ReservationType::from_name("we"), Some(ReservationType::WriteExclusive));
        assert_eq!(ReservationType::from_name("earo"), Some(ReservationType::ExclusiveAccessRegistrantsOnly));
        assert_eq!(ReservationType::from_name("7"), Some(ReservationType::WriteExclusiveAllRegistrants));
        assert_eq!(ReservationType::from_name("2"), None);
    }
}
