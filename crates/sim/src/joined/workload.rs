//! Random commands, and what may come of them.

use super::model::{BLOCK, Content, Model, Version};
use super::setup::Setup;
use crate::Random;
use iscsi::initiator::{Command, Outcome, TaskId};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Blocks of the largest command.
const LARGEST: u64 = 32;
/// Simulated time within which a command has ended, whatever happens.
const BOUND: Duration = Duration::from_secs(600);
/// LUN 1.
const LUN: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

/// What a command does.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    /// With FUA or not.
    Write(Version, bool),
    /// COMPARE AND WRITE of one block, of which it is known what it holds.
    CompareAndWrite(Version),
    WriteSame(Version),
    Unmap(Version),
    Flush,
    TestUnitReady,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be sent, not before this.
    Waiting(Instant),
    /// Sent.
    InFlight(TaskId),
    /// Over.
    Done,
}

/// A command, from the decision to do it to its end, over however many sessions.
#[derive(Debug)]
struct Op {
    kind: Kind,
    lba: u64,
    blocks: u64,
    state: State,
    begun: Instant,
    data_in: Vec<u8>,
    data_out: Vec<u8>,
}

/// What is left to do, and the disk that it is done to.
pub(super) struct Workload {
    model: Model,
    random: Random,
    ops: Vec<Op>,
    left: u32,
    depth: usize,
    /// The whole disk is being read.
    judging: bool,
    /// How often each version was asked for.
    issues: HashMap<u64, u32>,
    wrong: Option<String>,
    commands: u32,
}

impl Workload {
    pub fn new(setup: &Setup, random: Random, _now: Instant) -> Workload {
        Workload {
            model: Model::new(setup.blocks as usize),
            random,
            ops: Vec::new(),
            left: setup.commands,
            depth: setup.depth,
            judging: false,
            issues: HashMap::new(),
            wrong: None,
            commands: 0,
        }
    }

    /// Commands that were carried out.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// What went wrong by now, if anything did.
    pub fn verdict(&mut self, now: Instant) -> Option<String> {
        if let Some(op) = self.ops.iter().find(|op| op.state != State::Done && now > op.begun + BOUND) {
            return Some(format!("a command hangs since {:?}: {:?} {:?}", now - op.begun, op.kind, op.state));
        }
        self.wrong.take()
    }

    /// Whether all is done, and the disk was read and found right.
    pub fn is_done(&self) -> bool {
        self.judging && self.ops.is_empty()
    }

    /// Whether all commands are done, and only the judgement is left.
    pub fn is_judging(&self) -> bool {
        self.judging
    }

    /// Whether a version reached the store more often than it was asked for.
    pub fn count_writes(&self, counts: &HashMap<u64, u32>) -> Option<String> {
        let mut twice: Vec<_> =
            counts.iter().filter(|(version, count)| **count > self.issues.get(version).copied().unwrap_or(0)).collect();
        twice.sort();
        twice.first().map(|(version, count)| {
            let issues = self.issues.get(version).copied().unwrap_or(0);
            format!("write {version} was asked for {issues} times and carried out {count} times")
        })
    }

