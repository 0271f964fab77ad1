//! What comes from the target: header by header, in whatever order the connections bring it.

use super::connection::ConnectionId;
use super::connection::Status;
use super::management::Asked;
use super::{Event, Session};
use crate::session::{ConnectionError, Incoming, Place, TaskId};
use crate::wire::{
    self, AsyncMessage, BHS_BYTES, DataIn, Header, LogoutResponse, NopIn, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer,
    Reject, RejectReason, ScsiCommand, ScsiResponse, SnackRequest, TaskManagementResponse, TextResponse, padding,
};
use std::time::Instant;
use zerocopy::FromBytes;

/// A PDU whose header has been seen and whose data segment is being received.
#[derive(Debug)]
pub(super) enum Pending {
    /// Data for a task.
    DataIn(TaskId, DataIn),
    /// Data that has been here before, or of a task that is over; its status may be new.
    OldData(DataIn),
    /// Nothing is made of it: the connection is to be closed.
    Ignored,
    /// All else, which is acted upon when its data is complete.
    Other(Header),
}

/// Bytes of text, sense data and the like in one PDU; MaxRecvDataSegmentLength lets in as much.
const ARENA_BYTES: usize = 1 << 24;
/// PDUs that wait for status that was sent before them.
const HELD: usize = 64;
/// PDUs that wait to be sent, beyond what commands need.
const OUTGOING: usize = 1 << 15;

impl Session {
    /// How many bytes the header segments take, additional headers and digest included, told from
    /// the first 48 of them. Between 48 and 1,072.
    pub fn header_bytes(&self, c: ConnectionId, first: &[u8; BHS_BYTES]) -> usize {
        let digest = self.connection(c).is_some_and(|connection| connection.parameters.header_digest);
        wire::header_bytes(first, digest)
    }

    /// Takes a header with its additional segments, without its digest. Returns where the data
    /// segment belongs; without one the PDU has been handled. An error costs the connection, a format error
    /// the whole session (§7.7).
    pub fn handle_header(
        &mut self,
        now: Instant,
        c: ConnectionId,
        header: &[u8],
        digest_ok: bool,
    ) -> Result<Incoming, ConnectionError> {
        let incoming = self.begin(now, c, header, digest_ok);
        self.judge(c, incoming)
    }

    fn begin(
        &mut self,
        now: Instant,
        c: ConnectionId,
        header: &[u8],
        digest_ok: bool,
    ) -> Result<Incoming, ConnectionError> {
        let Ok((basic, additional)) = Header::ref_from_prefix(header) else {
            return Err(ConnectionError::Format("a header shorter than 48 bytes"));
        };
        if !digest_ok {
            return Err(ConnectionError::HeaderDigest);
        }
        let length = basic.data_segment_bytes();
        self.heard = now;
        let connection = self.connection_mut(c).ok_or(ConnectionError::Format("a closed connection"))?;
        connection.last_heard = now;
        connection.collected.clear();
        if length > connection.parameters.max_recv_data_segment_length {
            return Err(ConnectionError::Format("DataSegmentLength above the declared MaxRecvDataSegmentLength"));
        }
        if !additional.is_empty() {
            return Err(ConnectionError::Format("additional header segments from a target"));
        }
        let digest = connection.parameters.data_digest && length > 0;
        let closing = connection.closing;
        let opcode = Opcode::from_number(basic.opcode()).filter(|opcode| *opcode as u8 >= 0x20);
        let (pending, place) = match opcode.ok_or(ConnectionError::Format("an opcode that no target sends"))? {
            _ if closing => (Pending::Ignored, Place::Discard),
            Opcode::DataIn => self.begin_data_in(c, DataIn::view(basic))?,
            Opcode::LoginResponse => {
                return Err(ConnectionError::Format("a login response in the full feature phase"));
            }
            Opcode::TaskManagementResponse | Opcode::LogoutResponse | Opcode::ReadyToTransfer if length > 0 => {
                return Err(ConnectionError::Format("a data segment where none belongs"));
            }
            _ => (Pending::Other(*basic), Place::Arena),
        };
        if let Some(connection) = self.connection_mut(c) {
            connection.pending = Some(pending);
        }
        if length == 0 {
            self.data_end(c, true)?;
        }
        Ok(Incoming { place, length, padding: padding(length), digest })
    }

