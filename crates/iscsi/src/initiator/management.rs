//! Requests other than commands: task management, pings, text, logout; and what the target says unasked
//! (RFC 7143 §11.5, §11.9, §11.10, §11.14, §11.18).

use super::connection::ConnectionId;
use super::connection::Outgoing;
use super::task::{Allegiance, Outcome};
use super::{Event, Session};
use crate::key::TaskReporting;
use crate::serial::precedes;
use crate::session::{ConnectionError, TaskId};
use crate::wire::{
    AsyncEvent, AsyncMessage, CONTINUE, FINAL, IMMEDIATE, LogoutRequest, LogoutResponse, NopIn, NopOut, Pdu,
    RESERVED_TAG, TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Task management functions of a caller (RFC 7143 §11.5.1). [`Session::abort`] is ABORT TASK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Function {
    /// ABORT TASK SET.
    AbortTaskSet = 2,
    /// CLEAR ACA.
    ClearAca = 3,
    /// CLEAR TASK SET.
    ClearTaskSet = 4,
    /// LOGICAL UNIT RESET.
    LogicalUnitReset = 5,
    /// TARGET WARM RESET.
    TargetWarmReset = 6,
    /// TARGET COLD RESET.
    TargetColdReset = 7,
}

/// ABORT TASK.
const ABORT_TASK: u8 = 1;
/// TASK REASSIGN.
pub(super) const TASK_REASSIGN: u8 = 8;
/// TASK REASSIGN functions that are out at a time: targets take few immediate requests.
const REASSIGNMENTS: usize = 4;
/// Numbers of refused commands of which the use is remembered although the target has acknowledged them.
const PLUGS: usize = 64;

/// What a logout ends (RFC 7143 §11.14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoutReason {
    /// The session.
    Session,
    /// The connection that it is sent on.
    Connection,
    /// A lost connection, of this CID, of which the tasks are then reassigned to the connection that it is
    /// sent on.
    Recovery {
        /// Of the lost connection.
        cid: u16,
    },
}

/// What a request is about.
#[derive(Debug)]
pub(super) enum Asked {
    /// ABORT TASK of this one.
    Abort(TaskId),
    /// Another function of a unit, which ends tasks numbered below this.
    Function { function: Function, lun: [u8; 8], cmd_sn: u32 },
    /// TASK REASSIGN of this one.
    Reassign(TaskId),
    /// A ping of the caller's.
    Ping,
    /// A ping of ours.
    OwnPing,
    /// One that uses up this number.
    Plug(u32),
    /// Text, and what has come of its answer.
    Text(Vec<u8>),
    /// A logout.
    Logout(LogoutReason),
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub tag: u32,
    pub connection: ConnectionId,
    pub asked: Asked,
    /// When it was sent.
    pub since: Option<Instant>,
}

impl Session {
    /// Ends a task at the target: ABORT TASK on its connection. `None` where it has none now, or where too
    /// much is under way. No more of its data is sent; its memory stays in use until it is told as over.
    pub fn abort(&mut self, id: TaskId) -> Option<u32> {
        if self.asked() >= self.limits.requests {
            return None;
        }
        let task = self.tasks.get_mut(id).filter(|task| task.outcome.is_none())?;
        let Allegiance::With(c) = task.allegiance else { return None };
        let mut header = TaskManagementRequest::empty();
        header.function = FINAL | ABORT_TASK;
        header.lun = task.command.lun;
        header.referenced_task_tag = task.tag.into();
        header.ref_cmd_sn = task.cmd_sn.into();
        self.connection(c).filter(|connection| connection.takes_requests())?;
        if let Some(task) = self.tasks.get_mut(id) {
            task.aborting = true;
            task.grants.clear();
        }
        Some(self.function(c, header, Asked::Abort(id)))
    }

    /// Any other function, on this connection. `None` where too much is under way.
    pub fn task_management(&mut self, c: ConnectionId, function: Function, lun: [u8; 8]) -> Option<u32> {
        self.connection(c).filter(|connection| connection.takes_requests())?;
        if self.asked() >= self.limits.requests {
            return None;
        }
        let mut header = TaskManagementRequest::empty();
        header.function = FINAL | function as u8;
        header.lun =
            if matches!(function, Function::TargetWarmReset | Function::TargetColdReset) { [0; 8] } else { lun };
        header.referenced_task_tag = RESERVED_TAG.into();
        let cmd_sn = self.window.cmd_sn();
        Some(self.function(c, header, Asked::Function { function, lun, cmd_sn }))
    }

