//! SCSI tasks and task management as the wire shows them (RFC 7143 §4.2.5, §11.3 to §11.8).

use super::Agreed;
use crate::frame::Frame;
use iscsi::serial::precedes;
use iscsi::wire::{
    DataIn, DataOut, FINAL, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, ScsiCommand, ScsiResponse,
    TaskManagementRequest, TaskManagementResponse,
};
use std::collections::HashMap;
use std::ops::Range;

#[derive(Debug)]
struct Outstanding {
    tag: u32,
    left: u32,
}

#[derive(Debug)]
struct Task {
    command: ScsiCommand,
    /// Its place among everything that was sent.
    place: u64,
    header: Vec<u8>,
    /// Data-out that was sent or asked for: where the next R2T begins.
    next_out: u32,
    unsolicited_open: bool,
    outstanding: Vec<Outstanding>,
    r2t_sn: u32,
    data_sn: u32,
    received: u32,
    burst: u32,
    /// It came from another connection: which R2T is the next one shows when it comes.
    taken_over: bool,
}

/// The tasks that were asked for and not answered.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: HashMap<u32, Task>,
    /// At recovery level 2, those that were answered: their answers may not have been acknowledged.
    answered: HashMap<u32, Task>,
    sent: u64,
}

impl Tasks {
    pub fn command(&mut self, command: &ScsiCommand, frame: &Frame, inside: bool) {
        let tag = command.initiator_task_tag.get();
        // What is outside the window is never answered, and a tag in use names its first task.
        if !inside || self.tasks.contains_key(&tag) {
            return;
        }
        self.sent += 1;
        let task = Task {
            command: *command,
            place: self.sent,
            header: frame.header[..48].to_vec(),
            next_out: frame.data.len() as u32,
            unsolicited_open: command.writes() && command.flags & FINAL == 0,
            outstanding: Vec::new(),
            r2t_sn: 0,
            data_sn: 0,
            received: 0,
            burst: 0,
            taken_over: false,
        };
        self.tasks.insert(tag, task);
    }

    pub fn data_out(&mut self, header: &DataOut, length: u32) {
        let Some(task) = self.tasks.get_mut(&header.initiator_task_tag.get()) else { return };
        let last = header.flags & FINAL != 0;
        let tag = header.target_transfer_tag.get();
        if tag == RESERVED_TAG {
            if task.unsolicited_open {
                task.next_out += length;
                task.unsolicited_open = !last;
            }
        } else if let Some(at) = task.outstanding.iter().position(|one| one.tag == tag) {
            task.outstanding[at].left = task.outstanding[at].left.saturating_sub(length);
            if last {
                task.outstanding.remove(at);
            }
        }
    }

    /// The initiator logs out: it sends nothing more, and owes nothing more.
    pub fn logged_out(&mut self) {
        for task in self.tasks.values_mut() {
            task.unsolicited_open = false;
            task.outstanding.clear();
        }
    }

    /// The target rejected a command with this header.
    pub fn rejected(&mut self, tag: u32, header: &[u8], wrong: &mut Vec<String>) {
        let Some(task) = self.tasks.get(&tag) else { return };
        if task.header == header {
            self.tasks.remove(&tag);
        } else if task.header[24..28] == header[24..28] && !task.command.header().immediate() && header[0] & 0x40 == 0 {
            // Immediate commands have the number of the next one, so that it tells them not apart.
            wrong.push("REJ-01: the rejected header is not the one that was sent".to_owned());
            self.tasks.remove(&tag);
        }
    }

    pub fn told(&mut self, opcode: Opcode, frame: &Frame, agreed: &Agreed, wrong: &mut Vec<String>) {
        let tag = frame.basic().initiator_task_tag.get();
        let Some(task) = self.tasks.get_mut(&tag) else {
            return wrong.push(format!("{opcode:?} for a task that does not exist, was answered, or was aborted"));
        };
        let over = match opcode {
            Opcode::DataIn => task.data_in(DataIn::view(frame.basic()), frame.data.len() as u32, agreed, wrong),
            Opcode::ReadyToTransfer => {
                task.ready_to_transfer(ReadyToTransfer::view(frame.basic()), agreed, wrong);
                false
            }
            _ => {
                task.response(ScsiResponse::view(frame.basic()), &frame.data, wrong);
                true
            }
        };
        if over
            && let Some(task) = self.tasks.remove(&tag)
            && agreed.error_recovery_level > 1
        {
            self.answered.insert(tag, task);
        }
    }

