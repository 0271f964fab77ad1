//! What a SNACK asks for comes as an exact copy of what came before (RFC 7143 §11.16; ERL-04).

use crate::frame::Frame;
use iscsi::wire::{Opcode, SnackRequest};
use std::collections::HashSet;

/// What the target has sent on a connection of recovery level 1 or above, and what was asked for again.
#[derive(Debug, Default)]
pub(super) struct Replays {
    sent: HashSet<Vec<u8>>,
    asked: bool,
    /// Tasks whose data was to be cut anew (R-Data): its PDUs are new ones.
    pub anew: HashSet<u32>,
}

impl Replays {
    /// The initiator asks.
    pub fn asked(&mut self, snack: &SnackRequest) {
        match snack.kind & 0x0f {
            0 | 1 => self.asked = true,
            3 => {
                self.asked = true;
                self.anew.insert(snack.initiator_task_tag.get());
            }
            _ => {}
        }
    }

    /// Whether the target sends this again. Remembers it where not.
    pub fn is_replay(&mut self, frame: &Frame) -> bool {
        let mut copy = frame.header[..48].to_vec();
        // ExpCmdSN and MaxCmdSN are those of the moment; so is the StatSN of an R2T.
        copy[28..36].fill(0);
        if frame.opcode() == Opcode::ReadyToTransfer as u8 {
            copy[24..28].fill(0);
        }
        copy.extend_from_slice(&frame.data);
        !self.sent.insert(copy) && self.asked
    }
}
