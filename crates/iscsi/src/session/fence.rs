//! Response fences: in a session of several connections some responses are delivered after everything that
//! was sent before them, and before everything behind them (RFC 7143 §4.2.2.3).
//!
//! In a session of one connection the order of its stream does that.

use super::Session;
use super::connection::{Connection, ConnectionId, Outgoing};
use super::task::TaskId;
use crate::serial::precedes;
use std::collections::VecDeque;

/// A response that stands alone.
#[derive(Debug)]
struct Fence {
    number: u32,
    connection: ConnectionId,
    /// Until it is sent.
    what: Option<Outgoing>,
    /// The task, or the tag of the function, by which it is known when it is sent.
    task: Option<TaskId>,
    function: Option<u32>,
    /// Who has to acknowledge everything below which StatSN before it is sent, where that is known already;
    /// then who has to acknowledge itself.
    awaits: Vec<(ConnectionId, Option<u32>)>,
}

/// The fence that stands, and the responses that wait behind it.
#[derive(Debug, Default)]
pub(super) struct Fences {
    standing: Option<Fence>,
    waiting: VecDeque<(ConnectionId, Outgoing, bool)>,
    last_number: u32,
}

impl Fences {
    pub fn is_empty(&self) -> bool {
        self.standing.is_none()
    }

    /// Whether no response waits either.
    pub fn are_idle(&self) -> bool {
        self.standing.is_none() && self.waiting.is_empty()
    }

    /// The tags of functions whose responses wait.
    pub fn functions(&self) -> impl Iterator<Item = u32> {
        let standing = self.standing.iter().filter_map(|fence| fence.what.as_ref());
        standing.chain(self.waiting.iter().map(|(_, what, _)| what)).filter_map(|what| match what {
            Outgoing::TaskManagement { initiator_task_tag, .. } => Some(*initiator_task_tag),
            _ => None,
        })
    }

    /// The connection is gone: nothing is delivered on it.
    pub fn forget(&mut self, c: ConnectionId) {
        self.waiting.retain(|(connection, ..)| *connection != c);
    }
}

impl Session {
    /// Queues the answer of a task or a function: behind a fence where one stands, as one where it is
    /// `fenced`.
    #[inline]
    pub(super) fn respond(&mut self, c: ConnectionId, what: Outgoing, fenced: bool) {
        if fenced || !self.fences.is_empty() {
            self.respond_in_turn(c, what, fenced);
        } else if let Some(connection) = self.connections.get_mut(c) {
            connection.queue(what);
        }
    }

    #[cold]
    fn respond_in_turn(&mut self, c: ConnectionId, what: Outgoing, fenced: bool) {
        if !self.fences.is_empty() {
            self.fences.waiting.push_back((c, what, fenced));
        } else if fenced && self.connections.len() > 1 {
            self.raise_fence(c, what);
            self.fences_proceed();
        } else if let Some(connection) = self.connections.get_mut(c) {
            connection.queue(what);
        }
    }

    fn raise_fence(&mut self, c: ConnectionId, what: Outgoing) {
        let (task, function) = match &what {
            Outgoing::Answer(id) => (Some(*id), None),
            Outgoing::TaskManagement { initiator_task_tag, .. } => (None, Some(*initiator_task_tag)),
            _ => (None, None),
        };
        let number = self.fences.last_number.wrapping_add(1);
        self.fences.last_number = number;
        // What is queued already goes before it; on its own connection the stream keeps the order.
        let mut awaits = Vec::new();
        for (other, connection) in self.connections.iter_mut().filter(|(other, _)| *other != c) {
            if !connection.outgoing.is_empty() || precedes(connection.acknowledged, connection.stat_sn) {
                awaits.push((other, None));
                connection.queue(Outgoing::FenceMark { number });
                connection.queue_probe();
            }
        }
        self.fences.standing = Some(Fence { number, connection: c, what: Some(what), task, function, awaits });
    }

