//! Commands that a limit holds back: who waits, in which order they go on, when to look again.
//!
//! A task that is held back has begun: it has its place in the order of its nexus and is ended like any other. It
//! has touched no store, has asked for no data, and stands before no fence. Those of one nexus at one unit go on in the order
//! in which they came; between nexuses goes turn by turn, on one lane by a round and between lanes by the turns
//! that [`Limiter::charge`] gives.

use super::Lane;
use super::task::{First, Kind};
use crate::statistics::is_limited;
use crate::{Command, Limiter, NexusId, TaskAttribute, TaskTag};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Whose commands wait together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    nexus: NexusId,
    /// Where their unit stands among the channels.
    channel: usize,
    /// They are steps of its copies: these take their turns beside its own commands at the unit.
    steps: bool,
}

/// Those who wait.
#[derive(Default)]
pub(super) struct Paced {
    /// Of each nexus at each unit where it has waited.
    flows: HashMap<Key, Flow>,
    /// When it is the turn of a nexus at its own limit, and how many of its flows wait.
    nexuses: HashMap<NexusId, (u64, usize)>,
    /// Flows with commands, in the order of the round.
    round: VecDeque<Key>,
    /// When to look again; nothing where nobody waits.
    due: Option<u64>,
    /// Nobody is held back.
    suspended: bool,
}

#[derive(Default)]
struct Flow {
    /// The oldest first, with the bytes that each is going to move.
    held: VecDeque<(TaskTag, u64)>,
    /// When it is its turn at the limit of the unit.
    turn: u64,
}

impl Paced {
    /// Whether anybody waits.
    fn is_idle(&self) -> bool {
        self.round.is_empty()
    }

    /// A limit has changed: whoever waits is looked at in the next run.
    pub fn look_again(&mut self) {
        if !self.is_idle() {
            self.due = Some(0);
        }
    }

    /// Nobody can pass before this time; it may be that others can.
    fn wait_until(&mut self, ready: u64) {
        self.due = Some(self.due.map_or(ready, |due| due.min(ready)));
    }

    /// A nexus has ended, and with it all of its tasks.
    pub fn forget(&mut self, nexus: NexusId) {
        if self.nexuses.remove(&nexus).is_some() {
            self.flows.retain(|key, _| key.nexus != nexus);
        }
    }
}

impl Lane {
    /// Limits a nexus together with all others that have the same limit.
    pub fn limit_nexus(&mut self, nexus: NexusId, limiter: Arc<Limiter>) {
        let Some(it) = self.nexuses.get_mut(&nexus) else { return };
        if it.limiter.as_ref().is_some_and(|before| Arc::ptr_eq(before, &limiter)) {
            return;
        }
        let before = it.limiter.replace(Arc::clone(&limiter));
        if let Some((turn, flows)) = self.paced.nexuses.get_mut(&nexus) {
            *turn = 0;
            if *flows > 0 {
                before.inspect(|before| before.leave());
                limiter.wait();
            }
        }
        limiter.tell(&self.mailbox);
        // Those who waited for the one before wait for this one.
        self.paced.look_again();
    }

    /// Holds nobody back from now on, or again as the limits say. What passes meanwhile is charged. Whoever waits passes
    /// in the next run.
    pub fn suspend_limits(&mut self, suspended: bool) {
        self.paced.suspended = suspended;
        self.paced.look_again();
    }

    /// When the lane is to be run though nothing has come, on the clock of [`crate::Ticks`].
    pub fn poll_timeout(&self) -> Option<u64> {
        self.paced.due
    }

    /// Whether a limit holds back a command that has begun and moves so many bytes. Called where there is a limit.
    pub(super) fn is_paced(&mut self, command: &Command, channel: usize, bytes: u64) -> bool {
        if !is_limited(command.cdb.bytes().first().copied().unwrap_or(0xff)) {
            return false;
        }
        let key = Key { nexus: command.nexus, channel, steps: false };
        let first = command.attribute == TaskAttribute::HeadOfQueue;
        let waits = self.waits_in(key, command.tag, bytes, first);
        if waits && let Some(task) = self.tasks.get_mut(&command.tag) {
            task.course.asked = 0;
        }
        waits
    }

    /// Whether a task that moves so many bytes has to wait, which it then does; `first`, before its fellows.
    fn waits_in(&mut self, key: Key, tag: TaskTag, bytes: u64, first: bool) -> bool {
        let waits = self.paced.flows.get(&key).is_some_and(|flow| !flow.held.is_empty());
        if !waits {
            let Some(ready) = self.try_to_pass(key, bytes) else { return false };
            self.begin_to_wait(key, ready);
        }
        let held = &mut self.paced.flows.entry(key).or_default().held;
        match first {
            true => held.push_front((tag, bytes)),
            false => held.push_back((tag, bytes)),
        }
        true
    }

