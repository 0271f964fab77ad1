//! What comes from the initiator: header by header, in whatever order the connections bring it.

use super::connection::{ConnectionId, Outgoing};
use super::task::{Base, DataOutFault, Phase, Task, TaskId, Unsolicited};
use super::window::Arrival;
use super::{ConnectionError, Event, Session, SessionKind};
use crate::wire::{
    self, AdditionalHeader, AdditionalHeaders, BHS_BYTES, CONTINUE, DataOut, FINAL, Header, LogoutRequest, NopOut,
    Opcode, Pdu, RESERVED_TAG, RejectReason, ScsiCommand, SnackRequest, TaskManagementRequest, TextRequest,
    extended_cdb, padding,
};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// Where the bytes of a data segment belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the task's memory, at this offset.
    Task {
        /// The task.
        task: TaskId,
        /// Byte offset within its data.
        offset: u32,
    },
    /// In the connection's small arena: hand them to [`Session::collect`].
    Arena,
    /// Nowhere: read and forget.
    Discard,
}

/// The data segment that follows a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// Where it belongs.
    pub place: Place,
    /// Its bytes, without padding. Zero: there is none, and the PDU has been handled.
    pub length: u32,
    /// Bytes of padding behind it.
    pub padding: u32,
    /// Whether a data digest follows.
    pub digest: bool,
}

/// A PDU whose header has been seen and whose data segment is being received.
#[derive(Debug)]
pub(super) enum Pending {
    /// A command whose immediate data is coming, with its header in case its digest does not match.
    Command { task: TaskId, header: ScsiCommand },
    /// A Data-Out whose data counts, with its header in case its digest does not match.
    DataOut { task: TaskId, header: DataOut },
    /// A request that is acted upon when its data is complete.
    Request(Deferred),
    /// To be answered with a Reject behind its data.
    Reject(RejectReason, Box<[u8]>),
    /// To be ignored.
    Ignore,
}

/// A request that may have to wait for its turn in CmdSN order.
#[derive(Debug)]
pub(super) enum Deferred {
    /// The command is delivered.
    Command(TaskId),
    /// A number that was aborted before its command came (RFC 7143 §11.5.1).
    Plug,
    /// A ping.
    Ping { c: ConnectionId, header: NopOut, data: Vec<u8> },
    /// Text.
    Text { c: ConnectionId, header: TextRequest, text: Vec<u8> },
    /// A task management function.
    TaskManagement { c: ConnectionId, header: TaskManagementRequest },
    /// A logout.
    Logout { c: ConnectionId, header: LogoutRequest },
}

/// Text and ping data of one PDU: as much as our MaxRecvDataSegmentLength lets come.
const ARENA_BYTES: usize = 256 << 10;
/// Rejects are counted for so long.
const REJECTS_TIME: Duration = Duration::from_secs(60);

impl Session {
    /// How many bytes the header segments take, additional headers and digest included, told from
    /// the first 48 of them. Between 48 and 1,072.
    pub fn header_bytes(&self, c: ConnectionId, first: &[u8; BHS_BYTES]) -> usize {
        let digest = self.connection(c).is_some_and(|connection| connection.parameters.header_digest);
        wire::header_bytes(first, digest)
    }

    /// Takes a header with its additional segments, without its digest. Returns where the data
    /// segment belongs; without one the PDU has been handled.
    pub fn handle_header(
        &mut self,
        now: Instant,
        c: ConnectionId,
        header: &[u8],
        digest_ok: bool,
    ) -> Result<Incoming, ConnectionError> {
        let Ok((basic, additional)) = Header::ref_from_prefix(header) else {
            return Err(ConnectionError::Format("a header shorter than 48 bytes"));
        };
        let length = basic.data_segment_bytes();
        let keeps = self.keeps();
        let connection = self.connection_mut(c).ok_or(ConnectionError::Format("a closed connection"))?;
        if !digest_ok {
            return connection.skip(length, keeps);
        }
        connection.probation = false;
        connection.heard(now);
        if length > connection.parameters.max_recv_data_segment_length {
            return Err(ConnectionError::Format("DataSegmentLength above the declared MaxRecvDataSegmentLength"));
        }
        let digest = connection.parameters.data_digest && length > 0;
        self.acknowledged_by(c, basic)?;
        let pending = self.begin(c, basic, additional, header)?;
        let place = match &pending {
            Pending::Command { task, .. } => Place::Task { task: *task, offset: 0 },
            Pending::DataOut { task, header } => Place::Task { task: *task, offset: header.buffer_offset.get() },
            Pending::Request(_) => Place::Arena,
            Pending::Reject(..) | Pending::Ignore => Place::Discard,
        };
        let connection = self.connection_mut(c).ok_or(ConnectionError::Format("a closed connection"))?;
        connection.pending = Some(pending);
        connection.collected.clear();
        if length == 0 {
            self.handle_data_end(c, true)?;
        }
        Ok(Incoming { place, length, padding: padding(length), digest })
    }