    pub(super) fn function(&mut self, c: ConnectionId, mut header: TaskManagementRequest, asked: Asked) -> u32 {
        let tag = self.ask(c, asked);
        header.opcode_byte |= IMMEDIATE;
        header.initiator_task_tag = tag.into();
        header.cmd_sn = self.window.cmd_sn().into();
        self.queue(c, Outgoing::TaskManagement(Box::new(header)));
        tag
    }

    fn ask(&mut self, connection: ConnectionId, asked: Asked) -> u32 {
        // Their tags have the top bit, which tasks' have not.
        self.next_tag = if self.next_tag >= 0x7fff_fff0 { 0 } else { self.next_tag + 1 };
        let tag = 0x8000_0000 | self.next_tag;
        self.requests.push(Request { tag, connection, asked, since: None });
        tag
    }

    /// It is on its way.
    pub(super) fn request_sent(&mut self, now: Instant, tag: u32) {
        let watched =
            |request: &&mut Request| request.tag == tag && !matches!(request.asked, Asked::OwnPing | Asked::Plug(_));
        if let Some(request) = self.requests.iter_mut().find(watched) {
            // All of a text within one time, in however many pieces it comes.
            request.since.get_or_insert(now);
        }
    }

    /// When the first request has waited for too long.
    pub(super) fn request_deadline(&self) -> Option<Instant> {
        let closing = |c| self.connection(c).is_none_or(|connection| connection.closing);
        let waiting = self.requests.iter().filter(|request| !closing(request.connection));
        waiting.filter_map(|request| request.since).min().map(|since| since + self.limits.request_timeout)
    }

    /// A connection on which a request has waited for too long. Immediate requests have no number of their
    /// own: that one was lost is not seen otherwise.
    pub(super) fn unanswered(&mut self, now: Instant) -> Option<ConnectionId> {
        let limit = self.limits.request_timeout;
        let overdue = |request: &&mut Request| request.since.is_some_and(|since| now >= since + limit);
        let request = self.requests.iter_mut().find(overdue)?;
        request.since = None;
        Some(request.connection)
    }

