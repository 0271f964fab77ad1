//! Task management functions as the session sees them (RFC 7143 §11.5, §11.6, §4.2.3).
//!
//! A response leaves when the unit has answered *and* every affected task of this session has
//! ended, data that the initiator owes for outstanding R2Ts included.

use super::connection::{ConnectionId, Outgoing};
use super::receive::Deferred;
use super::task::{Phase, TaskId};
use super::window::Arrival;
use super::{ConnectionError, Event, Session};
use crate::key::TaskReporting;
use crate::serial::precedes;
use crate::wire::{AsyncEvent, RESERVED_TAG, RejectReason, TaskManagementRequest};
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// How long a function waits for the data that its tasks are owed.
const DATA_PATIENCE: Duration = Duration::from_secs(3);

/// Units of which commands were passed over. They are few, and are no more when the gap is filled.
const PASSED: usize = 256;

/// Function codes (RFC 7143 §11.5.1; from 9 on RFC 7144 §4.1).
pub(super) mod function {
    pub const ABORT_TASK: u8 = 1;
    pub const ABORT_TASK_SET: u8 = 2;
    pub const CLEAR_ACA: u8 = 3;
    pub const CLEAR_TASK_SET: u8 = 4;
    pub const LOGICAL_UNIT_RESET: u8 = 5;
    pub const TARGET_WARM_RESET: u8 = 6;
    pub const TARGET_COLD_RESET: u8 = 7;
    pub const TASK_REASSIGN: u8 = 8;
    pub const QUERY_TASK: u8 = 9;
    pub const QUERY_TASK_SET: u8 = 10;
    pub const I_T_NEXUS_RESET: u8 = 11;
    pub const QUERY_ASYNCHRONOUS_EVENT: u8 = 12;
}

/// Response codes (RFC 7143 §11.6.1).
pub mod response {
    /// Function complete.
    pub const FUNCTION_COMPLETE: u8 = 0;
    /// Task does not exist.
    pub const TASK_DOES_NOT_EXIST: u8 = 1;
    /// LUN does not exist.
    pub const LUN_DOES_NOT_EXIST: u8 = 2;
    /// Task still allegiant.
    pub const TASK_STILL_ALLEGIANT: u8 = 3;
    /// Task allegiance reassignment not supported.
    pub const REASSIGNMENT_NOT_SUPPORTED: u8 = 4;
    /// Task management function not supported.
    pub const NOT_SUPPORTED: u8 = 5;
    /// Function authorization failed.
    pub const NOT_AUTHORIZED: u8 = 6;
    /// Function succeeded (RFC 7144 §4.2).
    pub const FUNCTION_SUCCEEDED: u8 = 7;
    /// Function rejected.
    pub const FUNCTION_REJECTED: u8 = 255;
}

struct Function {
    id: u32,
    connection: ConnectionId,
    initiator_task_tag: u32,
    waiting_for_tasks: u32,
    answer: Option<(u8, [u8; 3])>,
    /// Its response is fenced: it ends tasks of all connections (§4.2.3.3).
    fenced: bool,
    /// The session ends behind its response (RFC 7144 §6.3).
    drops: bool,
}

/// A function that waits for commands in front of it, which other connections bring (§4.2.3.3 b).
struct Postponed {
    connection: ConnectionId,
    header: TaskManagementRequest,
    until: Instant,
}

/// The functions in progress.
#[derive(Default)]
pub(super) struct Functions {
    /// The initiator may not reset the target.
    no_target_resets: bool,
    active: Vec<Function>,
    postponed: Vec<Postponed>,
    /// Units, and below which numbers their commands are over before they have come.
    passed: Vec<([u8; 8], u32)>,
    next_id: u32,
    /// Until when data of affected tasks is waited for.
    deadline: Option<Instant>,
}

impl Functions {
    /// The connection that would carry their answers is gone.
    pub(super) fn forget(&mut self, c: ConnectionId) {
        self.active.retain(|function| function.connection != c);
        self.postponed.retain(|function| function.connection != c);
    }