    /// Takes ExpStatSN, which stands at one place in all that an initiator sends.
    pub(super) fn acknowledged_by(&mut self, c: ConnectionId, basic: &Header) -> Result<(), ConnectionError> {
        let exp_stat_sn = NopOut::view(basic).exp_stat_sn.get();
        // A logout speaks of the connection that it names (§11.14.4); a DataACK, of a task that its own
        // ExpStatSN may end.
        const LOGOUT: u8 = Opcode::LogoutRequest as u8;
        const SNACK: u8 = Opcode::SnackRequest as u8;
        match basic.opcode() {
            LOGOUT | SNACK => Ok(()),
            _ => self.acknowledge(c, exp_stat_sn),
        }
    }

    /// Bytes of a data segment that belongs in [`Place::Arena`], as they come.
    pub fn collect(&mut self, c: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connection_mut(c) {
            let room = ARENA_BYTES.saturating_sub(connection.collected.len());
            connection.collected.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
    }

    /// The data segment is complete, and its digest, where there is one, did or did not match.
    pub fn handle_data_end(&mut self, c: ConnectionId, digest_ok: bool) -> Result<(), ConnectionError> {
        let Some(connection) = self.connection_mut(c) else { return Ok(()) };
        match connection.pending.take() {
            None | Some(Pending::Ignore) => Ok(()),
            Some(Pending::Reject(reason, header)) => self.reject(c, reason, header),
            Some(Pending::Command { task, header }) if !digest_ok => {
                // The command counts as not received (§7.8): its number stays a gap.
                self.never_came(task);
                self.spoiled(c, header.as_bytes().into())
            }
            Some(Pending::Command { task, header }) => {
                match self.tasks.get(task) {
                    Some(_) => self.deliver_command(task),
                    // A function has ended it while its data came: its number is used up all the same.
                    None if header.header().immediate() => {}
                    None => {
                        self.plug(header.cmd_sn.get());
                    }
                }
                Ok(())
            }
            Some(Pending::DataOut { task, header }) => {
                if !digest_ok {
                    self.reject(c, RejectReason::DataDigestError, header.as_bytes().into())?;
                    self.data_out_spoiled(task, &header);
                }
                self.data_out_arrived(task, &header);
                Ok(())
            }
            Some(Pending::Request(request)) if !digest_ok => {
                let header = request_header(&request);
                self.spoiled(c, header)
            }
            Some(Pending::Request(request)) => {
                let collected = std::mem::take(&mut connection.collected);
                self.request_complete(with_data(request, collected))
            }
        }
    }

    /// A request counts as not received because its data digest does not match (§7.8).
    fn spoiled(&mut self, c: ConnectionId, header: Box<[u8]>) -> Result<(), ConnectionError> {
        let level = self.parameters.error_recovery_level;
        if let Some(connection) = self.connection_mut(c)
            && level == 0
            && let Ok((basic, _)) = Header::ref_from_prefix(&header)
            && !basic.immediate()
        {
            connection.gap(ScsiCommand::view(basic).cmd_sn.get());
        }
        self.reject(c, RejectReason::DataDigestError, header)
    }

    fn begin(
        &mut self,
        c: ConnectionId,
        basic: &Header,
        additional: &[u8],
        header: &[u8],
    ) -> Result<Pending, ConnectionError> {
        let rejected = |reason| Ok(Pending::Reject(reason, header.into()));
        let Some(opcode) = Opcode::from_number(basic.opcode()) else {
            return rejected(RejectReason::CommandNotSupported);
        };
        if self.kind == SessionKind::Discovery && !matches!(opcode, Opcode::TextRequest | Opcode::LogoutRequest) {
            return rejected(RejectReason::ProtocolError);
        }
        if opcode != Opcode::ScsiCommand && !additional.is_empty() {
            return Err(ConnectionError::Format("additional header segments where none belong"));
        }
        match opcode {
            Opcode::ScsiCommand => self.begin_command(c, ScsiCommand::view(basic), additional, header),
            Opcode::DataOut => Ok(self.begin_data_out(c, DataOut::view(basic))),
            Opcode::NopOut => {
                let header = *NopOut::view(basic);
                if header.initiator_task_tag.get() == RESERVED_TAG && !basic.immediate() {
                    return rejected(RejectReason::ProtocolError);
                }
                Ok(Pending::Request(Deferred::Ping { c, header, data: Vec::new() }))
            }
            Opcode::TextRequest => {
                let request = *TextRequest::view(basic);
                if request.flags & CONTINUE != 0 && request.flags & FINAL != 0 {
                    return rejected(RejectReason::ProtocolError);
                }
                Ok(Pending::Request(Deferred::Text { c, header: request, text: Vec::new() }))
            }
            Opcode::TaskManagementRequest if basic.data_segment_bytes() == 0 => {
                Ok(Pending::Request(Deferred::TaskManagement { c, header: *TaskManagementRequest::view(basic) }))
            }
            Opcode::LogoutRequest if basic.data_segment_bytes() == 0 => {
                Ok(Pending::Request(Deferred::Logout { c, header: *LogoutRequest::view(basic) }))
            }
            Opcode::TaskManagementRequest | Opcode::LogoutRequest => rejected(RejectReason::InvalidPduField),
            // At recovery level 0 there is nothing to send again (§11.16, ERL-03).
            Opcode::SnackRequest if !self.keeps() => rejected(RejectReason::CommandNotSupported),
            Opcode::SnackRequest if basic.data_segment_bytes() == 0 => {
                let request = *SnackRequest::view(basic);
                self.snack(c, &request)?;
                self.acknowledge(c, request.exp_stat_sn.get())?;
                Ok(Pending::Ignore)
            }
            Opcode::SnackRequest => rejected(RejectReason::InvalidPduField),
            Opcode::LoginRequest => Err(ConnectionError::Format("a login request in the full feature phase")),
            Opcode::NopIn
            | Opcode::ScsiResponse
            | Opcode::TaskManagementResponse
            | Opcode::LoginResponse
            | Opcode::TextResponse
            | Opcode::DataIn
            | Opcode::LogoutResponse
            | Opcode::ReadyToTransfer
            | Opcode::AsyncMessage
            | Opcode::Reject => rejected(RejectReason::ProtocolError),
        }
    }

    fn begin_command(
        &mut self,
        c: ConnectionId,
        command: &ScsiCommand,
        additional: &[u8],
        header: &[u8],
    ) -> Result<Pending, ConnectionError> {
        let immediate = command.header().immediate();
        if command.flags & FINAL == 0 && !command.writes() {
            return Err(ConnectionError::Format("a SCSI command with neither F nor W"));
        }
        let mut extension = None;
        let mut bidirectional_read_length = None;
        for segment in AdditionalHeaders::new(additional) {
            match segment {
                Ok(AdditionalHeader::ExtendedCdb(rest)) => extension = Some(rest),
                Ok(AdditionalHeader::BidirectionalReadLength(length)) => bidirectional_read_length = Some(length),
                Ok(AdditionalHeader::Unknown(_)) => {}
                Err(()) => return Err(ConnectionError::Format("additional header segments that do not add up")),
            }
        }
        if !immediate && self.window.classify(command.cmd_sn.get()) == Arrival::Ignored {
            self.limits.struck.window.count();
            return Ok(Pending::Ignore);
        }
        if command.reads() && command.writes() && bidirectional_read_length.is_none() || command.attribute() > 4 {
            return Ok(Pending::Reject(RejectReason::InvalidPduField, header.into()));
        }
        let tag = command.initiator_task_tag.get();
        if tag == RESERVED_TAG {
            return Ok(Pending::Reject(RejectReason::InvalidPduField, header.into()));
        }
        if let Some(other) = self.tasks.by_tag(tag) {
            if self.tasks.get(other).is_none_or(|task| task.kept.is_none()) {
                return Ok(Pending::Reject(RejectReason::TaskInProgress, header.into()));
            }
            // Its initiator has had the status, whose acknowledgment is on its way on another connection.
            self.tasks.free_tag(other);
            self.let_go(other);
        }
        if self.logging_out {
            return Ok(Pending::Reject(RejectReason::WaitingForLogout, header.into()));
        }
        if immediate && self.tasks.immediate() >= self.limits.immediate {
            self.limits.struck.immediate.count();
            return Ok(Pending::Reject(RejectReason::ImmediateCommandReject, header.into()));
        }
        let length = command.header().data_segment_bytes();
        let expected = if command.writes() { command.expected_data_transfer_length.get() } else { 0 };
        let unsolicited_limit = self.parameters.first_burst_length.min(expected);
        let more = command.writes() && command.flags & FINAL == 0;
        let beyond = length > 0 && (!self.parameters.immediate_data || length > unsolicited_limit);
        let fault = (beyond || more && self.parameters.initial_r2t).then_some(DataOutFault::UnexpectedUnsolicitedData);
        let task = Task {
            connection: c,
            phase: Phase::Arriving,
            immediate,
            holds_credit: false,
            cmd_sn: command.cmd_sn.get(),
            initiator_task_tag: tag,
            flags: command.flags,
            received: if fault.is_none() { length } else { 0 },
            unsolicited: more.then_some(Unsolicited { limit: unsolicited_limit, next_data_sn: 0, broken: false }),
            wanted: None,
            granted: 0,
            grants: Vec::new(),
            r2t_sn: 0,
            r2t_queued: false,
            fault,
            response: None,
            answer_queued: false,
            in_batch: false,
            sent: 0,
            data_sn: 0,
            base: Base::default(),
            acknowledged_data_sn: 0,
            answered_r2t_sn: 0,
            superseded: false,
            overtook: false,
            data_told: false,
            recoveries: 0,
            kept: None,
            let_go: false,
            snack_tag: 0,
            stat_sn: None,
            managed_by: Vec::new(),
            lun: command.lun,
            cdb: command.cdb,
            extended_cdb: extension.map(|rest| extended_cdb(&command.cdb, rest)),
            expected_data_transfer_length: command.expected_data_transfer_length.get(),
            bidirectional_read_length: bidirectional_read_length.unwrap_or(0),
            priority: if self.parameters.protocol_level >= 2 { command.priority >> 4 } else { 0 },
        };
        if more && self.keeps() {
            let heard = self.connections.get(c).map(|connection| connection.last_heard);
            heard.into_iter().for_each(|heard| self.watch_data(heard));
        }
        Ok(Pending::Command { task: self.tasks.insert(task), header: *command })
    }

    /// A command with its immediate data is here; it is delivered now or in its turn.
    fn deliver_command(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.immediate {
            self.start(id);
            return;
        }
        if task.phase != Phase::Arriving {
            // It was aborted while its data came, and its number is used.
            return;
        }
        let cmd_sn = task.cmd_sn;
        match self.window.classify(cmd_sn) {
            Arrival::Next => {
                task.holds_credit = true;
                self.window.take_credit();
                self.in_turn(Deferred::Command(id));
            }
            Arrival::Early => {
                task.holds_credit = true;
                self.window.take_credit();
                self.window.keep(cmd_sn, Deferred::Command(id));
            }
            // Another connection of the session brought the same number while this one's data came.
            Arrival::Ignored => self.never_came(id),
        }
    }

    /// A command is forgotten that nobody was told of.
    fn never_came(&mut self, id: TaskId) {
        self.forgive_data(id);
        self.release(id);
    }

    fn start(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.phase != Phase::Arriving {
            return;
        }
        let (lun, cmd_sn, numbered) = (task.lun, task.cmd_sn, !task.immediate);
        if numbered && self.is_passed(lun, cmd_sn) {
            self.forgive_data(id);
            return self.end_task(id);
        }
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.phase = Phase::Active;
        if task.fault.is_some() {
            self.data_settled(id);
        } else {
            self.events.push_back(Event::Command(id));
        }
    }

    fn request_complete(&mut self, request: Deferred) -> Result<(), ConnectionError> {
        let (cmd_sn, immediate) = match &request {
            Deferred::Ping { header, .. } => (header.cmd_sn.get(), header.header().immediate()),
            Deferred::Text { header, .. } => (header.cmd_sn.get(), header.header().immediate()),
            Deferred::TaskManagement { header, .. } => (header.cmd_sn.get(), header.header().immediate()),
            Deferred::Logout { header, .. } => (header.cmd_sn.get(), header.header().immediate()),
            Deferred::Command(_) | Deferred::Plug => return Ok(()),
        };
        if immediate {
            return self.act(request);
        }
        match self.window.classify(cmd_sn) {
            Arrival::Next => {
                self.in_turn(request);
                Ok(())
            }
            Arrival::Early if self.window.early_bytes() + request.bytes() > self.limits.early_bytes => {
                self.limits.struck.early_bytes.count();
                Err(ConnectionError::Limit("bytes of requests before their turn"))
            }
            Arrival::Early => {
                self.window.keep(cmd_sn, request);
                Ok(())
            }
            Arrival::Ignored => {
                self.limits.struck.window.count();
                Ok(())
            }
        }
    }

    /// The request with the expected number, and whatever waited behind it.
    pub(super) fn in_turn(&mut self, request: Deferred) {
        let mut next = Some(request);
        while let Some(request) = next.take() {
            let c = match &request {
                Deferred::Command(_) | Deferred::Plug => None,
                Deferred::Ping { c, .. }
                | Deferred::Text { c, .. }
                | Deferred::TaskManagement { c, .. }
                | Deferred::Logout { c, .. } => Some(*c),
            };
            let refused = |session: &Session| c.and_then(|c| session.connection(c)).map_or(0, |c| c.refused);
            let before = refused(self);
            if self.act(request).is_err()
                && let Some(connection) = c.and_then(|c| self.connection_mut(c))
            {
                connection.closing = true;
            }
            if refused(self) != before {
                // What was rejected counts as not received: its number stays a gap (CSN-12).
                return;
            }
            next = self.window.advance();
            // A function comes before the commands that were sent behind it.
            self.functions_are_due();
        }
    }

    fn act(&mut self, request: Deferred) -> Result<(), ConnectionError> {
        match request {
            Deferred::Command(task) => {
                self.start(task);
                Ok(())
            }
            Deferred::Plug => Ok(()),
            Deferred::Ping { c, header, data } => {
                self.ping(c, &header, data);
                Ok(())
            }
            Deferred::Text { c, header, text } => self.text(c, &header, &text),
            Deferred::TaskManagement { c, header } => self.task_management(c, &header),
            Deferred::Logout { c, header } => self.logout(c, &header),
        }
    }

    /// Queues a Reject with the header of what is refused.
    pub(super) fn reject(
        &mut self,
        c: ConnectionId,
        reason: RejectReason,
        header: Box<[u8]>,
    ) -> Result<(), ConnectionError> {
        self.reject_with(c, reason, header, 0)
    }

    /// The same with the next number of the task's data (§11.17.2).
    pub(super) fn reject_with(
        &mut self,
        c: ConnectionId,
        reason: RejectReason,
        header: Box<[u8]>,
        data_sn: u32,
    ) -> Result<(), ConnectionError> {
        let limit = self.limits.rejects;
        if let Some(connection) = self.connection_mut(c) {
            let now = connection.last_heard;
            if now.saturating_duration_since(connection.rejects_since) > REJECTS_TIME {
                (connection.rejects, connection.rejects_since) = (0, now);
            }
            connection.rejects += 1;
            connection.refused = connection.refused.wrapping_add(1);
            if connection.rejects > limit {
                self.limits.struck.rejects.count();
                return Err(ConnectionError::Limit("rejected PDUs"));
            }
            connection.queue(Outgoing::Reject { reason, header, data_sn });
        }
        Ok(())
    }
}

impl Deferred {
    /// Whether it came on this connection; of a command `is_its` tells.
    pub(super) fn is_of(&self, connection: ConnectionId, is_its: impl Fn(TaskId) -> bool) -> bool {
        match self {
            Deferred::Command(id) => is_its(*id),
            Deferred::Plug => false,
            Deferred::Ping { c, .. }
            | Deferred::Text { c, .. }
            | Deferred::TaskManagement { c, .. }
            | Deferred::Logout { c, .. } => *c == connection,
        }
    }

    /// Bytes that it holds beyond its header.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Deferred::Ping { data, .. } => data.len(),
            Deferred::Text { text, .. } => text.len(),
            _ => 0,
        }
    }
}

fn with_data(request: Deferred, collected: Vec<u8>) -> Deferred {
    match request {
        Deferred::Ping { c, header, .. } => Deferred::Ping { c, header, data: collected },
        Deferred::Text { c, header, .. } => Deferred::Text { c, header, text: collected },
        other => other,
    }
}

fn request_header(request: &Deferred) -> Box<[u8]> {
    match request {
        Deferred::Ping { header, .. } => header.as_bytes().into(),
        Deferred::Text { header, .. } => header.as_bytes().into(),
        Deferred::TaskManagement { header, .. } => header.as_bytes().into(),
        Deferred::Logout { header, .. } => header.as_bytes().into(),
        Deferred::Command(_) | Deferred::Plug => Box::default(),
    }
}
