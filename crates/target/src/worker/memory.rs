//! The memory of a session's tasks, by their slots.

use block::{Buf, Pool};
use io::link::{Memory, Placement};
use iscsi::session::TaskId;

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
}

/// The slots of a session.
pub(super) struct TaskMemory {
    slots: Vec<Slot>,
    pool: Pool,
}

impl TaskMemory {
    pub fn new(pool: Pool) -> TaskMemory {
        TaskMemory { slots: Vec::new(), pool }
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
                self.pool.give(buffer);
            }
            *slot = Slot { task: Some(task), ..Slot::default() };
        }
        slot
    }

    /// The tasks that have a slot.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.slots.iter().filter_map(|slot| slot.task)
    }

    pub fn put(&mut self, task: TaskId, buffer: Buf) {
        let old = self.slot(task).buffer.replace(buffer);
        if let Some(old) = old {
            self.pool.give(old);
        }
    }

    pub fn take(&mut self, task: TaskId) -> Option<Buf> {
        self.slot(task).buffer.take()
    }

    /// Makes room for `length` bytes, keeping the first `received`. False: there is no memory now.
    pub fn reserve(&mut self, task: TaskId, length: u32, received: u32) -> bool {
        let pool = self.pool.clone();
        let slot = self.slot(task);
        if slot.buffer.as_ref().is_some_and(|buffer| buffer.capacity() >= length as usize) {
            return true;
        }
        let Some(mut larger) = pool.take(length as usize) else { return false };
        if let Some(old) = slot.buffer.take() {
            let kept = (received as usize).min(old.capacity()).min(larger.capacity());
            larger.as_mut_slice()[..kept].copy_from_slice(&old.as_slice()[..kept]);
            pool.give(old);
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
                self.pool.give(buffer);
            }
            *slot = Slot::default();
        }
    }

    /// The session is over.
    pub fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            if let Some(buffer) = slot.buffer {
                self.pool.give(buffer);
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
        let needed = match expected {
            expected if u64::from(expected) <= lun::MAXIMUM_TRANSFER_BYTES => expected.max(end as u32),
            _ => end as u32,
        };
        if !self.reserve(task, needed, offset) {
            return Placement::Wait;
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
