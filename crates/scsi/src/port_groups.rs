//! REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS (SPC-5 6.37, 6.45): what groups of target ports
//! let through, and how an initiator asks for another state.

use crate::field;

/// ASYMMETRIC ACCESS STATE (SPC-5 5.16.2), those that a target here can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AccessState {
    /// Everything is served, as well as it can be.
    ActiveOptimized = 0x0,
    /// Everything is served, but another port is better.
    ActiveNonOptimized = 0x1,
    /// Only what manages the unit is served: NOT READY, 04h/0Bh for the rest.
    Standby = 0x2,
    /// Only what tells of the unit and its ports is served: NOT READY, 04h/0Ch for the rest.
    Unavailable = 0x3,
}

impl AccessState {
    /// All of them.
    pub const ALL: [AccessState; 4] =
        [AccessState::ActiveOptimized, AccessState::ActiveNonOptimized, AccessState::Standby, AccessState::Unavailable];

    /// The state of this code.
    pub fn from_code(code: u8) -> Option<AccessState> {
        AccessState::ALL.into_iter().find(|state| *state as u8 == code)
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            AccessState::ActiveOptimized => "active-optimized",
            AccessState::ActiveNonOptimized => "active-non-optimized",
            AccessState::Standby => "standby",
            AccessState::Unavailable => "unavailable",
        }
    }

    /// The state of this name; the word `active` may be left out.
    pub fn from_name(name: &str) -> Option<AccessState> {
        let same = |state: &AccessState| name == state.name() || state.name().strip_prefix("active-") == Some(name);
        AccessState::ALL.into_iter().find(same)
    }
}

/// STATUS CODE: why a group is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StateCause {
    /// Nobody has changed it.
    None = 0x00,
    /// By SET TARGET PORT GROUPS.
    Explicit = 0x01,
    /// By the target's own decision.
    Implicit = 0x02,
}

/// A group as REPORT TARGET PORT GROUPS tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// TARGET PORT GROUP.
    pub number: u16,
    /// PREF.
    pub preferred: bool,
    /// Its state, as the code on the wire.
    pub state: u8,
    /// STATUS CODE, as the code on the wire.
    pub cause: u8,
    /// Relative identifiers of its target ports.
    pub ports: Vec<u16>,
}

/// PARAMETER DATA FORMAT 000b or 001b (SPC-5 6.37).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The header is the length.
    LengthOnly,
    /// The header tells the implicit transition time too; ours takes no time that could be told.
    Extended,
}

/// Appends the parameter data of REPORT TARGET PORT GROUPS.
pub fn encode(format: Format, groups: &[Group], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    if format == Format::Extended {
        out.extend_from_slice(&[EXTENDED_HEADER, 0, 0, 0]);
    }
    for group in groups {
        let [high, low] = group.number.to_be_bytes();
        let ports = group.ports.get(..group.ports.len().min(255)).unwrap_or_default();
        let count = u8::try_from(ports.len()).unwrap_or(u8::MAX);
        let preferred = u8::from(group.preferred) << 7;
        out.extend_from_slice(&[preferred | group.state & 0x0f, SUPPORTED, high, low, 0, group.cause, 0, count]);
        for port in ports {
            let [high, low] = port.to_be_bytes();
            out.extend_from_slice(&[0, 0, high, low]);
        }
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads the parameter data of REPORT TARGET PORT GROUPS; `None` where it is cut.
pub fn parse(bytes: &[u8]) -> Option<Vec<Group>> {
    let length = usize::try_from(field::be32(bytes, 0)?).ok()?;
    let mut rest = bytes.get(4..length.checked_add(4)?)?;
    if field::byte(rest, 0).is_some_and(|first| first & 0x70 == EXTENDED_HEADER) {
        rest = rest.get(4..)?;
    }
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let [state, _, high, low, _, cause, _, count] = field::array::<8>(rest, 0)?;
        let end = 8 + 4 * usize::from(count);
        let ports = rest.get(8..end)?.chunks(4).filter_map(|port| field::be16(port, 2)).collect();
        let number = u16::from_be_bytes([high, low]);
        groups.push(Group { number, preferred: state & 0x80 != 0, state: state & 0x0f, cause, ports });
        rest = rest.get(end..)?;
    }
    Some(groups)
}

/// What SET TARGET PORT GROUPS asks for one group, and where its descriptor stands in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Byte of the descriptor's start.
    pub at: u16,
    /// TARGET PORT GROUP.
    pub group: u16,
    /// The state that it is to have.
    pub state: AccessState,
}

/// A field of a parameter list that is refused: its byte, and the bit where one is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid field at byte {0} of the parameter list")]
pub struct InvalidField(pub u16, pub Option<u8>);

