//! 83h, device identification (SPC-5 7.7.6): what this logical unit, port and target are called.
//!
//! The designators of the logical unit come from its 16-byte identity. No company identifier was
//! bought for them; the field that holds one carries bits of the identity with the *locally
//! administered* bit of IEEE 802 set and the group bit clear, so that the result is stable, as
//! unique as the identity, and can never equal a name that a manufacturer was assigned.

use super::{ParseError, body};
use crate::{
    field,
    inquiry::{Facts, Port},
};

/// What a designator names (SPC-5 7.7.6.1, ASSOCIATION).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Association {
    /// The logical unit.
    LogicalUnit = 0,
    /// The target port by which the question came.
    TargetPort = 1,
    /// The target device.
    TargetDevice = 2,
    /// Reserved.
    Reserved = 3,
}

/// One designator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Designator {
    /// What it names.
    pub association: Association,
    /// The transport, where PIV says that there is one; 5h is iSCSI.
    pub protocol: Option<u8>,
    /// 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// DESIGNATOR TYPE.
    pub designator_type: u8,
    /// The name itself.
    pub value: Vec<u8>,
}

impl Designator {
    /// The text of a SCSI name string without its padding; `None` for the other types.
    pub fn name(&self) -> Option<&str> {
        (self.designator_type == TYPE_NAME).then(|| field::padded_utf8(&self.value)).flatten()
    }
}

/// The NAA designator, IEEE registered extended format (SPC-5 7.7.6.6.5): 16 bytes.
pub fn naa(uuid: [u8; 16]) -> [u8; 16] {
    let low = u128::from_be_bytes(uuid) & (u128::MAX >> 4);
    // The company identifier is bits 123 to 100; its first octet ends in bit 116.
    let local = (low | 1 << 117) & !(1 << 116);
    (0x6 << 124 | local).to_be_bytes()
}

/// The EUI-64-based 16-byte designator (SPC-5 7.7.6.5.4): identifier extension, then EUI-64.
pub fn eui64(uuid: [u8; 16]) -> [u8; 16] {
    let whole = u128::from_be_bytes(uuid);
    ((whole | 1 << 57) & !(1 << 56)).to_be_bytes()
}

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let own = naa(facts.uuid);
    let naa = facts.naa.unwrap_or(&own);
    push(out, Association::LogicalUnit, BINARY, TYPE_NAA, |out| out.extend_from_slice(naa));
    push(out, Association::LogicalUnit, BINARY, TYPE_EUI_64, |out| out.extend_from_slice(&eui64(facts.uuid)));
    push(out, Association::LogicalUnit, ASCII, TYPE_T10, |out| match facts.t10_id {
        Some(whole) => field::push_ascii(out, whole, whole.len().min(200)),
        None => {
            field::push_ascii(out, facts.vendor, 8);
            field::push_ascii(out, facts.product, 16);
            field::push_ascii(out, facts.serial, facts.serial.len().min(200));
        }
    });
    let name: String = naa.iter().map(|byte| format!("{byte:02X}")).collect();
    push(out, Association::LogicalUnit, UTF_8, TYPE_NAME, |out| field::push_padded_utf8(out, &format!("naa.{name}")));
    if let Some(port) = facts.ports.iter().find(|port| port.relative_identifier == facts.this_port) {
        encode_port(port, out);
    }
}

/// The designators of a port and its device, which every LUN behind it has.
pub fn encode_port(port: &Port<'_>, out: &mut Vec<u8>) {
    push(out, Association::TargetPort, BINARY, TYPE_RELATIVE_PORT, |out| {
        out.extend_from_slice(&u32::from(port.relative_identifier).to_be_bytes());
    });
    push(out, Association::TargetPort, BINARY, TYPE_PORT_GROUP, |out| {
        out.extend_from_slice(&u32::from(port.target_port_group).to_be_bytes());
    });
    push_port_name(port, out);
    push(out, Association::TargetDevice, UTF_8, TYPE_NAME, |out| field::push_padded_utf8(out, port.target_name));
}

/// Appends the designation descriptor with a port's SCSI name string, as 88h has it too.
pub(super) fn push_port_name(port: &Port<'_>, out: &mut Vec<u8>) {
    push(out, Association::TargetPort, UTF_8, TYPE_NAME, |out| field::push_padded_utf8(out, &port.name()));
}