    /// Everything that was queued on this connection when the fence of this number was raised has its StatSN.
    pub(super) fn fence_mark_passed(&mut self, c: ConnectionId, number: u32) {
        let stat_sn = self.connections.get(c).map(|connection| connection.stat_sn);
        if let Some(fence) = self.fences.standing.as_mut().filter(|fence| fence.number == number)
            && let Some((_, awaited)) =
                fence.awaits.iter_mut().find(|(other, awaited)| *other == c && awaited.is_none())
        {
            *awaited = stat_sn;
        }
        self.fences_proceed();
    }

    /// The answer of this task has got its StatSN.
    pub(super) fn fence_sent(&mut self, id: TaskId, stat_sn: u32) {
        if self.fences.standing.as_ref().is_some_and(|fence| fence.task == Some(id)) {
            self.fence_is_sent(stat_sn);
        }
    }

    /// The answer of this function has got its StatSN.
    pub(super) fn fence_answered(&mut self, c: ConnectionId, tag: u32, stat_sn: u32) {
        let is_it = |fence: &Fence| fence.connection == c && fence.function == Some(tag);
        if self.fences.standing.as_ref().is_some_and(is_it) {
            self.fence_is_sent(stat_sn);
        }
    }

    fn fence_is_sent(&mut self, stat_sn: u32) {
        let Some(fence) = &mut self.fences.standing else { return };
        let c = fence.connection;
        fence.awaits = vec![(c, Some(stat_sn.wrapping_add(1)))];
        (fence.task, fence.function) = (None, None);
        if let Some(connection) = self.connections.get_mut(c) {
            connection.queue_probe();
        }
        self.fences_proceed();
    }

    /// Something was acknowledged, or a connection is gone: what waited may go.
    pub(super) fn fences_proceed(&mut self) {
        while let Some(fence) = &mut self.fences.standing {
            let connections = &self.connections;
            fence.awaits.retain(|(c, stat_sn)| {
                let open = |connection: &Connection| stat_sn.is_none_or(|sn| precedes(connection.acknowledged, sn));
                connections.get(*c).is_some_and(open)
            });
            let gone = connections.get(fence.connection).is_none();
            if !fence.awaits.is_empty() && !gone {
                return;
            }
            if let Some(what) = fence.what.take()
                && let Some(connection) = self.connections.get_mut(fence.connection)
            {
                connection.queue(what);
                return;
            }
            if (fence.task.is_some() || fence.function.is_some()) && !gone {
                // It is queued and has no number yet.
                return;
            }
            self.fences.standing = None;
            while let Some((c, what, fenced)) = self.fences.waiting.pop_front() {
                if fenced && self.connections.len() > 1 {
                    self.raise_fence(c, what);
                    break;
                }
                if let Some(connection) = self.connections.get_mut(c) {
                    connection.queue(what);
                }
            }
        }
    }

    /// Whether answers wait for others to be acknowledged.
    pub fn is_fenced(&self) -> bool {
        !self.fences.is_empty()
    }

    /// The connections are going to be dropped: answers that wait go without waiting.
    pub(super) fn fences_fall(&mut self) {
        let standing = self.fences.standing.take().and_then(|fence| Some((fence.connection, fence.what?)));
        let waiting = std::mem::take(&mut self.fences.waiting).into_iter().map(|(c, what, _)| (c, what));
        for (c, what) in standing.into_iter().chain(waiting) {
            if let Some(connection) = self.connections.get_mut(c) {
                connection.queue(what);
            }
        }
    }

    /// The task is over without its answer: no fence waits for it.
    #[cold]
    pub(super) fn fence_forgets(&mut self, id: TaskId) {
        let is_it = |what: &Outgoing| matches!(what, Outgoing::Answer(task) if *task == id);
        self.fences.waiting.retain(|(_, what, _)| !is_it(what));
        if let Some(fence) = &mut self.fences.standing
            && fence.task == Some(id)
        {
            fence.awaits.clear();
            (fence.task, fence.what) = (None, None);
            self.fences_proceed();
        }
    }
}