    /// Begins new commands. True: something is new.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.ops.retain(|op| op.state != State::Done);
        let mut begun = false;
        if self.left == 0 && !self.judging && self.ops.is_empty() {
            self.judging = true;
            for lba in (0..self.model.blocks()).step_by(LARGEST as usize) {
                self.push(now, Kind::Read, lba, LARGEST, Vec::new());
            }
            return true;
        }
        // Blocks that are in use are chosen in vain; a few attempts are enough.
        for _ in 0..8 {
            if self.left == 0 || self.ops.len() >= self.depth {
                break;
            }
            begun |= self.one(now);
        }
        begun
    }

    fn one(&mut self, now: Instant) -> bool {
        let choice = self.random.below(16);
        if choice == 0 {
            let kind = if self.random.once_in(2) { Kind::Flush } else { Kind::TestUnitReady };
            self.push(now, kind, 0, 0, Vec::new());
            return true;
        }
        let one = matches!(choice, 11 | 12);
        let largest = if self.random.once_in(4) { LARGEST } else { 6 };
        let blocks = if one { 1 } else { 1 + self.random.below(largest) };
        let lba = self.random.below(self.model.blocks() - blocks + 1);
        let free = |op: &Op| op.lba + op.blocks <= lba || lba + blocks <= op.lba;
        if !self.ops.iter().all(free) {
            return false;
        }
        match choice {
            1..=4 => self.push(now, Kind::Read, lba, blocks, Vec::new()),
            5..=10 => {
                let version = self.model.begin(lba, blocks, Content::Own);
                let forced = self.random.once_in(3);
                self.push(now, Kind::Write(version, forced), lba, blocks, Model::bytes(version, lba, blocks));
            }
            11 | 12 => {
                let Some(old) = self.model.certain(lba) else { return false };
                let version = self.model.begin(lba, 1, Content::Own);
                let data = [Model::bytes(old, lba, 1), Model::bytes(version, lba, 1)].concat();
                self.push(now, Kind::CompareAndWrite(version), lba, 1, data);
            }
            13 => {
                let version = self.model.begin(lba, blocks, Content::Same);
                self.push(now, Kind::WriteSame(version), lba, blocks, Model::bytes(version, 0, 1));
            }
            _ => {
                let version = self.model.begin(lba, blocks, Content::Zeros);
                let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
                list.extend(lba.to_be_bytes());
                list.extend((blocks as u32).to_be_bytes());
                list.extend([0; 4]);
                self.push(now, Kind::Unmap(version), lba, blocks, list);
            }
        }
        true
    }

    fn push(&mut self, now: Instant, kind: Kind, lba: u64, blocks: u64, data_out: Vec<u8>) {
        self.left -= u32::from(!self.judging);
        let data_in = if matches!(kind, Kind::Read) { vec![0xaa; blocks as usize * BLOCK] } else { Vec::new() };
        self.ops.push(Op { kind, lba, blocks, state: State::Waiting(now), begun: now, data_in, data_out });
    }

    /// The next command that may be sent now.
    pub fn next(&self, now: Instant) -> Option<(usize, Command)> {
        let at = self.ops.iter().position(|op| matches!(op.state, State::Waiting(from) if from <= now))?;
        Some((at, self.ops[at].command()))
    }

    /// When commands may be sent.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.ops.iter().filter_map(|op| match op.state {
            State::Waiting(from) => Some(from),
            _ => None,
        })
    }

    /// It was sent.
    pub fn sent(&mut self, at: usize, task: TaskId) {
        let op = &mut self.ops[at];
        op.state = State::InFlight(task);
        if let Some(version) = op.kind.version() {
            *self.issues.entry(version.number).or_default() += 1;
        }
    }

    /// A command in flight.
    pub fn any_in_flight(&mut self) -> Option<TaskId> {
        let flying: Vec<TaskId> = self.ops.iter().filter_map(Op::task).collect();
        (!flying.is_empty()).then(|| *self.random.pick(&flying))
    }

    /// Whether this task is.
    pub fn is_in_flight(&self, task: TaskId) -> bool {
        self.ops.iter().any(|op| op.task() == Some(task))
    }

    /// Memory of a task for data-in.
    pub fn data_in(&mut self, task: TaskId) -> Option<&mut [u8]> {
        self.ops.iter_mut().find(|op| op.task() == Some(task)).map(|op| op.data_in.as_mut_slice())
    }

    /// Memory of a task for data-out.
    pub fn data_out(&self, task: TaskId) -> &[u8] {
        let op = self.ops.iter().find(|op| op.task() == Some(task));
        &op.expect("a batch names memory that was given back").data_out
    }

    /// What came of a task.
    pub fn completed(&mut self, now: Instant, task: TaskId, outcome: &Outcome) {
        let Some(at) = self.ops.iter().position(|op| op.task() == Some(task)) else {
            self.wrong = Some(format!("the end of a task that is not there: {outcome:?}"));
            return;
        };
        let op = &mut self.ops[at];
        let (lba, blocks, kind) = (op.lba, op.blocks, op.kind);
        op.state = State::Done;
        match outcome {
            Outcome::Answered { response: 0, status: 0, data_in, residual, .. } => {
                self.commands += 1;
                if *residual != 0 || *data_in as usize != op.data_in.len() {
                    self.wrong = Some(format!("{kind:?}: {data_in} bytes came, residual {residual}"));
                }
                if let Some(version) = kind.version() {
                    self.model.acknowledged(lba, blocks, version);
                } else if let Kind::Read = kind
                    && let Err(what) = self.model.check(lba, &op.data_in)
                {
                    self.wrong = Some(what);
                }
            }
            // BUSY, TASK SET FULL: not begun.
            Outcome::Answered { status: 0x08 | 0x28, .. } => op.state = State::Waiting(now + Duration::from_millis(20)),
            // TASK ABORTED.
            Outcome::Answered { status: 0x40, .. } => {}
            Outcome::Answered { status: 2, sense, .. } => match (sense.get(2).map(|key| key & 0x0f), sense.get(12)) {
                // A unit attention: not begun.
                (Some(6), _) => op.state = State::Waiting(now),
                // Data that did not arrive whole (§11.4.7.2).
                (Some(0x0b), Some(0x47 | 0x0c)) => {
                    if self.random.once_in(2) {
                        op.state = State::Waiting(now);
                    }
                }
                _ => self.wrong = Some(format!("{kind:?} at {lba}+{blocks} ends with sense {sense:02x?}")),
            },
            Outcome::Aborted => {}
            Outcome::Lost => {
                // Reads and writes may be repeated: no newer command has these blocks. What compares may not,
                // because it may have been carried out.
                let repeats = !matches!(kind, Kind::CompareAndWrite(..)) && !self.random.once_in(4);
                if repeats || self.judging {
                    op.state = State::Waiting(now);
                }
            }
            other => self.wrong = Some(format!("{kind:?} ends with {other:?}")),
        }
        if let (State::Waiting(_), Some(version)) = (op.state, kind.version())
            && !matches!(outcome, Outcome::Lost)
        {
            // It was certainly not carried out.
            self.issues.entry(version.number).and_modify(|issues| *issues -= 1);
        }
        // The judgement is not over before all of it was read.
        if self.judging && op.state == State::Done && !matches!(outcome, Outcome::Answered { status: 0, .. }) {
            op.state = State::Waiting(now);
        }
    }

    /// What is going on, for a report.
    pub fn describe(&self) -> String {
        let ops: Vec<String> =
            self.ops.iter().map(|op| format!("{:?} {}+{} {:?}", op.kind, op.lba, op.blocks, op.state)).collect();
        format!("{} to begin, {}", self.left, ops.join("; "))
    }
}