    /// Whether none is in progress.
    pub(super) fn are_idle(&self) -> bool {
        self.active.is_empty() && self.postponed.is_empty()
    }

    /// Units of which commands were passed over.
    pub(super) fn passed_over(&self) -> &[([u8; 8], u32)] {
        &self.passed
    }

    /// The same, in a session that goes on.
    pub(super) fn pass_over_again(&mut self, mut passed: Vec<([u8; 8], u32)>) {
        passed.truncate(PASSED);
        self.passed = passed;
    }
}

impl Session {
    /// The unit has carried the function out. `code` is a response code of RFC 7143 §11.6.1.
    pub fn task_management_done(&mut self, id: u32, code: u8, additional: [u8; 3]) {
        if let Some(function) = self.functions.active.iter_mut().find(|function| function.id == id) {
            function.answer = Some((code, additional));
        }
        self.function_proceeds(id);
    }

    /// From now on this initiator may not reset the target: others use more of it than he does.
    pub fn forbid_target_resets(&mut self) {
        self.functions.no_target_resets = true;
    }

    /// From now on this initiator may reset the target.
    pub fn allow_target_resets(&mut self) {
        self.functions.no_target_resets = false;
    }

    pub(super) fn task_management(
        &mut self,
        c: ConnectionId,
        header: &TaskManagementRequest,
    ) -> Result<(), ConnectionError> {
        let tag = header.initiator_task_tag.get();
        let waiting = self.fences.functions().count();
        let busy =
            self.functions.active.len() + self.functions.postponed.len() + waiting >= self.limits.immediate as usize;
        if tag == RESERVED_TAG || self.is_function(tag) {
            return self.reject(c, RejectReason::InvalidPduField, header.as_bytes().into());
        }
        if busy {
            self.limits.struck.immediate.count();
            return self.reject(c, RejectReason::ImmediateCommandReject, header.as_bytes().into());
        }
        let number = header.cmd_sn.get();
        match header.function & 0x7f {
            function::ABORT_TASK_SET | function::CLEAR_TASK_SET | function::LOGICAL_UNIT_RESET
                if self.window.has_gap_below(number) =>
            {
                let heard = self.connections.get(c).map(|connection| connection.last_heard);
                if let Some(heard) = heard {
                    let until = heard + DATA_PATIENCE;
                    self.functions.postponed.push(Postponed { connection: c, header: *header, until });
                }
                return Ok(());
            }
            // Whatever is missing counts as received (§4.2.3.3 b).
            function::TARGET_WARM_RESET | function::TARGET_COLD_RESET if !self.functions.no_target_resets => {
                while self.window.has_gap_below(number) {
                    self.in_turn(Deferred::Plug);
                }
            }
            _ => {}
        }
        self.carry_out(c, header)
    }

    /// Whether this tag names a function.
    pub(super) fn is_function(&self, tag: u32) -> bool {
        let functions = &self.functions;
        functions.active.iter().any(|active| active.initiator_task_tag == tag)
            || functions.postponed.iter().any(|postponed| postponed.header.initiator_task_tag.get() == tag)
            || self.fences.functions().any(|waiting| waiting == tag)
    }

    /// Whether a function that could not wait for it any longer has ended a command that comes now.
    pub(super) fn is_passed(&self, lun: [u8; 8], cmd_sn: u32) -> bool {
        self.functions.passed.iter().any(|(unit, number)| *unit == lun && precedes(cmd_sn, *number))
    }

    /// Commands of this unit that have not come and are below this number are over when they do.
    fn pass_over(&mut self, lun: [u8; 8], number: u32) {
        // What may not be sent yet is not passed over.
        let number = self.window.at_most_behind(number);
        let passed = &mut self.functions.passed;
        if let Some((_, before)) = passed.iter_mut().find(|(unit, _)| *unit == lun) {
            *before = if precedes(*before, number) { number } else { *before };
        } else if passed.len() < PASSED {
            passed.push((lun, number));
        }
    }