    /// Bytes of a data segment that belongs in [`Place::Arena`], as they come.
    pub fn collect(&mut self, c: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connection_mut(c) {
            let room = ARENA_BYTES.saturating_sub(connection.collected.len());
            connection.collected.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
    }

    /// A format error ends the session on all of its connections. What waits to be sent is bounded, however
    /// much the target makes us say and however little of it it reads.
    fn judge<T>(&mut self, c: ConnectionId, done: Result<T, ConnectionError>) -> Result<T, ConnectionError> {
        if let Err(ConnectionError::Format(_)) = done {
            self.end();
        }
        let commands = self.limits.commands.min(super::task::TASKS) as usize;
        let limit = OUTGOING + commands * (2 + self.parameters.max_outstanding_r2t.min(64) as usize);
        match self.connection(c) {
            Some(connection) if connection.outgoing.len() > limit => {
                Err(ConnectionError::Limit("what the target makes us say"))
            }
            _ => done,
        }
    }

    /// The data segment is complete, and its digest, where there is one, did or did not match.
    pub fn handle_data_end(&mut self, c: ConnectionId, digest_ok: bool) -> Result<(), ConnectionError> {
        let done = self.data_end(c, digest_ok);
        self.judge(c, done)
    }

    fn data_end(&mut self, c: ConnectionId, digest_ok: bool) -> Result<(), ConnectionError> {
        let Some(connection) = self.connection_mut(c) else { return Ok(()) };
        let Some(pending) = connection.pending.take() else { return Ok(()) };
        let data = std::mem::take(&mut connection.collected);
        if !digest_ok && !connection.closing {
            return self.damaged(c, &pending);
        }
        let done = match pending {
            Pending::DataIn(task, header) => self.data_in_arrived(c, task, &header),
            Pending::OldData(header) => self.old_data_arrived(c, &header),
            Pending::Ignored => Ok(()),
            Pending::Other(header) => self.arrived(c, &header, &data),
        };
        if let Some(connection) = self.connection_mut(c) {
            connection.collected = data;
        }
        done
    }

    /// The numbers that every PDU of a target carries at the same place.
    pub(super) fn numbers(&mut self, header: &Header) {
        let common = ScsiResponse::view(header);
        self.window.told(common.exp_cmd_sn.get(), common.max_cmd_sn.get());
    }

    /// Takes note of a status number; `Duplicate` means that the PDU is not to be acted upon again.
    pub(super) fn status(&mut self, c: ConnectionId, stat_sn: u32) -> Result<Status, ConnectionError> {
        let recovers = self.recovers();
        match self.connection_mut(c) {
            Some(connection) => connection.status(stat_sn, recovers),
            None => Ok(Status::Duplicate),
        }
    }

    fn arrived(&mut self, c: ConnectionId, header: &Header, data: &[u8]) -> Result<(), ConnectionError> {
        self.numbers(header);
        let Some(opcode) = Opcode::from_number(header.opcode()) else { return Ok(()) };
        let stat_sn = ScsiResponse::view(header).stat_sn.get();
        match opcode {
            Opcode::ReadyToTransfer => return self.ready_to_transfer(c, ReadyToTransfer::view(header)),
            Opcode::NopIn if header.initiator_task_tag.get() == RESERVED_TAG => {
                return self.target_ping(c, NopIn::view(header), data);
            }
            _ => {}
        }
        if self.status(c, stat_sn)? == Status::Duplicate {
            return Ok(());
        }
        match opcode {
            Opcode::ScsiResponse => self.scsi_response(c, ScsiResponse::view(header), data)?,
            Opcode::NopIn => self.pong(c, NopIn::view(header), data)?,
            Opcode::TextResponse => self.text_response(c, TextResponse::view(header), data)?,
            Opcode::Reject => self.rejected(c, Reject::view(header), data)?,
            // These speak of what went before them: they wait until that is here. The answer to a reassignment
            // speaks of what follows it.
            Opcode::TaskManagementResponse | Opcode::LogoutResponse | Opcode::AsyncMessage => {
                let in_order = self.connection(c).is_none_or(|connection| connection.is_in_order(stat_sn));
                match in_order || self.is_reassignment(header.initiator_task_tag.get()) {
                    true => self.in_order(c, header, data)?,
                    false if self.held.len() >= HELD => {
                        return Err(ConnectionError::Limit("PDUs that wait for status before them"));
                    }
                    false => self.held.push((c, *header, data.to_vec())),
                }
            }
            _ => return Err(ConnectionError::Format("an opcode that no target sends now")),
        }
        self.release_held(c)
    }

    /// What waited for earlier status, as far as that has come.
    pub(super) fn release_held(&mut self, c: ConnectionId) -> Result<(), ConnectionError> {
        loop {
            let ready = self.held.iter().position(|(of, header, _)| {
                let stat_sn = ScsiResponse::view(header).stat_sn.get();
                *of == c && self.connection(c).is_some_and(|connection| connection.is_in_order(stat_sn))
            });
            let Some(at) = ready else { return Ok(()) };
            let (c, header, data) = self.held.remove(at);
            self.in_order(c, &header, &data)?;
        }
    }

    fn in_order(&mut self, c: ConnectionId, header: &Header, data: &[u8]) -> Result<(), ConnectionError> {
        match Opcode::from_number(header.opcode()) {
            Some(Opcode::TaskManagementResponse) => {
                self.task_management_response(c, TaskManagementResponse::view(header))
            }
            Some(Opcode::LogoutResponse) => {
                self.logout_response(c, LogoutResponse::view(header));
                Ok(())
            }
            _ => self.async_message(c, AsyncMessage::view(header), data),
        }
    }

    /// The target refuses what we have sent (§11.17, §7.3).
    fn rejected(&mut self, c: ConnectionId, header: &Reject, data: &[u8]) -> Result<(), ConnectionError> {
        let Ok((refused, _)) = Header::ref_from_prefix(data) else {
            return Err(ConnectionError::Format("a reject without the header of what it rejects"));
        };
        let reason = RejectReason::from_number(header.reason).unwrap_or(RejectReason::ProtocolError);
        let tag = refused.initiator_task_tag.get();
        match Opcode::from_number(refused.opcode()) {
            Some(Opcode::ScsiCommand) => self.command_rejected(c, ScsiCommand::view(refused), reason),
            Some(Opcode::SnackRequest) => self.snack_rejected(c, SnackRequest::view(refused)),
            Some(Opcode::LogoutRequest) => Err(ConnectionError::Format("a logout was rejected")),
            Some(Opcode::TaskManagementRequest | Opcode::TextRequest | Opcode::NopOut) => {
                let Some(at) = self.requests.iter().position(|request| request.tag == tag) else { return Ok(()) };
                let request = self.requests.swap_remove(at);
                self.request_lost(&request);
                match request.asked {
                    Asked::Reassign(_) => Err(ConnectionError::Format("the target does not let a task be reassigned")),
                    _ => self.not_aborted(&request.asked),
                }
            }
            // The target recovers its data, or ends the task with an answer (§7.3).
            _ => Ok(()),
        }
    }

    fn target_ping(&mut self, c: ConnectionId, header: &NopIn, data: &[u8]) -> Result<(), ConnectionError> {
        if !data.is_empty() {
            return Err(ConnectionError::Format("a ping of the target's with data"));
        }
        let stat_sn = header.stat_sn.get();
        let recovers = self.recovers();
        let Some(connection) = self.connection_mut(c) else { return Ok(()) };
        if recovers {
            // It tells the next StatSN: what is below it has been sent (§7.1.4.2).
            connection.known_to_exist(stat_sn)?;
        }
        if header.target_transfer_tag.get() != RESERVED_TAG {
            self.answer_ping(c, header);
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
