//! CmdSN, ExpCmdSN and MaxCmdSN of a session, StatSN of a connection (RFC 7143 §4.2.2).

use crate::frame::Frame;
use iscsi::serial::{at_most, precedes};
use iscsi::wire::{DataIn, Header, NopIn, Opcode, Pdu, RESERVED_TAG, ScsiCommand, ScsiResponse};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More command numbers than any target has in its window.
const WINDOW: u32 = 1 << 16;

/// The command window of a session, as far as any of its connections was told.
#[derive(Debug, Default)]
struct Window {
    begun: bool,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    sent: HashSet<u32>,
    /// Numbers that task management functions may have given up.
    plugged: HashSet<u32>,
}

/// The numbers as far as they were seen: those of status on this connection, those of commands in its session.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next_stat_sn: Option<u32>,
    window: Arc<Mutex<Window>>,
    /// ExpCmdSN and MaxCmdSN as this connection was last told.
    told: Option<(u32, u32)>,
}

impl Numbers {
    /// The connection is one of the same session.
    pub fn join(&mut self, other: &Numbers) {
        self.window = Arc::clone(&other.window);
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn max_cmd_sn(&self) -> u32 {
        self.lock().max_cmd_sn
    }

    pub fn exp_cmd_sn(&self) -> u32 {
        self.lock().exp_cmd_sn
    }

    /// The CmdSN of the session's first login is that of the first command (LOG-06).
    pub fn begin(&mut self, cmd_sn: u32) {
        let mut window = self.lock();
        if !window.begun {
            window.begun = true;
            window.exp_cmd_sn = cmd_sn;
            window.max_cmd_sn = cmd_sn.wrapping_sub(1);
        }
    }

    /// Whether the target has said that it takes this number, and has not said that it has it.
    pub fn is_inside(&self, cmd_sn: u32) -> bool {
        let window = self.lock();
        at_most(window.exp_cmd_sn, cmd_sn) && at_most(cmd_sn, window.max_cmd_sn)
    }

    pub fn sent(&mut self, frame: &Frame) {
        let numbered = matches!(
            Opcode::from_number(frame.opcode()),
            Some(
                Opcode::NopOut
                    | Opcode::ScsiCommand
                    | Opcode::TaskManagementRequest
                    | Opcode::TextRequest
                    | Opcode::LogoutRequest
            )
        );
        if numbered && !frame.basic().immediate() {
            self.lock().sent.insert(ScsiCommand::view(frame.basic()).cmd_sn.get());
        }
    }

    /// These numbers may be given up by a task management function.
    pub fn plugged(&mut self, numbers: Range<u32>) {
        let count =
            if precedes(numbers.start, numbers.end) { numbers.end.wrapping_sub(numbers.start).min(WINDOW) } else { 0 };
        self.lock().plugged.extend((0..count).map(|n| numbers.start.wrapping_add(n)));
    }

    /// A request that was rejected counts as not received (CSN-12).
    pub fn rejected(&mut self, cmd_sn: u32) {
        self.lock().sent.remove(&cmd_sn);
    }

    /// A PDU that takes a status number.
    pub fn status(&mut self, stat_sn: u32, wrong: &mut Vec<String>) {
        if let Some(expected) = self.next_stat_sn
            && expected != stat_sn
        {
            wrong.push(format!("SSN-01: StatSN {stat_sn:x} where {expected:x} was due"));
        }
        self.next_stat_sn = Some(stat_sn.wrapping_add(1));
    }

    pub fn window(&mut self, exp_cmd_sn: u32, max_cmd_sn: u32, wrong: &mut Vec<String>) {
        if let Some((last_exp, last_max)) = self.told.replace((exp_cmd_sn, max_cmd_sn)) {
            if precedes(exp_cmd_sn, last_exp) {
                wrong.push(format!("CSN-04: ExpCmdSN went back from {last_exp:x} to {exp_cmd_sn:x}"));
            }
            if precedes(max_cmd_sn, last_max) {
                wrong.push(format!("CSN-05: MaxCmdSN went back from {last_max:x} to {max_cmd_sn:x}"));
            }
        }
        if precedes(max_cmd_sn, exp_cmd_sn.wrapping_sub(1)) {
            wrong.push(format!("CSN-05: MaxCmdSN {max_cmd_sn:x} is below ExpCmdSN {exp_cmd_sn:x} - 1"));
        }
        let mut window = self.lock();
        while precedes(window.exp_cmd_sn, exp_cmd_sn) {
            let next = window.exp_cmd_sn;
            let plugged = window.plugged.remove(&next);
            if !window.sent.remove(&next) && !plugged {
                wrong.push(format!("CSN-04: ExpCmdSN {exp_cmd_sn:x} acknowledges {next:x}, which is a hole"));
                window.exp_cmd_sn = exp_cmd_sn;
                break;
            }
            window.exp_cmd_sn = next.wrapping_add(1);
        }
        if precedes(window.max_cmd_sn, max_cmd_sn) {
            window.max_cmd_sn = max_cmd_sn;
        }
    }

    /// The numbers of a PDU in the full feature phase.
    pub fn told(&mut self, opcode: Opcode, frame: &Frame, wrong: &mut Vec<String>) {
        let basic: &Header = frame.basic();
        // These three stand at the same place in every PDU that a target sends.
        let common = ScsiResponse::view(basic);
        self.window(common.exp_cmd_sn.get(), common.max_cmd_sn.get(), wrong);
        let stat_sn = common.stat_sn.get();
        match opcode {
            Opcode::DataIn if DataIn::view(basic).flags & 0x01 == 0 => {
                if stat_sn != 0 {
                    wrong.push("SSN-01: Data-In without status has a StatSN".to_owned());
                }
            }
            Opcode::ReadyToTransfer => self.peek(stat_sn, wrong),
            Opcode::NopIn if NopIn::view(basic).initiator_task_tag.get() == RESERVED_TAG => self.peek(stat_sn, wrong),
            _ => self.status(stat_sn, wrong),
        }
    }

    fn peek(&mut self, stat_sn: u32, wrong: &mut Vec<String>) {
        if self.next_stat_sn.is_some_and(|expected| expected != stat_sn) {
            wrong.push(format!("SSN-01: StatSN {stat_sn:x} is not the next one"));
        }
    }
}