    /// Lets a command of these bytes pass where it may, or tells when to look again.
    fn try_to_pass(&mut self, key: Key, bytes: u64) -> Option<u64> {
        let Key { nexus, channel, .. } = key;
        let unit = &self.channels[channel].unit.commons.limiter;
        let own = self.nexuses.get(&nexus).and_then(|nexus| nexus.limiter.as_deref());
        let turn = self.paced.flows.get(&key).map_or(0, |flow| flow.turn);
        let (own_turn, flows) = self.paced.nexuses.get(&nexus).copied().unwrap_or((0, 0));
        let ready = unit.ready(turn).max(own.map_or(0, |own| own.ready(own_turn)));
        if ready > self.now && !self.paced.suspended {
            return Some(ready);
        }
        let turn = unit.charge(self.now, bytes, turn);
        let own_turn = own.map_or(0, |own| own.charge(self.now, bytes, own_turn));
        self.paced.flows.entry(key).or_default().turn = turn;
        self.paced.nexuses.insert(nexus, (own_turn, flows));
        None
    }

    fn begin_to_wait(&mut self, key: Key, ready: u64) {
        let Key { nexus, channel, .. } = key;
        self.channels[channel].unit.commons.limiter.wait();
        let (_, flows) = self.paced.nexuses.entry(nexus).or_default();
        *flows += 1;
        if *flows == 1
            && let Some(own) = self.nexuses.get(&nexus).and_then(|nexus| nexus.limiter.as_deref())
        {
            own.wait();
        }
        self.paced.round.push_back(key);
        self.paced.wait_until(ready);
    }

    fn end_of_waiting(&mut self, key: Key) {
        let Key { nexus, channel, .. } = key;
        self.channels[channel].unit.commons.limiter.leave();
        let (_, flows) = self.paced.nexuses.entry(nexus).or_default();
        *flows = flows.saturating_sub(1);
        if *flows == 0
            && let Some(own) = self.nexuses.get(&nexus).and_then(|nexus| nexus.limiter.as_deref())
        {
            own.leave();
        }
        self.paced.round.retain(|other| *other != key);
    }

    /// Lets go on what may go on by now.
    pub(super) fn pass_paced(&mut self) {
        let Some(due) = self.paced.due else { return };
        if due > self.now {
            self.look_at_the_clock();
        }
        if due > self.now {
            return;
        }
        self.paced.due = None;
        let (mut next, mut refused) = (u64::MAX, 0);
        // One command of each in turn, until none may pass.
        while refused < self.paced.round.len()
            && let Some(key) = self.paced.round.pop_front()
        {
            self.paced.round.push_back(key);
            let Some((tag, bytes)) = self.paced.flows.get(&key).and_then(|flow| flow.held.front().copied()) else {
                self.end_of_waiting(key);
                continue;
            };
            if let Some(ready) = self.try_to_pass(key, bytes) {
                next = next.min(ready);
                refused += 1;
                continue;
            }
            (next, refused) = (u64::MAX, 0);
            if let Some(flow) = self.paced.flows.get_mut(&key) {
                flow.held.pop_front();
                if flow.held.is_empty() {
                    self.end_of_waiting(key);
                }
            }
            match self.tasks.get_mut(&tag).map(|task| &mut task.kind) {
                Some(Kind::Part(part)) => {
                    part.passed = true;
                    self.start_part(tag);
                }
                Some(kind) => {
                    let first = First::of(kind);
                    self.set_off(tag, first);
                }
                None => {}
            }
        }
        if !self.paced.round.is_empty() {
            self.paced.wait_until(next);
        }
    }

    /// A task ends that may be held back.
    pub(super) fn forget_paced(&mut self, tag: TaskTag) {
        if self.paced.is_idle() {
            return;
        }
        let Some(task) = self.tasks.get(&tag) else { return };
        let steps = matches!(task.kind, Kind::Part(_));
        let key = Key { nexus: task.nexus, channel: task.channel, steps };
        if let Some(flow) = self.paced.flows.get_mut(&key)
            && !flow.held.is_empty()
        {
            flow.held.retain(|(other, _)| *other != tag);
            if flow.held.is_empty() {
                self.end_of_waiting(key);
            }
        }
    }

    /// A channel is closed, at which nobody has a task any more; the last one comes in its place.
    pub(super) fn close_paced(&mut self, channel: usize) {
        let waiting: Vec<Key> = self.paced.round.iter().copied().filter(|key| key.channel == channel).collect();
        waiting.into_iter().for_each(|key| self.end_of_waiting(key));
        let last = self.channels.len().saturating_sub(1);
        self.paced.flows.retain(|key, _| key.channel != channel);
        let moved: Vec<Key> = self.paced.flows.keys().copied().filter(|key| key.channel == last).collect();
        for key in moved {
            if let Some(flow) = self.paced.flows.remove(&key) {
                self.paced.flows.insert(Key { channel, ..key }, flow);
            }
        }
        self.paced.round.iter_mut().filter(|key| key.channel == last).for_each(|key| key.channel = channel);
    }

    /// Whether a limit holds back a step of a copy, which then waits; it has touched nothing.
    pub(super) fn is_part_paced(&mut self, tag: TaskTag) -> bool {
        let Some(task) = self.tasks.get(&tag) else { return false };
        let Kind::Part(part) = &task.kind else { return false };
        let own = self.nexuses.get(&task.nexus).and_then(|nexus| nexus.limiter.as_deref());
        let limited = self.channels[task.channel].unit.commons.limiter.is_on() || own.is_some_and(Limiter::is_on);
        // A fence may have come between its passing and its request.
        if part.passed || !limited {
            return false;
        }
        let key = Key { nexus: task.nexus, channel: task.channel, steps: true };
        let length = task.extent.length;
        self.waits_in(key, tag, length, false)
    }
}