impl Kind {
    fn version(self) -> Option<Version> {
        match self {
            Kind::Write(version, _)
            | Kind::CompareAndWrite(version)
            | Kind::WriteSame(version)
            | Kind::Unmap(version) => Some(version),
            Kind::Read | Kind::Flush | Kind::TestUnitReady => None,
        }
    }
}

impl Op {
    fn task(&self) -> Option<TaskId> {
        match self.state {
            State::InFlight(task) => Some(task),
            _ => None,
        }
    }

    fn command(&self) -> Command {
        let mut cdb = [0u8; 16];
        let ten = |cdb: &mut [u8; 16], code, lba: u64, blocks: u64| {
            cdb[0] = code;
            cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
            cdb[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
        };
        match self.kind {
            Kind::Read => ten(&mut cdb, 0x28, self.lba, self.blocks),
            Kind::Write(_, forced) => {
                ten(&mut cdb, 0x2a, self.lba, self.blocks);
                cdb[1] = u8::from(forced) << 3;
            }
            Kind::CompareAndWrite(..) => {
                cdb[0] = 0x89;
                cdb[2..10].copy_from_slice(&self.lba.to_be_bytes());
                cdb[13] = 1;
            }
            Kind::WriteSame(_) => ten(&mut cdb, 0x41, self.lba, self.blocks),
            Kind::Unmap(_) => {
                cdb[0] = 0x42;
                cdb[8] = 24;
            }
            Kind::Flush => cdb[0] = 0x35,
            Kind::TestUnitReady => {}
        }
        Command { data_in: self.data_in.len() as u32, data_out: self.data_out.len() as u32, ..Command::new(LUN, &cdb) }
    }
}
