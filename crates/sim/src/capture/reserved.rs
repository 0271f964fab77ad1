//! Reserved bits and bytes of what a target sends are zero (PDU-02, PDU-05).

use crate::frame::Frame;
use iscsi::wire::Opcode;

/// For each kind of PDU: the flag bits that are reserved, the flag bits that are always set, and the
/// reserved bytes of its header, from and up to (RFC 7143 §11).
fn layout(opcode: Opcode) -> (u8, u8, &'static [(usize, usize)]) {
    match opcode {
        Opcode::ScsiResponse => (0x61, 0x80, &[(8, 16)]),
        Opcode::TaskManagementResponse => (0x7f, 0x80, &[(3, 4), (11, 16), (20, 24), (36, 48)]),
        Opcode::LoginResponse => (0x30, 0, &[(20, 24), (38, 48)]),
        Opcode::TextResponse => (0x3f, 0, &[(2, 4), (36, 48)]),
        Opcode::DataIn => (0x38, 0, &[(2, 3)]),
        Opcode::LogoutResponse => (0x7f, 0x80, &[(3, 4), (8, 16), (20, 24), (36, 40), (44, 48)]),
        Opcode::ReadyToTransfer => (0x7f, 0x80, &[(2, 4)]),
        Opcode::AsyncMessage => (0x7f, 0x80, &[(2, 4), (20, 24), (44, 48)]),
        Opcode::Reject => (0x7f, 0x80, &[(3, 4), (8, 16), (20, 24), (40, 48)]),
        Opcode::NopIn => (0x7f, 0x80, &[(2, 4), (36, 48)]),
        _ => (0, 0, &[]),
    }
}

pub(super) fn check(opcode: Opcode, frame: &Frame, wrong: &mut Vec<String>) {
    let header = &frame.header;
    let (reserved, set, bytes) = layout(opcode);
    if header[0] & 0xc0 != 0 {
        wrong.push("PDU-02: bits beside the opcode".to_owned());
    }
    if header[1] & reserved != 0 || header[1] & set != set {
        wrong.push(format!("PDU-02: flags {:02x}", header[1]));
    }
    if header[4] != 0 {
        wrong.push("PDU-05: additional header segments".to_owned());
    }
    for &(from, to) in bytes {
        if header[from..to].iter().any(|byte| *byte != 0) {
            wrong.push(format!("PDU-02: reserved bytes {from}..{to} are {:02x?}", &header[from..to]));
        }
    }
    let no_data = matches!(opcode, Opcode::TaskManagementResponse | Opcode::LogoutResponse | Opcode::ReadyToTransfer);
    if no_data && !frame.data.is_empty() {
        wrong.push("PDU-05: a data segment where none belongs".to_owned());
    }
    let untagged = matches!(opcode, Opcode::AsyncMessage | Opcode::Reject);
    if untagged && frame.basic().initiator_task_tag.get() != iscsi::wire::RESERVED_TAG {
        wrong.push("an initiator task tag where none belongs".to_owned());
    }
}
