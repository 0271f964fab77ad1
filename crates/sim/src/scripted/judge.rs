//! What an initiator may send, whatever the target does to it.

use crate::frame::Frame;
use iscsi::wire::{DataOut, LogoutRequest, NopOut, Opcode, Pdu, RESERVED_TAG, ScsiCommand};
use std::collections::HashMap;

/// What was seen of one connection.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Set when the login is done: largest data segment that the target takes.
    pub segment: Option<u32>,
    /// Commands that were seen, with the bytes that each has for the target.
    commands: HashMap<u32, u32>,
    last_cmd_sn: Option<u32>,
    /// A logout of the connection or the session was sent.
    left: bool,
}

impl Judge {
    /// Judges one frame. The window is the one that was told last.
    pub fn frame(&mut self, frame: &Frame, complaints: &[&str], exp_cmd_sn: u32, window: u32) -> Result<(), String> {
        if let Some(complaint) = complaints.first() {
            return Err((*complaint).to_owned());
        }
        let basic = frame.basic();
        let opcode = Opcode::from_number(frame.opcode()).ok_or("an opcode that there is not (PDU-04)")?;
        if opcode as u8 >= 0x20 {
            return Err(format!("{opcode:?} from an initiator (PDU-04)"));
        }
        if opcode != Opcode::ScsiCommand && frame.header.len() > 48 {
            return Err("additional header segments where none belong (PDU-05)".into());
        }
        if basic.opcode_byte & 0x80 != 0 {
            return Err("a reserved bit is set (PDU-02)".into());
        }
        let Some(segment) = self.segment else {
            return if opcode == Opcode::LoginRequest { Ok(()) } else { Err(format!("{opcode:?} during the login")) };
        };
        if opcode == Opcode::LoginRequest {
            return Err("a login in the full feature phase (LOG-20)".into());
        }
        if frame.data.len() > segment as usize {
            return Err(format!("{} bytes of data where {segment} are taken (PDU-06)", frame.data.len()));
        }
        if self.left && !matches!(opcode, Opcode::DataOut | Opcode::SnackRequest) {
            return Err(format!("{opcode:?} behind a logout (OUT-04)"));
        }
        match opcode {
            Opcode::ScsiCommand => self.command(ScsiCommand::view(basic), exp_cmd_sn, window)?,
            Opcode::DataOut => self.data(DataOut::view(basic), frame.data.len())?,
            Opcode::NopOut => {
                let ping = NopOut::view(basic);
                if ping.initiator_task_tag.get() == RESERVED_TAG && !basic.immediate() {
                    return Err("an answer to a ping that is not immediate".into());
                }
            }
            Opcode::LogoutRequest => self.left |= LogoutRequest::view(basic).reason & 0x7f != 2,
            _ => {}
        }
        Ok(())
    }

    fn command(&mut self, command: &ScsiCommand, exp_cmd_sn: u32, window: u32) -> Result<(), String> {
        let (tag, cmd_sn) = (command.initiator_task_tag.get(), command.cmd_sn.get());
        if tag == RESERVED_TAG {
            return Err("a command with the reserved tag (PDU-14)".into());
        }
        if !command.header().immediate() {
            let ahead = cmd_sn.wrapping_sub(exp_cmd_sn) as i32;
            // What was told before may still hold: only what was never let in is wrong.
            if ahead >= window.max(64) as i32 {
                return Err(format!("CmdSN {cmd_sn} where {window} from {exp_cmd_sn} are let in (CSN-07)"));
            }
            let again = self.commands.contains_key(&tag);
            if let Some(last) = self.last_cmd_sn.filter(|_| !again)
                && cmd_sn.wrapping_sub(last) as i32 <= 0
            {
                return Err(format!("CmdSN {cmd_sn} after {last} (CSN-09)"));
            }
            if !again {
                self.last_cmd_sn = Some(cmd_sn);
            }
        }
        if !command.writes() && command.flags & 0x80 == 0 {
            return Err("neither F nor W (RSP-09)".into());
        }
        let writes = if command.writes() { command.expected_data_transfer_length.get() } else { 0 };
        self.commands.insert(tag, writes);
        Ok(())
    }

    fn data(&mut self, data: &DataOut, length: usize) -> Result<(), String> {
        let Some(bytes) = self.commands.get(&data.initiator_task_tag.get()) else {
            return Err("data for a command that was not sent".into());
        };
        if u64::from(data.buffer_offset.get()) + length as u64 > u64::from(*bytes) {
            return Err("data beyond the command's (R2T-04)".into());
        }
        Ok(())
    }
}
