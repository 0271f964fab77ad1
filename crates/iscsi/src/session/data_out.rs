//! Data from the initiator: unsolicited data, R2Ts and what answers them (RFC 7143 §4.2.5.2, §11.7, §11.8).

use super::connection::{ConnectionId, Outgoing};
use super::receive::Pending;
use super::task::{DataOutFault, Phase, Response, TaskId};
use super::{Event, Session};
use crate::serial::precedes;
use crate::wire::{DataOut, FINAL, Pdu, RESERVED_TAG, RejectReason};
use zerocopy::IntoBytes;

/// Tasks of which late data is ignored rather than rejected.
const FORGIVEN: usize = 256;

/// SAM-5 5.3.1.
const TASK_ABORTED: u8 = 0x40;

impl Session {
    /// The application wants the first `length` bytes of the task's data and has memory for them.
    /// [`Event::DataOut`] says when they are there.
    pub fn receive_data_out(&mut self, id: TaskId, length: u32) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.phase != Phase::Active || task.wanted.is_some() {
            return;
        }
        task.wanted = Some(length.min(task.expected_out()));
        self.data_settled(id);
    }

    /// The application has ended the task with this response. It leaves as soon as the initiator
    /// owes the task no more data (§11.4.2).
    pub fn complete(&mut self, id: TaskId, response: Response) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        match task.phase {
            Phase::Arriving | Phase::Active => {
                task.phase = Phase::Ended;
                task.response = Some(response);
                self.settle(id);
            }
            Phase::Ending => self.end_task(id),
            Phase::Ended => {}
        }
    }

    /// The application has ended the task and no answer is to be sent.
    pub fn end_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.kept.is_some() {
            // It was answered; only its acknowledgment is awaited no longer.
            return self.let_go(id);
        }
        if task.overtook && task.phase == Phase::Active {
            return self.complete(id, Response { status: TASK_ABORTED, ..Response::default() });
        }
        task.phase = Phase::Ended;
        task.response = None;
        task.answer_queued = false;
        self.settle(id);
    }

    pub(super) fn begin_data_out(&mut self, c: ConnectionId, header: &DataOut) -> Pending {
        let reject = || Pending::Reject(RejectReason::InvalidPduField, header.as_bytes().into());
        let Some(id) = self.tasks.by_tag(header.initiator_task_tag.get()) else {
            // Data that was asked for and is not wanted any more.
            let late = self.forgiven.contains(&header.initiator_task_tag.get());
            return if late { Pending::Ignore } else { reject() };
        };
        let recovers = self.keeps();
        let Some(task) = self.tasks.get_mut(id) else { return reject() };
        if task.connection != c {
            return reject();
        }
        let length = header.header().data_segment_bytes();
        let (offset, data_sn) = (header.buffer_offset.get(), header.data_sn.get());
        let tag = header.target_transfer_tag.get();
        // The place is judged before a byte is read; a bad PDU still counts towards the end of its
        // sequence, so that the task can end.
        let fits = if tag == RESERVED_TAG {
            let Some(unsolicited) = &mut task.unsolicited else {
                return if task.is_ending() || task.superseded { Pending::Ignore } else { reject() };
            };
            if recovers && precedes(data_sn, unsolicited.next_data_sn) {
                return Pending::Ignore;
            }
            unsolicited.broken |= recovers && data_sn != unsolicited.next_data_sn;
            let in_order = data_sn == unsolicited.next_data_sn && offset == task.received;
            unsolicited.next_data_sn = data_sn.wrapping_add(1);
            unsolicited.broken || in_order && u64::from(offset) + u64::from(length) <= u64::from(unsolicited.limit)
        } else {
            let late = task.is_ending() || task.superseded;
            let Some(grant) = task.grants.iter_mut().find(|grant| grant.target_transfer_tag == tag && !grant.done)
            else {
                return if late { Pending::Ignore } else { reject() };
            };
            if header.lun != task.lun {
                return reject();
            }
            if recovers && precedes(data_sn, grant.next_data_sn) {
                return Pending::Ignore;
            }
            grant.broken |= recovers && data_sn != grant.next_data_sn;
            let in_order = data_sn == grant.next_data_sn && offset == grant.offset.wrapping_add(grant.received);
            grant.next_data_sn = data_sn.wrapping_add(1);
            task.answered_r2t_sn = task.answered_r2t_sn.max(grant.r2t_sn.wrapping_add(1));
            grant.broken || in_order && u64::from(grant.received) + u64::from(length) <= u64::from(grant.length)
        };
        if !fits {
            task.fault.get_or_insert(DataOutFault::IncorrectAmountOfData);
        }
        if task.fault.is_some() || task.is_broken(tag) || task.is_ending() {
            // Read past, so that the sequence ends, without touching memory.
            if length == 0 {
                self.data_out_arrived(id, header);
            } else if header.flags & FINAL != 0 {
                self.sequence_ends(id, tag);
            }
            return Pending::Ignore;
        }
        Pending::DataOut { task: id, header: *header }
    }

    /// The data of a Data-Out is not what was sent: it is asked for again where that can be, and otherwise
    /// its task ends (§7.8).
    pub(super) fn data_out_spoiled(&mut self, id: TaskId, header: &DataOut) {
        let recovers = self.keeps();
        let tag = header.target_transfer_tag.get();
        let Some(task) = self.tasks.get_mut(id) else { return };
        if !recovers {
            task.fault.get_or_insert(DataOutFault::ProtocolServiceCrcError);
        } else if let Some(unsolicited) = task.unsolicited.as_mut().filter(|_| tag == RESERVED_TAG) {
            unsolicited.broken = true;
        } else if let Some(grant) = task.grants.iter_mut().find(|grant| grant.target_transfer_tag == tag) {
            grant.broken = true;
        }
    }

    /// A Data-Out whose data was placed, or would have been, is complete.
    pub(super) fn data_out_arrived(&mut self, id: TaskId, header: &DataOut) {
        let length = header.header().data_segment_bytes();
        let tag = header.target_transfer_tag.get();
        let Some(task) = self.tasks.get_mut(id) else { return };
        let awaited = match tag {
            RESERVED_TAG => task.unsolicited.is_some(),
            tag => task.grants.iter().any(|grant| grant.target_transfer_tag == tag),
        };
        // It was asked for anew while it was coming: what came does not count, or it would count twice.
        if !awaited {
            return;
        }
        if task.fault.is_none() && !task.is_broken(tag) {
            if tag == RESERVED_TAG {
                task.received = task.received.saturating_add(length);
            } else if let Some(grant) = task.grants.iter_mut().find(|grant| grant.target_transfer_tag == tag) {
                grant.received = grant.received.saturating_add(length);
            }
        }
        if header.flags & FINAL != 0 {
            self.sequence_ends(id, tag);
        }
    }

    /// Data that a task is owed is not waited for any more; what comes of it is ignored.
    pub(super) fn forgive_data(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.data_done() {
            return;
        }
        task.unsolicited = None;
        task.grants.clear();
        if self.forgiven.len() >= FORGIVEN {
            self.forgiven.pop_front();
        }
        self.forgiven.push_back(task.initiator_task_tag);
    }

    fn sequence_ends(&mut self, id: TaskId, tag: u32) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.is_broken(tag) && task.fault.is_none() && !task.is_ending() {
            return self.ask_again(id);
        }
        if tag == RESERVED_TAG {
            if let Some(unsolicited) = task.unsolicited.take()
                && task.received != unsolicited.limit
            {
                task.fault.get_or_insert(DataOutFault::IncorrectAmountOfData);
            }
        } else if let Some(at) = task.grants.iter().position(|grant| grant.target_transfer_tag == tag) {
            let grant = &mut task.grants[at];
            grant.done = true;
            if grant.received != grant.length {
                task.fault.get_or_insert(DataOutFault::IncorrectAmountOfData);
            }
            // What is behind a sequence that was lost does not count before that one has come (§7.1.4.1).
            while let Some(first) = task.grants.first().filter(|grant| grant.done) {
                task.received = task.received.saturating_add(first.received);
                task.grants.remove(0);
            }
        }
        self.data_settled(id);
    }

    /// Something about the task's data changed: more is to be asked for, all is there, or it ends.
    pub(super) fn data_settled(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        match task.phase {
            Phase::Arriving | Phase::Ending => {}
            Phase::Ended => self.settle(id),
            Phase::Active => {
                if let Some(fault) = task.fault {
                    if task.data_done() && !std::mem::replace(&mut task.data_told, true) {
                        self.events.push_back(Event::DataOutFault(id, fault));
                    }
                    return;
                }
                let (Some(wanted), None) = (task.wanted, task.unsolicited) else { return };
                if task.received >= wanted {
                    if !std::mem::replace(&mut task.data_told, true) {
                        self.events.push_back(Event::DataOut(id));
                    }
                } else if !task.r2t_queued {
                    task.granted = task.granted.max(task.received);
                    let room = (task.grants.len() as u32) < self.parameters.max_outstanding_r2t;
                    let c = task.connection;
                    if room
                        && task.granted < wanted
                        && let Some(connection) = self.connections.get_mut(c)
                    {
                        task.r2t_queued = true;
                        connection.queue(Outgoing::ReadyToTransfer(id));
                    }
                }
            }
        }
    }

    /// A task that the application has ended: its answer leaves, or it is gone, once no data is owed.
    pub(super) fn settle(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.phase != Phase::Ended || task.in_batch || !task.data_done() {
            return;
        }
        if task.response.is_some() {
            let c = task.connection;
            if !task.answer_queued && self.connections.get(c).is_some() {
                task.answer_queued = true;
                let fenced = task.response.as_ref().is_some_and(|response| response.fenced);
                self.respond(c, Outgoing::Answer(id), fenced);
            }
        } else if task.kept.is_none() {
            self.release(id);
        }
    }

    /// The task is over: its slot is free, its credit goes back, and who waited for it is told.
    pub(super) fn release(&mut self, id: TaskId) {
        let Some(task) = self.tasks.remove(id) else { return };
        if task.holds_credit {
            self.window.give_credit();
        }
        if let Some(kept) = task.kept {
            self.retained_bytes = self.retained_bytes.saturating_sub(kept.response.data_in as usize);
        }
        if !self.fences.is_empty() {
            self.fence_forgets(id);
        }
        for function in task.managed_by {
            self.function_task_ended(function);
        }
        self.events.push_back(Event::Ended(id));
        if self.awaits_logout {
            self.logout_proceeds();
        }
    }
}