    /// The task goes on at this connection (RFC 7143 §7.2.2): its data-in begins anew, R2Ts go on.
    pub fn take_over(&mut self, other: &mut Tasks, tag: u32) {
        if let Some(task) = other.tasks.remove(&tag).or_else(|| other.answered.remove(&tag)) {
            let (unsolicited_open, outstanding) = (false, Vec::new());
            let anew = Task { unsolicited_open, outstanding, data_sn: 0, received: 0, burst: 0, ..task };
            self.tasks.insert(tag, Task { taken_over: true, ..anew });
        }
    }

    fn abort(&mut self, tag: u32) {
        self.tasks.remove(&tag);
    }

    /// Commands with numbers before this one, and immediate ones that were sent before.
    fn abort_older(&mut self, lun: Option<[u8; 8]>, cmd_sn: u32, place: u64) {
        self.tasks.retain(|_, task| {
            let here = lun.is_none_or(|lun| lun == task.command.lun);
            let older = match task.command.header().immediate() {
                true => task.place <= place,
                false => precedes(task.command.cmd_sn.get(), cmd_sn),
            };
            !(here && older)
        });
    }
}

impl Task {
    /// Whether it ends the task.
    fn data_in(&mut self, header: &DataIn, length: u32, agreed: &Agreed, wrong: &mut Vec<String>) -> bool {
        let (status, last) = (header.flags & 0x01 != 0, header.flags & FINAL != 0);
        if !self.command.reads() {
            wrong.push("RSP-07: Data-In for a command that does not read".to_owned());
        }
        if header.data_sn.get() != self.data_sn {
            wrong.push(format!("DAT-06: DataSN {} where {} was due", header.data_sn.get(), self.data_sn));
        }
        if header.buffer_offset.get() != self.received {
            wrong.push(format!("DAT-07: Buffer Offset {} after {} bytes", header.buffer_offset.get(), self.received));
        }
        self.data_sn += 1;
        self.received += length;
        self.burst += length;
        if !self.command.writes() && self.received > self.command.expected_data_transfer_length.get() {
            wrong.push("DAT-10: more data than expected".to_owned());
        }
        if self.burst > agreed.max_burst_length {
            wrong.push("DAT-05: a sequence above MaxBurstLength".to_owned());
        }
        if last {
            self.burst = 0;
        }
        let asks = header.flags & 0x40 != 0;
        if asks && (agreed.error_recovery_level == 0 || !last) {
            wrong.push("DAT-15: A at recovery level 0, or within a sequence".to_owned());
        }
        if asks == (header.target_transfer_tag.get() == RESERVED_TAG) {
            wrong.push("DAT-15: a target transfer tag goes with A, and only with it".to_owned());
        }
        if status {
            if !last {
                wrong.push("DAT-10: S without F".to_owned());
            }
            if self.command.writes() || ![0x00, 0x04, 0x10, 0x14].contains(&header.status) {
                wrong.push(format!("DAT-11: status {:02x} in Data-In", header.status));
            }
            self.residual(header.flags, header.residual_count.get(), header.status, wrong);
        } else if header.flags & 0x06 != 0 || header.residual_count.get() != 0 || header.status != 0 {
            wrong.push("Data-In without S has status or residual".to_owned());
        }
        status
    }

    fn ready_to_transfer(&mut self, header: &ReadyToTransfer, agreed: &Agreed, wrong: &mut Vec<String>) {
        let (tag, length) = (header.target_transfer_tag.get(), header.desired_data_transfer_length.get());
        let offset = header.buffer_offset.get();
        if !self.command.writes() || self.unsolicited_open {
            wrong.push("R2T-01: an R2T for data that is not to be asked for, or not yet".to_owned());
        }
        if length == 0 || length > agreed.max_burst_length {
            wrong.push(format!("R2T-01: {length} bytes with MaxBurstLength {}", agreed.max_burst_length));
        }
        if tag == RESERVED_TAG || self.outstanding.iter().any(|one| one.tag == tag) {
            wrong.push("R2T-01: the target transfer tag is reserved or in use".to_owned());
        }
        if std::mem::take(&mut self.taken_over) {
            (self.r2t_sn, self.next_out) = (header.r2t_sn.get(), offset.min(self.next_out));
        }
        let end = u64::from(offset) + u64::from(length);
        if end > u64::from(self.command.expected_data_transfer_length.get()) {
            wrong.push("R2T-01: beyond the expected length".to_owned());
        }
        let again = agreed.error_recovery_level > 0 && offset < self.next_out;
        if offset != self.next_out && !again {
            wrong.push(format!("R2T-05: from {offset} where {} was due", self.next_out));
        }
        if header.r2t_sn.get() != self.r2t_sn {
            wrong.push(format!("R2T-02: R2TSN {} where {} was due", header.r2t_sn.get(), self.r2t_sn));
        }
        if header.lun != self.command.lun {
            wrong.push("PDU-16: the LUN is not the task's".to_owned());
        }
        self.r2t_sn += 1;
        self.next_out = offset.saturating_add(length);
        if again {
            // A recovery R2T takes the place of the one whose data was lost.
            self.outstanding.clear();
        }
        self.outstanding.push(Outstanding { tag, left: length });
        if self.outstanding.len() as u32 > agreed.max_outstanding_r2t {
            wrong.push(format!("R2T-02: {} R2Ts are outstanding", self.outstanding.len()));
        }
    }