fn push(out: &mut Vec<u8>, association: Association, code_set: u8, kind: u8, value: impl FnOnce(&mut Vec<u8>)) {
    // Only what belongs to a port or device has a transport (PIV and PROTOCOL IDENTIFIER).
    let (protocol, piv) = if association == Association::LogicalUnit { (0, 0) } else { (ISCSI << 4, 0x80) };
    let start = out.len();
    out.extend_from_slice(&[protocol | code_set, piv | (association as u8) << 4 | kind, 0, 0]);
    value(out);
    let length = u8::try_from(out.len() - start - 4).unwrap_or(u8::MAX);
    out.truncate(start + 4 + usize::from(length));
    if let Some(field) = out.get_mut(start + 3) {
        *field = length;
    }
}

/// The designators of a page.
pub fn parse(bytes: &[u8]) -> Result<Vec<Designator>, ParseError> {
    parse_list(body(0x83, bytes)?)
}

pub(super) fn parse_list(mut rest: &[u8]) -> Result<Vec<Designator>, ParseError> {
    let mut list = Vec::new();
    while !rest.is_empty() {
        let [codes, kind, _, length] = field::array::<4>(rest, 0).ok_or(ParseError::Truncated)?;
        let end = 4 + usize::from(length);
        let value = rest.get(4..end).ok_or(ParseError::Truncated)?;
        list.push(Designator {
            association: match kind >> 4 & 3 {
                0 => Association::LogicalUnit,
                1 => Association::TargetPort,
                2 => Association::TargetDevice,
                _ => Association::Reserved,
            },
            protocol: (kind & 0x80 != 0).then_some(codes >> 4),
            code_set: codes & 0x0F,
            designator_type: kind & 0x0F,
            value: value.to_vec(),
        });
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(list)
}

const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF_8: u8 = 3;
const TYPE_T10: u8 = 1;
const TYPE_EUI_64: u8 = 2;
const TYPE_NAA: u8 = 3;
const TYPE_RELATIVE_PORT: u8 = 4;
const TYPE_PORT_GROUP: u8 = 5;
const TYPE_NAME: u8 = 8;
/// PROTOCOL IDENTIFIER of iSCSI (SPC-5 7.6.1).
const ISCSI: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn spc_02_the_names_of_unit_port_group_and_target_are_there_once_each() {
        let list = parse(&page(0x83, &facts())).unwrap();
        let kinds: Vec<_> = list.iter().map(|one| (one.association as u8, one.designator_type, one.protocol)).collect();
        let port = Some(5);
        assert_eq!(
            kinds,
            [
                (0, 3, None),
                (0, 2, None),
                (0, 1, None),
                (0, 8, None),
                (1, 4, port),
                (1, 5, port),
                (1, 8, port),
                (2, 8, port)
            ]
        );
        assert_eq!(list[4].value, [0, 0, 0, 2], "the port by which the question came");
        assert_eq!(list[3].name(), Some("naa.646AC10B58CC4372A5670E02B2C3D479"));
    }

    #[test]
    fn names_that_somebody_chose_stand_in_the_place_of_our_own() {
        let naa = [0x30, 0, 0, 0xa0, 0, 0, 0, 0x11];
        let chosen = Facts { t10_id: Some("IET     000a0011"), naa: Some(&naa), ..facts() };
        let list = parse(&page(0x83, &chosen)).unwrap();
        assert_eq!((list[0].designator_type, &list[0].value[..]), (3, &naa[..]));
        assert_eq!((list[2].designator_type, &list[2].value[..]), (1, &b"IET     000a0011"[..]));
        assert_eq!(list[3].name(), Some("naa.300000A000000011"));
        assert_eq!(list.len(), parse(&page(0x83, &facts())).unwrap().len(), "none more, and none less");
    }

    #[test]
    fn nam_06_port_names_carry_the_tag_are_terminated_and_padded() {
        let list = parse(&page(0x83, &facts())).unwrap();
        assert_eq!(list[6].name(), Some("iqn.2026-01.org.example:disk,t,0x0002"));
        assert_eq!(list[7].name(), Some("iqn.2026-01.org.example:disk"));
        for one in list.iter().filter(|one| one.designator_type == 8) {
            assert_eq!((one.value.len() % 4, one.value.last()), (0, Some(&0)));
        }
    }

    #[test]
    fn spc_02_names_are_stable_local_and_differ_between_units() {
        let mut other = facts().uuid;
        other[15] ^= 1;
        assert_ne!(naa(facts().uuid), naa(other));
        assert_ne!(eui64(facts().uuid), eui64(other));
        for uuid in [[0; 16], [0xFF; 16], facts().uuid] {
            let company = u128::from_be_bytes(naa(uuid)) >> 100 & 0xFF_FFFF;
            assert_eq!(naa(uuid)[0] >> 4, 6);
            assert_eq!(company >> 16 & 3, 2, "locally administered, not a group");
            assert_eq!(eui64(uuid)[8] & 3, 2);
        }
    }
}