/// Bytes of the parameter list's header.
pub const SET_HEADER_BYTES: usize = 4;
/// Bytes of a descriptor of the parameter list.
pub const SET_DESCRIPTOR_BYTES: usize = 4;

/// Reads the parameter list of SET TARGET PORT GROUPS, whose length the caller has checked. Reserved bits
/// must be zeros; offline (Eh), transitioning (Fh) and states that do not exist cannot be asked for.
pub fn parse_set(bytes: &[u8]) -> Result<Vec<Wish>, InvalidField> {
    let highest = |byte: u8| Some((7 - byte.leading_zeros().min(7)) as u8);
    for (at, byte) in bytes.iter().enumerate().take(SET_HEADER_BYTES) {
        if *byte != 0 {
            return Err(InvalidField(at as u16, highest(*byte)));
        }
    }
    let mut wishes = Vec::new();
    for (number, descriptor) in bytes.chunks_exact(SET_DESCRIPTOR_BYTES).enumerate().skip(1) {
        let at = u16::try_from(number * SET_DESCRIPTOR_BYTES).unwrap_or(u16::MAX);
        let &[state, reserved, high, low] = descriptor else { continue };
        if state & 0xf0 != 0 {
            return Err(InvalidField(at, highest(state)));
        }
        if reserved != 0 {
            return Err(InvalidField(at.saturating_add(1), highest(reserved)));
        }
        let state = AccessState::from_code(state).ok_or(InvalidField(at, Some(3)))?;
        wishes.push(Wish { at, group: u16::from_be_bytes([high, low]), state });
    }
    Ok(wishes)
}

/// RETURN DATA FORMAT 001b.
const EXTENDED_HEADER: u8 = 0x10;
/// U_SUP, S_SUP, AN_SUP and AO_SUP: unavailable, standby and both active states.
const SUPPORTED: u8 = 0x0f;

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<Group> {
        vec![
            Group { number: 1, preferred: true, state: 0, cause: 0, ports: vec![1] },
            Group { number: 0x203, preferred: false, state: 2, cause: 1, ports: vec![0x203, 4] },
        ]
    }

    #[test]
    fn spc_11_groups_are_told_in_both_formats() {
        let mut out = Vec::new();
        encode(Format::LengthOnly, &groups(), &mut out);
        let body = [
            0x80, 0x0f, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, //
            0x02, 0x0f, 2, 3, 0, 1, 0, 2, 0, 0, 2, 3, 0, 0, 0, 4,
        ];
        assert_eq!((&out[..4], &out[4..]), (&[0, 0, 0, 28][..], &body[..]));
        assert_eq!(parse(&out), Some(groups()));
        let mut extended = Vec::new();
        encode(Format::Extended, &groups(), &mut extended);
        assert_eq!((&extended[..8], &extended[8..]), (&[0, 0, 0, 32, 0x10, 0, 0, 0][..], &body[..]));
        assert_eq!(parse(&extended), Some(groups()));
        assert!((0..extended.len()).all(|length| parse(&extended[..length]).is_none()));
    }

    #[test]
    fn spc_11_only_states_that_can_be_set_are_asked_for() {
        let wish = |at, group, state| Wish { at, group, state };
        assert_eq!(
            parse_set(&[0, 0, 0, 0, 2, 0, 0, 1, 1, 0, 1, 0]),
            Ok(vec![wish(4, 1, AccessState::Standby), wish(8, 256, AccessState::ActiveNonOptimized)])
        );
        assert_eq!(parse_set(&[0; 4]), Ok(Vec::new()));
        assert_eq!(parse_set(&[0, 0, 0x10, 0]), Err(InvalidField(2, Some(4))));
        for state in 4..=15 {
            assert_eq!(parse_set(&[0, 0, 0, 0, state, 0, 0, 1]), Err(InvalidField(4, Some(3))), "{state}");
        }
        assert_eq!(parse_set(&[0, 0, 0, 0, 0x40, 0, 0, 1]), Err(InvalidField(4, Some(6))));
        assert_eq!(parse_set(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1]), Err(InvalidField(9, Some(0))));
    }

    #[test]
    fn states_have_names_and_short_ones() {
        for state in AccessState::ALL {
            assert_eq!(AccessState::from_name(state.name()), Some(state));
            assert_eq!(AccessState::from_code(state as u8), Some(state));
        }
        assert_eq!(AccessState::from_name("optimized"), Some(AccessState::ActiveOptimized));
        assert_eq!(AccessState::from_name("non-optimized"), Some(AccessState::ActiveNonOptimized));
        assert_eq!(AccessState::from_name("active"), None);
    }
}
