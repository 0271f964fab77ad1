//! The commands of a session: those that wait for their turn, in their order, and those that are under way, with
//! the memory that data goes to and comes from.

use super::shared::Job;
use crate::idempotence::{is_repeatable, written};
use crate::{Error, Lun};
use io::link::{Memory, Placement};
use iscsi::initiator::{ConnectionId, TaskId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A command that the core has.
pub(super) struct Running {
    pub id: TaskId,
    pub c: ConnectionId,
    pub job: Box<Job>,
}

/// All commands of a session.
#[derive(Default)]
pub(super) struct Jobs {
    /// By the slot of the task.
    running: Vec<Option<Running>>,
    count: usize,
    /// In the order of their sequence.
    backlog: VecDeque<Box<Job>>,
    /// Those that the unit was too busy for, and when they are tried again.
    delayed: Vec<(Instant, Box<Job>)>,
    /// Units at which another nexus may still carry out writes that are to be sent again: they are reset first.
    fenced: Vec<Lun>,
    /// What unfinished writes write: sequence, unit, first block and behind the last.
    writes: Vec<(u64, Lun, u64, u64)>,
    next: u64,
    /// Units that somebody looks at before anything is sent to them, and those that are not the disks any more that
    /// they were, with the reason.
    held: Vec<(Lun, Option<Error>)>,
    /// No command's time is over before.
    earliest: Option<Instant>,
}

impl Jobs {
    /// A command that has just come.
    pub fn take_in(&mut self, mut job: Box<Job>, now: Instant, timeout: Duration) {
        job.sequence = self.next;
        self.next += 1;
        self.set_deadline(&mut job, now, timeout);
        self.backlog.push_back(job);
    }

    /// Its time begins anew.
    pub fn set_deadline(&mut self, job: &mut Job, now: Instant, timeout: Duration) {
        job.deadline = now + job.command.timeout.unwrap_or(timeout);
        self.earliest = Some(self.earliest.map_or(job.deadline, |earliest| earliest.min(job.deadline)));
    }

    /// The time of all that wait begins anew.
    pub fn renew(&mut self, now: Instant, timeout: Duration) {
        let mut backlog = std::mem::take(&mut self.backlog);
        for job in &mut backlog {
            self.set_deadline(job, now, timeout);
        }
        self.backlog = backlog;
    }

    /// A command that is to be sent again, in its old place.
    pub fn put_back(&mut self, job: Box<Job>) {
        let at = self.backlog.partition_point(|other| other.sequence < job.sequence);
        self.backlog.insert(at, job);
    }

    /// The same, later.
    pub fn delay(&mut self, job: Box<Job>, until: Instant) {
        self.delayed.push((until, job));
    }

    /// Those whose delay is over wait for their turn again. All of them, where `now` is `None`.
    pub fn resume(&mut self, now: Option<Instant>) {
        while let Some(at) = self.delayed.iter().position(|(until, _)| now.is_none_or(|now| now >= *until)) {
            let (_, job) = self.delayed.swap_remove(at);
            self.put_back(job);
        }
    }

    /// Nothing more goes to these units but what looks at them.
    pub fn hold(&mut self, units: &[Lun]) {
        self.held.retain(|(lun, _)| !units.contains(lun));
        self.held.extend(units.iter().map(|lun| (*lun, None)));
    }

    /// Nothing goes to the units that have unfinished writes, until [`Jobs::lift_fence`]. Returns those units.
    pub fn raise_fences(&mut self) -> Vec<Lun> {
        let mut units: Vec<Lun> = self.writes.iter().map(|(_, lun, ..)| *lun).collect();
        units.sort_unstable();
        units.dedup();
        units.retain(|lun| !self.fenced.contains(lun));
        self.fenced.extend(&units);
        units
    }

    /// What was sent to the unit before is over there; or it is not known to be, and unfinished writes cannot be sent
    /// again: they are given back.
    pub fn lift_fence(&mut self, unit: Lun, over: bool) -> VecDeque<Box<Job>> {
        self.fenced.retain(|lun| *lun != unit);
        if over {
            return VecDeque::new();
        }
        let writes = |job: &Job| job.lun == unit && self.writes.iter().any(|(sequence, ..)| *sequence == job.sequence);
        let all = std::mem::take(&mut self.backlog);
        let (ended, backlog) = all.into_iter().partition(|job| writes(job));
        self.backlog = backlog;
        ended
    }

    /// What was found at a unit that was held: commands go on, or it is refused. Gives those that have to end.
    pub fn judge_held(&mut self, unit: Lun, verdict: Option<Error>) -> VecDeque<Box<Job>> {
        self.held.retain(|(lun, _)| *lun != unit);
        let Some(error) = verdict else { return VecDeque::new() };
        self.held.push((unit, Some(error)));
        self.resume(None);
        let all = std::mem::take(&mut self.backlog);
        let (over, backlog) = all.into_iter().partition(|job| job.lun == unit && !job.command.inspects);
        self.backlog = backlog;
        over
    }

    /// Why nothing is taken for this unit, where it was refused.
    pub fn refuses(&self, job: &Job) -> Option<Error> {
        let held = self.held.iter().find(|(lun, _)| *lun == job.lun && !job.command.inspects);
        held.and_then(|(_, why)| why.clone())
    }

    /// The first command whose unit is not held.
    fn first(&self) -> Option<usize> {
        if self.held.is_empty() && self.fenced.is_empty() {
            return Some(0);
        }
        let is_held = |job: &Job| {
            let held = !job.command.inspects && self.held.iter().any(|(lun, _)| *lun == job.lun);
            held || self.fenced.contains(&job.lun)
        };
        self.backlog.iter().position(|job| !is_held(job))
    }

    /// The next one, where it may be sent now: it waits while an earlier command writes what it writes, so that
    /// the earlier one, sent again after a loss, does not undo it.
    pub fn next(&mut self) -> Option<Box<Job>> {
        loop {
            let at = self.first()?;
            let front = self.backlog.get(at)?;
            // What nobody waits for and was never sent is not sent.
            if !front.registered && !front.sink.is_wanted() {
                self.backlog.remove(at);
                continue;
            }
            if !front.registered
                && let Some((start, end)) = written(&front.command.cdb, front.command.data_out.as_slice())
            {
                let (lun, sequence) = (front.lun, front.sequence);
                let overlaps = |(_, of, from, to): &(u64, Lun, u64, u64)| *of == lun && start < *to && *from < end;
                if self.writes.iter().any(overlaps) {
                    return None;
                }
                self.writes.push((sequence, lun, start, end));
            }
            let mut job = self.backlog.remove(at)?;
            job.registered = true;
            return Some(job);
        }
    }

    /// What it writes does not stand in anybody's way any more.
    pub fn forget(&mut self, job: &Job) {
        if let Some(at) = self.writes.iter().position(|(sequence, ..)| *sequence == job.sequence) {
            self.writes.swap_remove(at);
        }
    }

    /// The core has it.
    pub fn start(&mut self, id: TaskId, c: ConnectionId, job: Box<Job>) {
        let slot = id.slot();
        if self.running.len() <= slot {
            self.running.resize_with(slot + 1, || None);
        }
        self.running[slot] = Some(Running { id, c, job });
        self.count += 1;
    }

    /// The core has it no more.
    pub fn end(&mut self, id: TaskId) -> Option<Running> {
        let running = self.running.get_mut(id.slot())?.take_if(|running| running.id == id)?;
        self.count -= 1;
        Some(running)
    }

    /// One that the core has.
    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Job> {
        let running = self.running.get_mut(id.slot())?.as_mut()?;
        (running.id == id).then_some(&mut *running.job)
    }

    /// Tasks at the unit of this command that were sent before it and may be sent again; they are marked as dropped.
    pub fn dropped(&mut self, job: &Job) -> Vec<TaskId> {
        let mut dropped = Vec::new();
        for Running { id, job: other, .. } in self.running.iter_mut().flatten() {
            let before = other.lun == job.lun && other.sequence < job.sequence && !other.timed_out && !other.dropped;
            if before && is_repeatable(&other.command.cdb) {
                other.dropped = true;
                dropped.push(*id);
            }
        }
        dropped
    }

    /// Where the core sent it.
    pub fn connection_of(&self, id: TaskId) -> Option<ConnectionId> {
        let running = self.running.get(id.slot())?.as_ref()?;
        (running.id == id).then_some(running.c)
    }

    /// Commands that have not ended.
    pub fn unfinished(&self) -> usize {
        self.count + self.backlog.len() + self.delayed.len()
    }

    /// Commands that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// All that the core has not: they end now.
    pub fn drain(&mut self) -> VecDeque<Box<Job>> {
        self.fenced.clear();
        self.resume(None);
        std::mem::take(&mut self.backlog)
    }

    /// When something here is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.delayed.iter().map(|(until, _)| *until).chain(self.earliest).min()
    }

    /// Those that have taken too long: tasks to be aborted, and what was never sent.
    pub fn overdue(&mut self, now: Instant) -> (Vec<TaskId>, VecDeque<Box<Job>>) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return (Vec::new(), VecDeque::new());
        }
        let mut aborts = Vec::new();
        let mut earliest: Option<Instant> = None;
        for running in self.running.iter_mut().flatten().filter(|running| !running.job.timed_out) {
            match now >= running.job.deadline {
                true => {
                    running.job.timed_out = true;
                    aborts.push(running.id);
                }
                false => {
                    earliest = Some(earliest.map_or(running.job.deadline, |least| least.min(running.job.deadline)))
                }
            }
        }
        let mut late = VecDeque::new();
        let mut at = 0;
        while at < self.backlog.len() {
            let deadline = self.backlog[at].deadline;
            if now >= deadline {
                late.extend(self.backlog.remove(at));
                continue;
            }
            earliest = Some(earliest.map_or(deadline, |least| least.min(deadline)));
            at += 1;
        }
        self.earliest = earliest;
        (aborts, late)
    }
}