    fn response(&mut self, header: &ScsiResponse, data: &[u8], wrong: &mut Vec<String>) {
        if header.response != 0 {
            return wrong.push(format!("RSP-01: response {:02x}", header.response));
        }
        if self.unsolicited_open || !self.outstanding.is_empty() {
            wrong.push("DAT-09: a response before the last data-out".to_owned());
        }
        let numbers = self.data_sn + self.r2t_sn;
        if header.exp_data_sn.get() != numbers && !self.taken_over {
            wrong.push(format!("RSP-08: ExpDataSN {} after {numbers} PDUs", header.exp_data_sn.get()));
        }
        if self.burst != 0 {
            wrong.push("DAT-10: the last Data-In has no F".to_owned());
        }
        if header.status == 0x02 {
            match data {
                [high, low, sense @ ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    if length == 0 || length > sense.len() {
                        wrong.push(format!("RSP-02: SenseLength {length} in {} bytes", sense.len()));
                    }
                }
                _ => wrong.push("RSP-02: CHECK CONDITION without sense data".to_owned()),
            }
        }
        if !(self.command.reads() && self.command.writes())
            && (header.flags & 0x18 != 0 || header.bidirectional_read_residual_count.get() != 0)
        {
            wrong.push("RSP-04: a bidirectional residual".to_owned());
        }
        self.residual(header.flags, header.residual_count.get(), header.status, wrong);
    }

    fn residual(&self, flags: u8, count: u32, status: u8, wrong: &mut Vec<String>) {
        let (overflow, underflow) = (flags & 0x04 != 0, flags & 0x02 != 0);
        if overflow && underflow || (overflow || underflow) != (count != 0) {
            wrong.push(format!("RSP-04: flags {flags:02x} with residual {count}"));
        }
        let expected = self.command.expected_data_transfer_length.get();
        if underflow && count > expected {
            wrong.push("RSP-04: an underflow of more than was expected".to_owned());
        }
        let reads = self.command.reads() && !self.command.writes();
        let due = if underflow { expected.saturating_sub(count) } else { expected };
        if reads && status == 0 && self.received != due {
            wrong.push(format!("RSP-04: {} bytes came, the residual says {due}", self.received));
        }
    }
}

/// Command numbers that a function may have counted as received, from when it was asked for: the command that it
/// aborts, or all holes below a reset of the target (RFC 7143 §4.2.3.3, §11.5.1). `expected` is the last ExpCmdSN.
pub(super) fn plugs(request: &TaskManagementRequest, expected: u32) -> Range<u32> {
    let named = request.ref_cmd_sn.get();
    match request.function & 0x7f {
        1 => named..named.wrapping_add(1),
        6 | 7 => expected..request.cmd_sn.get(),
        _ => 0..0,
    }
}

/// Task management functions that were asked for.
#[derive(Debug, Default)]
pub(super) struct Functions(HashMap<u32, (TaskManagementRequest, u64)>);

impl Functions {
    pub fn asked(&mut self, request: &TaskManagementRequest, tasks: &Tasks) {
        self.0.entry(request.initiator_task_tag.get()).or_insert((*request, tasks.sent));
    }

    /// One with a tag that was in use leaves the other alone.
    pub fn rejected(&mut self, tag: u32, function: u8) {
        if self.0.get(&tag).is_some_and(|request| request.0.function == function) {
            self.0.remove(&tag);
        }
    }

    /// Takes a response; tasks that it covers must not be answered any more (TMF-02).
    pub fn answered(&mut self, frame: &Frame, tasks: &mut Tasks) -> Result<(), String> {
        let response = TaskManagementResponse::view(frame.basic());
        let (request, place) = self
            .0
            .remove(&response.initiator_task_tag.get())
            .ok_or("a task management response that nobody asked for")?;
        if response.response != 0 {
            return Ok(());
        }
        let cmd_sn = request.cmd_sn.get();
        match request.function & 0x7f {
            1 => tasks.abort(request.referenced_task_tag.get()),
            2 | 4 | 5 => tasks.abort_older(Some(request.lun), cmd_sn, place),
            6 | 7 => tasks.abort_older(None, cmd_sn, place),
            _ => {}
        }
        Ok(())
    }
}