    /// Functions whose commands are all here are carried out.
    #[inline]
    pub(super) fn functions_are_due(&mut self) {
        if !self.functions.postponed.is_empty() || !self.functions.passed.is_empty() {
            self.postponed_proceed();
        }
    }

    #[cold]
    fn postponed_proceed(&mut self) {
        let window = &self.window;
        self.functions.passed.retain(|(_, number)| window.has_gap_below(*number));
        while !self.functions.postponed.is_empty() {
            let window = &self.window;
            let due = |postponed: &Postponed| !window.has_gap_below(postponed.header.cmd_sn.get());
            let Some(at) = self.functions.postponed.iter().position(due) else { return };
            self.carry_out_postponed(at);
        }
    }

    fn carry_out_postponed(&mut self, at: usize) {
        let Postponed { connection, header, .. } = self.functions.postponed.swap_remove(at);
        if self.carry_out(connection, &header).is_err()
            && let Some(connection) = self.connections.get_mut(connection)
        {
            connection.closing = true;
        }
    }

    fn carry_out(&mut self, c: ConnectionId, header: &TaskManagementRequest) -> Result<(), ConnectionError> {
        let tag = header.initiator_task_tag.get();
        let code = header.function & 0x7f;
        let level_2 = self.parameters.protocol_level >= 2;
        let reset = matches!(code, function::TARGET_WARM_RESET | function::TARGET_COLD_RESET);
        let refused = reset && self.functions.no_target_resets;
        let id = self.functions.next_id;
        self.functions.next_id = id.wrapping_add(1);
        self.functions.active.push(Function {
            id,
            connection: c,
            initiator_task_tag: tag,
            waiting_for_tasks: 0,
            answer: None,
            fenced: (function::ABORT_TASK_SET..=function::TARGET_COLD_RESET).contains(&code) && !refused,
            drops: level_2 && code == function::I_T_NEXUS_RESET,
        });
        let forward = |session: &mut Session, referenced| {
            session.events.push_back(Event::TaskManagement { id, function: code, lun: header.lun, referenced });
        };
        match code {
            function::ABORT_TASK => {
                let answer = self.abort_task(c, id, header);
                self.task_management_done(id, answer, [0; 3]);
            }
            function::ABORT_TASK_SET | function::CLEAR_TASK_SET | function::LOGICAL_UNIT_RESET => {
                self.affect(c, id, header, Some(header.lun));
                forward(self, None);
            }
            _ if refused => self.task_management_done(id, response::NOT_AUTHORIZED, [0; 3]),
            function::TARGET_WARM_RESET | function::TARGET_COLD_RESET => {
                self.affect(c, id, header, None);
                forward(self, None);
            }
            function::CLEAR_ACA => forward(self, None),
            function::TASK_REASSIGN => {
                let answer = self.may_reassign(header);
                self.task_management_done(id, answer.err().unwrap_or(response::FUNCTION_COMPLETE), [0; 3]);
                if let Ok(task) = answer {
                    self.reassign(c, task, header.exp_data_sn.get());
                }
            }
            function::QUERY_TASK if level_2 => {
                let referenced = header.referenced_task_tag.get();
                if self.functions.active.iter().any(|active| active.initiator_task_tag == referenced) {
                    self.task_management_done(id, response::FUNCTION_REJECTED, [0; 3]);
                } else {
                    let found = self.tasks.by_tag(referenced).and_then(|task| self.tasks.get(task));
                    let answer = match found {
                        Some(task) if task.phase != Phase::Ended => response::FUNCTION_SUCCEEDED,
                        _ => response::FUNCTION_COMPLETE,
                    };
                    self.task_management_done(id, answer, [0; 3]);
                }
            }
            // The unit learns of it as of every lost nexus, when the connections are gone.
            function::I_T_NEXUS_RESET if level_2 => {
                let tasks: Vec<TaskId> = self.tasks.ids().collect();
                tasks.into_iter().for_each(|task| self.abort(task, id, false));
                self.task_management_done(id, response::FUNCTION_COMPLETE, [0; 3]);
            }
            function::QUERY_TASK_SET | function::QUERY_ASYNCHRONOUS_EVENT if level_2 => forward(self, None),
            _ => self.task_management_done(id, response::NOT_SUPPORTED, [0; 3]),
        }
        Ok(())
    }