impl Memory for Jobs {
    fn place(&mut self, task: TaskId, _: u32, offset: u32, length: u32) -> Placement<'_> {
        let place = self.get_mut(task).and_then(|job| {
            let start = offset as usize;
            job.command.data_in.as_mut_slice().get_mut(start..start.checked_add(length as usize)?)
        });
        place.map_or(Placement::Gone, Placement::Here)
    }

    fn payload(&self, task: TaskId, offset: u32, length: u32) -> &[u8] {
        let running = self.running.get(task.slot()).and_then(Option::as_ref).filter(|running| running.id == task);
        let start = offset as usize;
        running
            .and_then(|one| one.job.command.data_out.as_slice().get(start..start + length as usize))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::driver::Sink;
    use tokio::sync::oneshot::{Receiver, channel};

    fn write(lba: u8, blocks: u8) -> (Box<Job>, Receiver<crate::Finished>) {
        let (sender, receiver) = channel();
        (Job::new(Lun::new(0), Command::new(&[0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0]), Sink::Once(sender)), receiver)
    }

    fn jobs(extents: &[(u8, u8)]) -> (Jobs, Vec<Receiver<crate::Finished>>) {
        let mut jobs = Jobs::default();
        let mut receivers = Vec::new();
        for (lba, blocks) in extents {
            let (job, receiver) = write(*lba, *blocks);
            jobs.take_in(job, Instant::now(), Duration::from_secs(9));
            receivers.push(receiver);
        }
        (jobs, receivers)
    }

    #[test]
    fn a_write_waits_for_an_earlier_one_of_the_same_blocks_wherever_that_is() {
        let (mut jobs, _receivers) = jobs(&[(0, 8), (8, 8), (4, 8), (20, 1)]);
        let first = jobs.next().unwrap();
        let second = jobs.next().unwrap();
        assert!(jobs.next().is_none(), "it overlaps both");
        // Sent again, the first still comes before it.
        jobs.put_back(first);
        let first = jobs.next().unwrap();
        assert_eq!((first.sequence, jobs.next().is_none()), (0, true));
        jobs.forget(&first);
        assert!(jobs.next().is_none());
        jobs.forget(&second);
        assert_eq!(jobs.next().unwrap().sequence, 2);
        assert_eq!(jobs.next().unwrap().sequence, 3);
    }

    #[test]
    fn what_is_sent_again_goes_before_what_is_newer() {
        let (mut jobs, _receivers) = jobs(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
        let taken: Vec<_> = std::iter::from_fn(|| jobs.next()).take(3).collect();
        for job in taken.into_iter().rev() {
            jobs.put_back(job);
        }
        let order: Vec<u64> = std::iter::from_fn(|| jobs.next()).map(|job| job.sequence).collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent_unless_it_was() {
        let (mut jobs, mut receivers) = jobs(&[(0, 1), (0, 1), (1, 1)]);
        let first = jobs.next().unwrap();
        receivers.clear();
        assert!(jobs.next().is_none(), "the others are forgotten, with what they would have written");
        assert_eq!(jobs.unfinished(), 0);
        jobs.put_back(first);
        assert_eq!(jobs.next().unwrap().sequence, 0);
    }
}