    fn take_request(&mut self, c: ConnectionId, tag: u32) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.tag == tag && request.connection == c)?;
        Some(self.requests.remove(at))
    }

    pub(super) fn task_management_response(
        &mut self,
        c: ConnectionId,
        header: &TaskManagementResponse,
    ) -> Result<(), ConnectionError> {
        let Some(request) = self.take_request(c, header.initiator_task_tag.get()) else {
            return Err(ConnectionError::Format("a task management response that nobody asked for"));
        };
        let (response, tag) = (header.response, request.tag);
        match request.asked {
            Asked::Reassign(id) => {
                self.reassigned(c, id, response)?;
                self.reassign_more();
                return Ok(());
            }
            Asked::Abort(id) => match response {
                // Whatever answer there was has come before this one.
                0 | 1 => self.finish(id, Outcome::Aborted),
                _ => {
                    self.tell(Event::TaskManagement { tag, response: Some(response) });
                    return self.not_aborted(&request.asked);
                }
            },
            Asked::Function { function, lun, cmd_sn } if response == 0 && function != Function::ClearAca => {
                let all = matches!(function, Function::TargetWarmReset | Function::TargetColdReset);
                for id in self.tasks.ids() {
                    let ends = self.tasks.get(id).is_some_and(|task| {
                        (all || task.command.lun == lun) && (task.command.immediate || precedes(task.cmd_sn, cmd_sn))
                    });
                    if ends {
                        self.finish(id, Outcome::Aborted);
                    }
                }
            }
            Asked::Function { .. } if response != 0 => {
                self.tell(Event::TaskManagement { tag, response: Some(response) });
                return self.not_aborted(&request.asked);
            }
            Asked::Function { .. } => {}
            _ => return Err(ConnectionError::Format("a task management response to another request")),
        }
        self.tell(Event::TaskManagement { tag, response: Some(response) });
        Ok(())
    }

    /// Whether this tag asks for a task to be reassigned.
    pub(super) fn is_reassignment(&self, tag: u32) -> bool {
        self.requests.iter().any(|request| request.tag == tag && matches!(request.asked, Asked::Reassign(_)))
    }

    /// Reassigns as many of the tasks that wait for it as may be under way at a time.
    pub(super) fn reassign_more(&mut self) {
        let mut under_way = self.requests.iter().filter(|request| matches!(request.asked, Asked::Reassign(_))).count();
        while under_way < REASSIGNMENTS
            && let Some((c, id)) = self.moving.pop_front()
        {
            under_way += usize::from(self.reassign(c, id));
        }
    }

    /// A request that will not be answered.
    pub(super) fn request_lost(&mut self, request: &Request) {
        let tag = request.tag;
        match &request.asked {
            Asked::Abort(_) | Asked::Function { .. } => self.tell(Event::TaskManagement { tag, response: None }),
            Asked::Text(_) => self.tell(Event::Text { tag, text: None }),
            Asked::Logout(reason) => {
                let response = u8::MAX;
                if let LogoutReason::Recovery { .. } = reason {
                    self.tell(Event::LoggedOut { connection: request.connection, response });
                }
            }
            Asked::Reassign(_) | Asked::Ping | Asked::OwnPing | Asked::Plug(_) => {}
        }
    }

    /// Pings the target with this data, which comes back with [`Event::Pong`]. `None` where too much is
    /// under way.
    pub fn ping(&mut self, c: ConnectionId, data: &[u8]) -> Option<u32> {
        let connection = self.connection(c).filter(|connection| connection.takes_requests())?;
        let fits = data.len() <= connection.parameters.max_send_data_segment_length as usize;
        if !fits || self.asked() >= self.limits.requests {
            return None;
        }
        Some(self.nop_out(c, Asked::Ping, None, data))
    }

    /// A ping of the session's own.
    pub(super) fn own_ping(&mut self, now: Instant, c: ConnectionId) {
        let Some(connection) = self.connection(c) else { return };
        if connection.ping.is_none() && !connection.closing && !connection.logging_out {
            let tag = self.nop_out(c, Asked::OwnPing, None, &[]);
            if let Some(connection) = self.connection_mut(c) {
                connection.ping = Some((tag, now));
            }
        }
    }

    /// Uses up the number of a command that the target has refused; once at a time, however often it says so.
    pub(super) fn plug(&mut self, c: ConnectionId, cmd_sn: u32) {
        let plugging = |request: &&Request| matches!(request.asked, Asked::Plug(plugged) if plugged == cmd_sn);
        if let Some(request) = self.requests.iter().find(plugging) {
            let (c, tag) = (request.connection, request.tag);
            let waits =
                |one: &Outgoing| matches!(one, Outgoing::NopOut(ping, _) if ping.initiator_task_tag.get() == tag);
            if self.connection(c).is_some_and(|connection| !connection.outgoing.iter().any(waits)) {
                self.queue_nop_out(c, tag, Some(cmd_sn), &[]);
            }
            return;
        }
        // A target that had the number all the same answers nothing.
        let answered = |request: &Request| matches!(request.asked, Asked::Plug(of) if self.window.is_acknowledged(of));
        if let Some(at) = self.requests.iter().position(answered)
            && self.requests.len() - self.asked() >= PLUGS
        {
            self.requests.remove(at);
        }
        self.nop_out(c, Asked::Plug(cmd_sn), Some(cmd_sn), &[]);
    }

    /// Requests that somebody waits for.
    fn asked(&self) -> usize {
        self.requests.iter().filter(|request| !matches!(request.asked, Asked::Plug(_))).count()
    }

    /// A function was refused. A task of which no more data is sent because of it would never end.
    pub(super) fn not_aborted(&mut self, asked: &Asked) -> Result<(), ConnectionError> {
        let fast = self.parameters.task_reporting == TaskReporting::FastAbort;
        let stuck = |task: &super::task::Task| task.aborting && task.writes() && task.outcome.is_none();
        let stays = match asked {
            Asked::Abort(id) => self.tasks.get(*id).is_some_and(stuck),
            Asked::Function { .. } => fast && self.tasks.iter().any(stuck),
            _ => false,
        };
        match stays {
            true => Err(ConnectionError::Limit("a target that does not end a task")),
            false => Ok(()),
        }
    }

    fn nop_out(&mut self, c: ConnectionId, asked: Asked, plugs: Option<u32>, data: &[u8]) -> u32 {
        let tag = self.ask(c, asked);
        self.queue_nop_out(c, tag, plugs, data);
        tag
    }

    fn queue_nop_out(&mut self, c: ConnectionId, tag: u32, plugs: Option<u32>, data: &[u8]) {
        let mut header = NopOut::empty();
        header.opcode_byte |= if plugs.is_none() { IMMEDIATE } else { 0 };
        header.flags = FINAL;
        header.initiator_task_tag = tag.into();
        header.target_transfer_tag = RESERVED_TAG.into();
        header.cmd_sn = plugs.unwrap_or(self.window.cmd_sn()).into();
        self.queue(c, Outgoing::NopOut(Box::new(header), data.to_vec()));
    }

    /// The target's ping goes back with its tag and unit (NOP-04).
    pub(super) fn answer_ping(&mut self, c: ConnectionId, ping: &NopIn) {
        let mut header = NopOut::empty();
        header.opcode_byte |= IMMEDIATE;
        header.flags = FINAL;
        header.lun = ping.lun;
        header.initiator_task_tag = RESERVED_TAG.into();
        header.target_transfer_tag = ping.target_transfer_tag;
        header.cmd_sn = self.window.cmd_sn().into();
        let leaves = self.logging_out;
        // Behind a logout nothing is said any more (OUT-04).
        let Some(connection) = self.connection_mut(c).filter(|one| !leaves && !one.logging_out) else { return };
        let is_answer = |waiting: &&Outgoing| matches!(waiting, Outgoing::NopOut(header, _) if header.initiator_task_tag.get() == RESERVED_TAG);
        // One that pings faster than it reads gets what fits (NOP-05).
        if connection.outgoing.iter().filter(is_answer).count() < 16 {
            connection.outgoing.push_back(Outgoing::NopOut(Box::new(header), Vec::new()));
        }
    }

    pub(super) fn pong(&mut self, c: ConnectionId, header: &NopIn, data: &[u8]) -> Result<(), ConnectionError> {
        if header.target_transfer_tag.get() != RESERVED_TAG {
            return Err(ConnectionError::Format("a NOP-In with both tags"));
        }
        let tag = header.initiator_task_tag.get();
        let Some(request) = self.take_request(c, tag) else {
            return Err(ConnectionError::Format("an answer to a ping that was not sent"));
        };
        match request.asked {
            Asked::Ping => self.tell(Event::Pong { tag, data: data.to_vec() }),
            Asked::Plug(_) => {}
            Asked::OwnPing => {
                let Some(connection) = self.connection_mut(c) else { return Ok(()) };
                if let Some((_, sent)) = connection.ping.take_if(|(ping, _)| *ping == tag)
                    && std::mem::take(&mut connection.probes)
                {
                    self.probed(c, sent);
                }
            }
            _ => return Err(ConnectionError::Format("a NOP-In as the answer to another request")),
        }
        Ok(())
    }

    /// Sends text, such as `SendTargets=All`; the whole answer comes with [`Event::Text`]. One at a time on
    /// a connection (TXT-08); `None` where that is not so.
    pub fn send_text(&mut self, c: ConnectionId, text: &[u8]) -> Option<u32> {
        let connection = self.connection(c).filter(|connection| connection.takes_requests())?;
        let fits = text.len() <= connection.parameters.max_send_data_segment_length as usize;
        let busy = self.requests.iter().any(|one| one.connection == c && matches!(one.asked, Asked::Text(_)));
        if !fits || busy || self.asked() >= self.limits.requests {
            return None;
        }
        let tag = self.ask(c, Asked::Text(Vec::new()));
        self.queue_text(c, tag, RESERVED_TAG, [0; 8], text);
        Some(tag)
    }

    fn queue_text(&mut self, c: ConnectionId, tag: u32, target_transfer_tag: u32, lun: [u8; 8], text: &[u8]) {
        let mut header = TextRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.flags = FINAL;
        header.lun = lun;
        header.initiator_task_tag = tag.into();
        header.target_transfer_tag = target_transfer_tag.into();
        header.cmd_sn = self.window.cmd_sn().into();
        self.queue(c, Outgoing::Text(Box::new(header), text.to_vec()));
    }

    pub(super) fn text_response(
        &mut self,
        c: ConnectionId,
        header: &TextResponse,
        data: &[u8],
    ) -> Result<(), ConnectionError> {
        let tag = header.initiator_task_tag.get();
        let limit = self.limits.text_bytes;
        let waiting = self.requests.iter_mut().find(|request| request.tag == tag && request.connection == c);
        let Some(Request { asked: Asked::Text(text), .. }) = waiting else {
            return Err(ConnectionError::Format("a text response that nobody asked for"));
        };
        if text.len() + data.len() > limit {
            return Err(ConnectionError::Limit("bytes of a text answer"));
        }
        text.extend_from_slice(data);
        let (last, continues) = (header.flags & FINAL != 0, header.flags & CONTINUE != 0);
        let target_transfer_tag = header.target_transfer_tag.get();
        if last != (target_transfer_tag == RESERVED_TAG) || last && continues {
            return Err(ConnectionError::Format("a text response that ends and does not end"));
        }
        if !last {
            // An empty request asks for the rest (§6.2).
            self.queue_text(c, tag, target_transfer_tag, header.lun, &[]);
            return Ok(());
        }
        if let Some(Request { asked: Asked::Text(text), .. }) = self.take_request(c, tag) {
            self.declared(c, &text);
            self.tell(Event::Text { tag, text: Some(text) });
        }
        Ok(())
    }

    /// The target may declare anew how much it takes in one data segment (§13.12).
    fn declared(&mut self, c: ConnectionId, text: &[u8]) {
        let length = crate::text::pairs(text)
            .flatten()
            .filter(|(key, _)| *key == "MaxRecvDataSegmentLength")
            .filter_map(|(_, value)| crate::text::number(value).and_then(|length| u32::try_from(length).ok()))
            .filter(|length| (512..1 << 24).contains(length))
            .last();
        if let (Some(length), Some(connection)) = (length, self.connection_mut(c)) {
            connection.parameters.max_send_data_segment_length = length;
        }
    }

    /// Logs out on this connection. After it nothing more is sent there, or on any connection where the
    /// session ends (OUT-04); only a logout for recovery leaves its connection as it is. False where the
    /// connection is closing already, or alone where tasks of a lost one are just moving to it: they would be
    /// nobody's.
    pub fn logout(&mut self, c: ConnectionId, reason: LogoutReason) -> bool {
        if reason == LogoutReason::Connection && self.is_moved_to(c) {
            return false;
        }
        self.log_out(c, reason)
    }

    /// The same, whatever becomes of tasks that are moving to it.
    fn log_out(&mut self, c: ConnectionId, reason: LogoutReason) -> bool {
        let Some(connection) =
            self.connection_mut(c).filter(|connection| !connection.closing && !connection.logging_out)
        else {
            return false;
        };
        let (code, cid) = match reason {
            LogoutReason::Session => (0, connection.cid),
            LogoutReason::Connection => (1, connection.cid),
            LogoutReason::Recovery { cid } => (2, cid),
        };
        connection.logging_out = !matches!(reason, LogoutReason::Recovery { .. });
        self.logging_out |= reason == LogoutReason::Session;
        let tag = self.ask(c, Asked::Logout(reason));
        let mut header = LogoutRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.reason = FINAL | code;
        header.initiator_task_tag = tag.into();
        header.cid = cid.into();
        self.queue(c, Outgoing::Logout(Box::new(header)));
        true
    }

    pub(super) fn logout_response(&mut self, c: ConnectionId, header: &LogoutResponse) {
        let Some(request) = self.take_request(c, header.initiator_task_tag.get()) else { return };
        let response = header.response;
        match request.asked {
            // Not found: it is as good as logged out (§11.15.1).
            Asked::Logout(LogoutReason::Recovery { cid }) => match response {
                0 | 1 => self.take_over(c, cid),
                _ => self.end(),
            },
            Asked::Logout(reason) => {
                let closes = |at: usize| reason == LogoutReason::Session || at == c.0;
                for (at, connection) in self.connections.iter_mut().enumerate() {
                    if let Some(connection) = connection.as_mut().filter(|_| closes(at)) {
                        connection.closing = true;
                        connection.logged_out = true;
                    }
                }
            }
            _ => {}
        }
        self.tell(Event::LoggedOut { connection: c, response });
    }

    /// The target says something unasked (§11.9).
    pub(super) fn async_message(
        &mut self,
        c: ConnectionId,
        header: &AsyncMessage,
        data: &[u8],
    ) -> Result<(), ConnectionError> {
        let parameters = [header.parameter_1, header.parameter_2, header.parameter_3].map(|one| one.get());
        let [named, wait, third] = parameters;
        let times = Some((u32::from(wait), u32::from(third)));
        match AsyncEvent::from_number(header.event) {
            Some(AsyncEvent::LogoutRequest) => {
                if let Some(connection) = self.connection_mut(c) {
                    // Half of the time is for what is in flight, half for the logout itself.
                    let time = Duration::from_secs(u64::from(third)) / 2;
                    connection.leave_by.get_or_insert(connection.last_heard + time);
                }
            }
            Some(AsyncEvent::DropConnection) => {
                for connection in self.connections.iter_mut().flatten().filter(|one| one.cid == named) {
                    (connection.closing, connection.times) = (true, times);
                }
            }
            Some(AsyncEvent::DropAllConnections) => {
                for connection in self.connections.iter_mut().flatten() {
                    (connection.closing, connection.times) = (true, times);
                }
            }
            Some(AsyncEvent::Renegotiate) => {
                self.send_text(c, &[]);
            }
            Some(AsyncEvent::TasksTerminated) if self.parameters.task_reporting == TaskReporting::FastAbort => {
                self.stop_data(c, Some(header.lun), Some(self.terminated_below(header)));
                let mut acknowledged = NopIn::empty();
                acknowledged.lun = header.lun;
                acknowledged.target_transfer_tag = RESERVED_TAG.into();
                self.answer_ping(c, &acknowledged);
            }
            Some(AsyncEvent::TasksTerminated) => {
                return Err(ConnectionError::Format("tasks ended by FastAbort, which was not agreed"));
            }
            Some(AsyncEvent::ScsiAsyncEvent | AsyncEvent::VendorSpecific) | None => {}
        }
        let lun = if matches!(header.event, 0 | 5) { header.lun } else { [0; 8] };
        self.tell(Event::Async { event: header.event, lun, parameters, data: data.to_vec() });
        Ok(())
    }

    /// The tasks that a message of terminated tasks can mean: below a function of ours for that unit, where one is
    /// out, and else those that the target had when it said so. Whatever was sent since goes on.
    fn terminated_below(&self, header: &AsyncMessage) -> u32 {
        let ours = self.requests.iter().filter_map(|request| match request.asked {
            Asked::Function { function: Function::TargetWarmReset | Function::TargetColdReset, cmd_sn, .. } => {
                Some(cmd_sn)
            }
            Asked::Function { function, lun, cmd_sn } if function != Function::ClearAca && lun == header.lun => {
                Some(cmd_sn)
            }
            _ => None,
        });
        ours.reduce(|last, one| if precedes(last, one) { one } else { last }).unwrap_or(header.exp_cmd_sn.get())
    }

    /// FastAbort (§4.2.3.4): no more data goes out on this connection for tasks of this unit, or of all, that
    /// were numbered below this.
    pub(super) fn stop_data(&mut self, c: ConnectionId, lun: Option<[u8; 8]>, below: Option<u32>) {
        for id in self.tasks.ids() {
            let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_with(c)) else { continue };
            let here = lun.is_none_or(|lun| task.command.lun == lun);
            if here && below.is_none_or(|below| task.command.immediate || precedes(task.cmd_sn, below)) {
                task.aborting = true;
                task.grants.clear();
            }
        }
    }

    /// A function is on its way: with FastAbort the data of the tasks that it ends stays here.
    pub(super) fn function_sent(&mut self, c: ConnectionId, tag: u32) {
        if self.parameters.task_reporting != TaskReporting::FastAbort {
            return;
        }
        let asked = self.requests.iter().find(|request| request.tag == tag).map(|request| &request.asked);
        if let Some(&Asked::Function { function, lun, cmd_sn }) = asked
            && function != Function::ClearAca
        {
            let all = matches!(function, Function::TargetWarmReset | Function::TargetColdReset);
            self.stop_data(c, (!all).then_some(lun), Some(cmd_sn));
        }
    }

    /// Logs out where the target has asked for it and what was in flight has ended, or time is up (ASY-01).
    pub(super) fn leave_when_due(&mut self, c: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(c) else { return };
        let Some(by) = connection.leave_by.filter(|_| !connection.logging_out && !connection.closing) else { return };
        let busy = self.tasks.iter().any(|task| task.is_with(c)) || self.is_moved_to(c);
        if busy && now < by {
            return;
        }
        let reason = if self.connections() > 1 { LogoutReason::Connection } else { LogoutReason::Session };
        self.log_out(c, reason);
    }
}

/// Tasks that wait to be reassigned, and where to.
pub(super) type Moving = VecDeque<(ConnectionId, TaskId)>;
