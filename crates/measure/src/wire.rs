//! Basic header segments from and to 48 bytes.

use crate::Case;
use iscsi::wire::{BHS_BYTES, DataIn, FINAL, Header, Opcode, Pdu, ScsiCommand};
use std::hint::black_box;
use zerocopy::{FromBytes, IntoBytes};

pub(crate) const CASES: &[Case] = &[
    Case { name: "wire: SCSI Command decoded", prepare: command_decoded },
    Case { name: "wire: Data-In encoded", prepare: data_in_encoded },
];

fn command_decoded() -> Box<dyn FnMut()> {
    let mut command = ScsiCommand::empty();
    command.flags = FINAL | 0x40;
    command.cmd_sn = 7.into();
    command.expected_data_transfer_length = 4096.into();
    let bytes: [u8; BHS_BYTES] = command.as_bytes().try_into().unwrap_or([0; BHS_BYTES]);
    Box::new(move || {
        let Ok(header) = Header::ref_from_bytes(black_box(&bytes)) else { unreachable!("48 bytes") };
        assert_eq!(header.opcode(), Opcode::ScsiCommand as u8);
        black_box((header.additional_bytes(), header.data_segment_bytes(), header.initiator_task_tag.get()));
        let command = ScsiCommand::view(header);
        black_box((command.reads(), command.writes(), command.attribute(), command.cmd_sn.get()));
        black_box((command.expected_data_transfer_length.get(), command.exp_stat_sn.get(), command.lun, command.cdb));
    })
}

fn data_in_encoded() -> Box<dyn FnMut()> {
    let mut arena: Vec<u8> = Vec::with_capacity(BHS_BYTES);
    Box::new(move || {
        let mut data = DataIn::empty();
        data.flags = FINAL | 1;
        data.initiator_task_tag = black_box(7).into();
        data.stat_sn = black_box(8).into();
        data.exp_cmd_sn = black_box(9).into();
        data.max_cmd_sn = black_box(137).into();
        data.set_data_segment_bytes(black_box(4096));
        arena.clear();
        arena.extend_from_slice(data.as_bytes());
        black_box(&arena);
    })
}