    fn abort_task(&mut self, c: ConnectionId, id: u32, header: &TaskManagementRequest) -> u8 {
        let referenced = header.referenced_task_tag.get();
        if self.functions.active.iter().any(|active| active.id != id && active.initiator_task_tag == referenced) {
            return response::FUNCTION_REJECTED;
        }
        if let Some(task) = self.tasks.by_tag(referenced) {
            let Some(found) = self.tasks.get(task).filter(|task| task.lun == header.lun) else {
                return response::TASK_DOES_NOT_EXIST;
            };
            if found.kept.is_some() {
                // It was answered before. Where its connection is gone, the answer comes once more in front of
                // this one (§11.5.1).
                if self.may_take_over(found.connection) {
                    self.reassign(c, task, 0);
                }
                return response::TASK_DOES_NOT_EXIST;
            }
            self.abort(task, id, false);
            return response::FUNCTION_COMPLETE;
        }
        let missing = header.ref_cmd_sn.get();
        // The command has not come: count it as received, so that it is ignored when it does.
        match precedes(missing, header.cmd_sn.get()) && self.plug(missing) {
            true => response::FUNCTION_COMPLETE,
            false => response::TASK_DOES_NOT_EXIST,
        }
    }

    /// Counts this number as received where it is still expected.
    pub(super) fn plug(&mut self, cmd_sn: u32) -> bool {
        match self.window.classify(cmd_sn) {
            Arrival::Next => self.in_turn(Deferred::Plug),
            Arrival::Early => self.window.keep(cmd_sn, Deferred::Plug),
            Arrival::Ignored => return false,
        }
        true
    }

    /// Marks this session's tasks that the function ends: those with a lower CmdSN, at one unit or all.
    fn affect(&mut self, c: ConnectionId, id: u32, header: &TaskManagementRequest, lun: Option<[u8; 8]>) {
        let affected: Vec<TaskId> = self
            .tasks
            .ids()
            .filter(|task| {
                self.tasks.get(*task).is_some_and(|task| {
                    lun.is_none_or(|lun| task.lun == lun)
                        && task.kept.is_none()
                        && (task.immediate || precedes(task.cmd_sn, header.cmd_sn.get()))
                })
            })
            .collect();
        // Commands that were sent behind the function and came before it, on another connection: the unit may
        // end them with the others, and then they are owed an answer.
        for task in self.tasks.iter_mut() {
            let here = lun.is_none_or(|lun| task.lun == lun);
            task.overtook |= here && !task.immediate && !precedes(task.cmd_sn, header.cmd_sn.get());
        }
        let fast = self.parameters.task_reporting == TaskReporting::FastAbort;
        if fast {
            let told: Vec<TaskId> = affected.iter().copied().filter(|id| !self.is_of(*id, c)).collect();
            told.into_iter().for_each(|id| self.tell_termination(id));
        }
        let owing = |id: &TaskId| !fast && self.tasks.get(*id).is_some_and(|task| !task.data_done());
        if affected.iter().any(owing) && self.functions.deadline.is_none() {
            let heard = self.connections.iter().map(|(_, connection)| connection.last_heard).max();
            self.functions.deadline = heard.map(|heard| heard + DATA_PATIENCE);
        }
        for task in affected {
            self.abort(task, id, !fast);
        }
    }

