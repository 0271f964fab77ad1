//! The memory of a session's tasks, by their slots.

use block::{Account, Buf};
use io::link::{Memory, Placement};
use iscsi::session::TaskId;
use std::rc::Rc;

/// What a task's slot holds.
#[derive(Default)]
pub(super) struct Slot {
    task: Option<TaskId>,
    buffer: Option<Buf>,
    /// The lane knows the task.
    pub in_lane: bool,
    /// The task is to end with this fault's sense data once the lane has let go of it.
    pub fault: Option<iscsi::session::DataOutFault>,
    /// Bytes that the lane asked for.
    pub wanted: u32,
    /// There was no memory for what came unasked, and it was not kept.
    pub refused: bool,
}

/// The slots of a session.
pub(super) struct TaskMemory {
    slots: Vec<Slot>,
    account: Rc<Account>,
    /// The most bytes of a task that come unasked (FirstBurstLength).
    first_burst: u32,
}

impl TaskMemory {
    pub fn new(account: Rc<Account>, first_burst: u32) -> TaskMemory {
        TaskMemory { slots: Vec::new(), account, first_burst }
    }

    /// The task's slot; what an earlier task left there is gone.
    pub fn slot(&mut self, task: TaskId) -> &mut Slot {
        let at = task.slot();
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Slot::default);
        }
        let slot = &mut self.slots[at];
        if slot.task != Some(task) {
            if let Some(buffer) = slot.buffer.take() {
                self.account.give(buffer);
            }
            *slot = Slot { task: Some(task), ..Slot::default() };
        }
        slot
    }

    /// The task of a slot.
    pub fn task_at(&self, slot: usize) -> Option<TaskId> {
        self.slots.get(slot)?.task
    }

    /// The tasks of which the lane wants data, and how much.
    pub fn wanted(&self) -> impl Iterator<Item = (TaskId, u32)> {
        let wanting = self.slots.iter().filter(|slot| slot.in_lane && slot.wanted > 0);
        wanting.filter_map(|slot| Some((slot.task?, slot.wanted)))
    }

    /// Data-in of the lane, which is on the session's account already.
    pub fn put(&mut self, task: TaskId, buffer: Buf) {
        let old = self.slot(task).buffer.replace(buffer);
        if let Some(old) = old {
            self.account.give(old);
        }
    }

    /// What no task wants any more.
    pub fn give(&self, buffer: Buf) {
        self.account.give(buffer);
    }

    /// Nobody wants the task's data.
    pub fn drop_data(&mut self, task: TaskId) {
        if let Some(buffer) = self.slot(task).buffer.take() {
            self.account.give(buffer);
        }
    }

    /// For the lane, which gives it back to the account.
    pub fn take(&mut self, task: TaskId) -> Option<Buf> {
        self.slot(task).buffer.take()
    }

    /// Makes room for `length` bytes that are going to be asked for, keeping the first `received`.
    /// False: there is no memory now.
    pub fn reserve(&mut self, task: TaskId, length: u32, received: u32) -> bool {
        let account = Rc::clone(&self.account);
        self.grow(task, length, received, |length| account.take(length))
    }

    /// Makes room for data that came unasked: all that the task may receive where there is memory for
    /// that, else what may come unasked. A new command must never stop the stream: the data that other
    /// tasks wait for stands behind it (R2T-06).
    fn reserve_owed(&mut self, task: TaskId, expected: u32, end: u32, received: u32) -> bool {
        if self.slot(task).buffer.as_ref().is_some_and(|buffer| buffer.capacity() >= end as usize) {
            return true;
        }
        let account = Rc::clone(&self.account);
        let whole = if u64::from(expected) <= lun::MAXIMUM_TRANSFER_BYTES { expected.max(end) } else { end };
        let first = whole.min(self.first_burst).max(end);
        self.grow(task, whole, received, |length| account.take(length))
            || self.grow(task, first, received, |length| account.take_owed(length))
    }

    fn grow(&mut self, task: TaskId, length: u32, received: u32, take: impl Fn(usize) -> Option<Buf>) -> bool {
        let account = Rc::clone(&self.account);
        let slot = self.slot(task);
        if slot.buffer.as_ref().is_some_and(|buffer| buffer.capacity() >= length as usize) {
            return true;
        }
        let Some(mut larger) = take(length as usize) else { return false };
        if let Some(old) = slot.buffer.take() {
            let kept = (received as usize).min(old.capacity()).min(larger.capacity());
            larger.as_mut_slice()[..kept].copy_from_slice(&old.as_slice()[..kept]);
            account.give(old);
        }
        slot.buffer = Some(larger);
        true
    }

    /// The task is over.
    pub fn release(&mut self, task: TaskId) {
        if let Some(slot) = self.slots.get_mut(task.slot())
            && slot.task == Some(task)
        {
            if let Some(buffer) = slot.buffer.take() {
                self.account.give(buffer);
            }
            *slot = Slot::default();
        }
    }

    /// The session is over.
    pub fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            if let Some(buffer) = slot.buffer {
                self.account.give(buffer);
            }
        }
    }
}

impl Memory for TaskMemory {
    fn place(&mut self, task: TaskId, expected: u32, offset: u32, length: u32) -> Placement<'_> {
        let end = u64::from(offset) + u64::from(length);
        if end > lun::MAXIMUM_TRANSFER_BYTES {
            return Placement::Gone;
        }
        if self.slot(task).refused || !self.reserve_owed(task, expected, end as u32, offset) {
            // The command ends with TASK SET FULL; its data is read and forgotten.
            self.slot(task).refused = true;
            return Placement::Gone;
        }
        match &mut self.slot(task).buffer {
            Some(buffer) => match buffer.as_mut_slice().get_mut(offset as usize..end as usize) {
                Some(place) => Placement::Here(place),
                None => Placement::Gone,
            },
            None => Placement::Gone,
        }
    }

    fn payload(&self, task: TaskId, offset: u32, length: u32) -> &[u8] {
        let slot = self.slots.get(task.slot()).filter(|slot| slot.task == Some(task));
        let buffer = slot.and_then(|slot| slot.buffer.as_ref());
        buffer.and_then(|buffer| buffer.as_slice().get(offset as usize..(offset + length) as usize)).unwrap_or(&[])
    }
}
