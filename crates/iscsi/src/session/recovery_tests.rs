//! The rig of the tests of recovery and of several connections: a scripted initiator that speaks in headers.

mod across_tests;
mod hostile_tests;
mod within_tests;

use super::*;
use crate::key::TaskReporting;
use crate::wire::{
    self, AsyncMessage, DataIn, DataOut, Header, IMMEDIATE, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, Pdu,
    RESERVED_TAG, ReadyToTransfer, Reject, ScsiCommand, ScsiResponse, SnackRequest, TaskManagementRequest,
    TaskManagementResponse,
};
use task_management_response as code;
use zerocopy::{FromBytes, IntoBytes};

struct Rig {
    session: Session,
    now: Instant,
}

fn opening(cid: u16) -> Opening {
    Opening {
        cid,
        parameters: ConnectionParameters { max_send_data_segment_length: 4096, ..Default::default() },
        next_stat_sn: 100,
    }
}

/// A session of this level; its first connection has CID 1 and StatSN 100, its first command CmdSN 10.
fn rig(level: u32) -> (Rig, ConnectionId) {
    let parameters = SessionParameters {
        error_recovery_level: level,
        max_connections: 4,
        max_burst_length: 8192,
        immediate_data: false,
        ..Default::default()
    };
    of(parameters)
}

fn of(parameters: SessionParameters) -> (Rig, ConnectionId) {
    let now = Instant::now();
    let limits = SessionLimits { window: 8, retained_bytes: 64 << 10, ..Default::default() };
    let (session, c) = Session::new(SessionKind::Normal, parameters, limits, 10, opening(1), now);
    (Rig { session, now }, c)
}

fn command(tag: u32, cmd_sn: u32, flags: u8, expected: u32) -> ScsiCommand {
    let mut command = ScsiCommand::empty();
    command.flags = 0x80 | flags;
    command.initiator_task_tag = tag.into();
    command.cmd_sn = cmd_sn.into();
    command.exp_stat_sn = 100.into();
    command.expected_data_transfer_length = expected.into();
    command
}

fn snack(kind: u8, tag: u32, begin: u32, length: u32) -> SnackRequest {
    let mut snack = SnackRequest::empty();
    snack.kind = 0x80 | kind;
    snack.initiator_task_tag = tag.into();
    snack.target_transfer_tag = RESERVED_TAG.into();
    snack.beg_run = begin.into();
    snack.run_length = length.into();
    snack.exp_stat_sn = 100.into();
    snack
}

fn ping(exp_stat_sn: u32) -> NopOut {
    let mut ping = NopOut::empty();
    ping.opcode_byte |= IMMEDIATE;
    ping.initiator_task_tag = RESERVED_TAG.into();
    ping.target_transfer_tag = RESERVED_TAG.into();
    ping.exp_stat_sn = exp_stat_sn.into();
    ping
}

fn function(tag: u32, function: u8, referenced: u32, cmd_sn: u32) -> TaskManagementRequest {
    let mut request = TaskManagementRequest::empty();
    request.opcode_byte |= IMMEDIATE;
    request.function = 0x80 | function;
    request.initiator_task_tag = tag.into();
    request.referenced_task_tag = referenced.into();
    request.cmd_sn = cmd_sn.into();
    request.exp_stat_sn = 100.into();
    request
}

fn logout(tag: u32, reason: u8, cid: u16) -> LogoutRequest {
    let mut request = LogoutRequest::empty();
    request.opcode_byte |= IMMEDIATE;
    request.reason = 0x80 | reason;
    request.initiator_task_tag = tag.into();
    request.cid = cid.into();
    request.exp_stat_sn = 100.into();
    request
}

fn data_out(asked: &ReadyToTransfer, data_sn: u32, offset: u32, length: u32, last: bool) -> DataOut {
    let mut data = DataOut::empty();
    data.flags = if last { 0x80 } else { 0 };
    data.initiator_task_tag = asked.initiator_task_tag;
    data.target_transfer_tag = asked.target_transfer_tag;
    data.data_sn = data_sn.into();
    data.buffer_offset = offset.into();
    data.exp_stat_sn = 100.into();
    data.set_data_segment_bytes(length);
    data
}

impl Rig {
    fn send(&mut self, c: ConnectionId, pdu: &impl Pdu) {
        self.send_digest(c, pdu, true).expect("no reason to close");
    }

    fn send_digest(&mut self, c: ConnectionId, pdu: &impl Pdu, data_ok: bool) -> Result<Incoming, ConnectionError> {
        let incoming = self.session.handle_header(self.now, c, pdu.as_bytes(), true)?;
        if incoming.length > 0 {
            self.session.handle_data_end(c, data_ok)?;
        }
        Ok(incoming)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn the_command(&mut self) -> TaskId {
        let mut events = self.events();
        events.retain(|event| !matches!(event, Event::Ended(_) | Event::LoggedOut { .. }));
        match events[..] {
            [Event::Command(task)] => task,
            ref other => panic!("expected one command, got {other:?}"),
        }
    }

    /// What the target sends on the connection now.
    fn receive(&mut self, c: ConnectionId) -> Vec<Header> {
        let mut headers = Vec::new();
        loop {
            let mut batch = TxBatch::default();
            self.session.poll_transmit(c, &mut batch);
            if batch.is_empty() {
                return headers;
            }
            let mut arena = Vec::new();
            for segment in &batch.segments {
                if let Segment::Arena(range) = segment {
                    arena.extend_from_slice(&batch.arena[range.clone()]);
                }
            }
            let mut rest = &arena[..];
            while let Ok((header, behind)) = Header::read_from_prefix(rest) {
                let small = if header.opcode() == Opcode::DataIn as u8 { 0 } else { header.data_segment_bytes() };
                rest = &behind[(small + wire::padding(small)) as usize..];
                headers.push(header);
            }
            self.session.transmitted(&batch);
        }
    }

    /// A read of this many bytes that was answered.
    fn read(&mut self, c: ConnectionId, tag: u32, cmd_sn: u32, length: u32) -> (TaskId, Vec<Header>) {
        self.send(c, &command(tag, cmd_sn, 0x40, length));
        let task = self.the_command();
        self.session.complete(task, good_in(length));
        (task, self.receive(c))
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        assert_eq!(self.session.handle_timeout(self.now), None);
    }
}

fn good_in(length: u32) -> Response {
    Response { data_in: length, transfer_length: length.into(), ..Default::default() }
}

fn good_out(length: u32) -> Response {
    Response { transfer_length: length.into(), outward: true, ..Default::default() }
}

/// Without the numbers of the window, which a replay has as they are then.
fn replica(header: &Header) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes[28..36].fill(0);
    bytes
}

fn rejected(pdus: &[Header]) -> Vec<u8> {
    let rejects = pdus.iter().filter(|pdu| pdu.opcode() == Opcode::Reject as u8);
    rejects.map(|pdu| Reject::view(pdu).reason).collect()
}