    fn is_of(&self, id: TaskId, c: ConnectionId) -> bool {
        self.tasks.get(id).is_some_and(|task| task.connection == c)
    }

    /// FastAbort (§4.2.3.4): the connection of the task hears that the tasks of its unit end, once.
    pub(super) fn tell_termination(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(id) else { return };
        let (of, unit) = (task.connection, task.lun);
        let Some(connection) = self.connections.get_mut(of) else { return };
        let same = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Async { event: AsyncEvent::TasksTerminated, lun, .. } if *lun == unit);
        if !connection.outgoing.iter().any(same) {
            connection.queue(Outgoing::Async {
                event: AsyncEvent::TasksTerminated,
                lun: unit,
                parameters: [0; 3],
                vendor_code: 0,
                data: Vec::new(),
            });
        }
    }

    /// Ends a task for a function, which waits for it. Where the initiator no longer answers the
    /// task's R2Ts (ABORT TASK, unlike the others: §11.5.1), data is not waited for.
    fn abort(&mut self, task_id: TaskId, function: u32, wait_for_data: bool) {
        if !wait_for_data {
            self.forgive_data(task_id);
        }
        let Some(task) = self.tasks.get_mut(task_id) else { return };
        task.managed_by.push(function);
        if let Some(active) = self.functions.active.iter_mut().find(|active| active.id == function) {
            active.waiting_for_tasks += 1;
        }
        match task.phase {
            Phase::Arriving => {
                let cmd_sn = (!task.immediate).then_some(task.cmd_sn);
                self.end_task(task_id);
                // Its data may still be on its way.
                cmd_sn.map(|cmd_sn| self.plug(cmd_sn));
            }
            Phase::Active => {
                task.phase = Phase::Ending;
                self.events.push_back(Event::Abort(task_id));
            }
            Phase::Ending => {}
            // Its answer has not left yet and must not follow the function's response (§11.5.1).
            Phase::Ended => self.end_task(task_id),
        }
    }

    /// Data of tasks that functions wait for has been waited for long enough: initiators that answer no
    /// R2T behind a reset of theirs would wait for our response instead (TMF-15).
    pub(super) fn functions_lose_patience(&mut self, now: Instant) {
        while let Some(at) = self.functions.postponed.iter().position(|postponed| now >= postponed.until) {
            let header = self.functions.postponed[at].header;
            self.pass_over(header.lun, header.cmd_sn.get());
            self.carry_out_postponed(at);
        }
        if self.functions.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.functions.deadline = None;
        let owing =
            |id: &TaskId| self.tasks.get(*id).is_some_and(|task| !task.managed_by.is_empty() && !task.data_done());
        let tasks: Vec<TaskId> = self.tasks.ids().filter(owing).collect();
        for id in tasks {
            self.forgive_data(id);
            self.settle(id);
        }
    }

    /// When [`Session::functions_lose_patience`] is due.
    pub(super) fn functions_deadline(&self) -> Option<Instant> {
        self.functions.postponed.iter().map(|postponed| postponed.until).chain(self.functions.deadline).min()
    }

    pub(super) fn function_task_ended(&mut self, id: u32) {
        if let Some(function) = self.functions.active.iter_mut().find(|function| function.id == id) {
            function.waiting_for_tasks = function.waiting_for_tasks.saturating_sub(1);
        }
        self.function_proceeds(id);
    }

    fn function_proceeds(&mut self, id: u32) {
        let Some(at) = self
            .functions
            .active
            .iter()
            .position(|function| function.id == id && function.waiting_for_tasks == 0 && function.answer.is_some())
        else {
            return;
        };
        let function = self.functions.active.swap_remove(at);
        let (code, additional) = function.answer.unwrap_or_default();
        let initiator_task_tag = function.initiator_task_tag;
        let answer = Outgoing::TaskManagement { initiator_task_tag, response: code, additional };
        self.respond(function.connection, answer, function.fenced);
        if function.drops {
            self.drop_connections();
        }
    }
}
