//! What is counted of commands: how many of each kind, their bytes, how they failed, how long they took.
//!
//! Counted in cells that one lane writes ([`cells`]); who asks adds them up and gets the plain numbers that are
//! here. Numbers only grow, so that whoever asks twice knows what happened between ([`Counted::since`]).

pub(crate) mod cells;

pub use cells::SessionCells;

use scsi::Status;
use std::time::Duration;

/// What a command does to the medium, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandKind {
    /// READ, in all its lengths.
    Read,
    /// WRITE, and what else puts the initiator's data on the medium.
    Write,
    /// SYNCHRONIZE CACHE.
    Flush,
    /// UNMAP.
    Unmap,
    /// All the rest.
    Other,
}

/// How many kinds there are.
pub const KINDS: usize = CommandKind::ALL.len();

impl CommandKind {
    /// All of them, in the order of [`Counted::kinds`].
    pub const ALL: [CommandKind; 5] =
        [CommandKind::Read, CommandKind::Write, CommandKind::Flush, CommandKind::Unmap, CommandKind::Other];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            CommandKind::Read => "read",
            CommandKind::Write => "write",
            CommandKind::Flush => "flush",
            CommandKind::Unmap => "unmap",
            CommandKind::Other => "other",
        }
    }

    /// The kind of a command with this OPERATION CODE.
    pub fn of(opcode: u8) -> CommandKind {
        match CLASSES[usize::from(opcode)] & !LIMITED {
            0 => CommandKind::Read,
            1 => CommandKind::Write,
            2 => CommandKind::Flush,
            3 => CommandKind::Unmap,
            _ => CommandKind::Other,
        }
    }
}

/// Whether commands with this OPERATION CODE count against a limit: those that use the store. What only asks, or
/// changes how the unit behaves, is answered at once whatever the limit is.
pub(crate) fn is_limited(opcode: u8) -> bool {
    CLASSES[usize::from(opcode)] & LIMITED != 0
}

const LIMITED: u8 = 0x80;

/// Kind and whether it is limited, by operation code.
static CLASSES: [u8; 256] = {
    let mut classes = [CommandKind::Other as u8; 256];
    let of_kind: [(CommandKind, &[u8]); 5] = [
        // READ (6), (10), (12), (16), READ CD MSF, READ CD.
        (CommandKind::Read, &[0x08, 0x28, 0xa8, 0x88, 0xb9, 0xbe]),
        // WRITE (6), (10), (12), (16), WRITE AND VERIFY, WRITE SAME, COMPARE AND WRITE, ORWRITE, WRITE ATOMIC.
        (CommandKind::Write, &[0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x41, 0x93, 0x89, 0x8b, 0x9c]),
        (CommandKind::Flush, &[0x35, 0x91]),
        (CommandKind::Unmap, &[0x42]),
        // VERIFY and PRE-FETCH, which have the store read.
        (CommandKind::Other, &[0x2f, 0xaf, 0x8f, 0x34, 0x90]),
    ];
    let mut at = 0;
    while at < of_kind.len() {
        let mut code = 0;
        while code < of_kind[at].1.len() {
            classes[of_kind[at].1[code] as usize] = of_kind[at].0 as u8 | LIMITED;
            code += 1;
        }
        at += 1;
    }
    classes
};

/// How many ways to fail are told apart.
pub const ERRORS: usize = ERROR_NAMES.len();

/// How commands fail, in the order of [`Counted::errors`]: the sense keys of CHECK CONDITION, the other statuses, and
/// the end without a status (ABORT TASK, a reset, a lost session).
pub const ERROR_NAMES: [&str; 22] = [
    "no_sense",
    "recovered_error",
    "not_ready",
    "medium_error",
    "hardware_error",
    "illegal_request",
    "unit_attention",
    "data_protect",
    "blank_check",
    "vendor_specific",
    "copy_aborted",
    "aborted_command",
    "reserved_0c",
    "volume_overflow",
    "miscompare",
    "completed",
    "busy",
    "reservation_conflict",
    "task_set_full",
    "aca_active",
    "task_aborted",
    "aborted",
];

/// The place among [`ERROR_NAMES`] of an end without a status.
pub(crate) const ABORTED: usize = 21;

/// The place among [`ERROR_NAMES`] of a status, with the sense key where there is one; none for what ended well.
pub(crate) fn error(status: Status, sense_key: Option<u8>) -> Option<usize> {
    match status {
        Status::Good | Status::ConditionMet => None,
        Status::CheckCondition => Some(usize::from(sense_key.unwrap_or(0) & 0x0f)),
        Status::Busy => Some(16),
        Status::ReservationConflict => Some(17),
        Status::TaskSetFull => Some(18),
        Status::AcaActive => Some(19),
        // TASK ABORTED, and what nobody sends.
        _ => Some(20),
    }
}

/// How many buckets a histogram of latencies has: four for each doubling from 1,024 ns to 68.7 s, so that a latency is
/// known within a quarter, and one at each end.
pub const BUCKETS: usize = 2 + SHARES * (LAST_DOUBLING - FIRST_DOUBLING);
const SHARES: usize = 4;
const FIRST_DOUBLING: usize = 10;
const LAST_DOUBLING: usize = 36;

/// The bucket of a latency in nanoseconds.
pub fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 1 << FIRST_DOUBLING {
        return 0;
    }
    let doubling = 63 - nanoseconds.leading_zeros() as usize;
    match doubling < LAST_DOUBLING {
        true => 1 + (doubling - FIRST_DOUBLING) * SHARES + (nanoseconds >> (doubling - 2) & 3) as usize,
        false => BUCKETS - 1,
    }
}

/// The nanoseconds at which a bucket ends: what is in it took less. The last one has no end.
pub fn bucket_end(bucket: usize) -> u64 {
    match bucket {
        0 => 1 << FIRST_DOUBLING,
        bucket if bucket < BUCKETS - 1 => {
            let (doubling, share) = ((bucket - 1) / SHARES + FIRST_DOUBLING, (bucket - 1) % SHARES);
            ((SHARES + share + 1) as u64) << (doubling - 2)
        }
        _ => u64::MAX,
    }
}

/// How many commands took how long: numbers by [`bucket`]. Nothing at all where there was none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

/// Numbers by bucket, as [`Latencies::buckets`] has told them elsewhere; what is beyond the last bucket is left out.
impl From<Vec<u64>> for Latencies {
    fn from(mut buckets: Vec<u64>) -> Latencies {
        if buckets.iter().all(|count| *count == 0) {
            return Latencies::default();
        }
        buckets.resize(BUCKETS, 0);
        Latencies(buckets)
    }
}

impl Latencies {
    /// By bucket; empty where there was none.
    pub fn buckets(&self) -> &[u64] {
        &self.0
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many took less than this many nanoseconds, where a bucket ends there.
    pub fn below(&self, nanoseconds: u64) -> u64 {
        self.0.iter().enumerate().take_while(|(at, _)| bucket_end(*at) <= nanoseconds).map(|(_, count)| count).sum()
    }

    /// The latency that this share of the commands did not exceed (0.5: the median), as exactly as the buckets are;
    /// none where there was no command.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut before = 0;
        for (at, here) in self.0.iter().enumerate() {
            if before + here >= rank {
                let from = at.checked_sub(1).map_or(0, bucket_end);
                let to = if at == BUCKETS - 1 { from } else { bucket_end(at) };
                // Within a bucket they are taken to be spread evenly.
                let within = (to - from) as f64 * (rank - before) as f64 / *here as f64;
                return Some(Duration::from_nanos(from + within as u64));
            }
            before += here;
        }
        None
    }

    fn combine(&mut self, other: &Latencies, combine: impl Fn(u64, u64) -> u64) {
        if other.0.is_empty() {
            return;
        }
        self.0.resize(BUCKETS, 0);
        for (here, there) in self.0.iter_mut().zip(&other.0) {
            *here = combine(*here, *there);
        }
    }
}

/// What was counted of the commands of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindCounted {
    /// Commands that ended with a status, whichever it was.
    pub commands: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Bytes that were moved by those that did not: read, written, given back.
    pub bytes: u64,
    /// How long all of them took together. What this grows by in a second is how many were in flight on average.
    pub time: Duration,
    /// How long each took; not kept of a unit of a session.
    pub latencies: Latencies,
}

/// What was counted of a unit, of a session, or of a unit of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// By kind, in the order of [`CommandKind::ALL`].
    pub kinds: [KindCounted; KINDS],
    /// Failures, in the order of [`ERROR_NAMES`]; not kept of a unit of a session.
    pub errors: [u64; ERRORS],
    /// Commands that have begun and not ended.
    pub in_flight: u64,
}

impl Counted {
    /// Of this kind.
    pub fn kind(&self, kind: CommandKind) -> &KindCounted {
        &self.kinds[kind as usize]
    }

    /// All kinds together, without their latencies.
    pub fn total(&self) -> KindCounted {
        let mut total = KindCounted::default();
        for kind in &self.kinds {
            total.commands = total.commands.saturating_add(kind.commands);
            total.failed = total.failed.saturating_add(kind.failed);
            total.bytes = total.bytes.saturating_add(kind.bytes);
            total.time = total.time.saturating_add(kind.time);
        }
        total
    }

    /// The latencies of all kinds together.
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.kinds.iter().for_each(|kind| all.combine(&kind.latencies, u64::saturating_add));
        all
    }

    /// The errors that there were, by name.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ERROR_NAMES.into_iter().zip(self.errors).filter(|(_, count)| *count > 0)
    }

    /// With what was counted elsewhere.
    pub fn add(&mut self, other: &Counted) {
        self.combine(other, u64::saturating_add, Duration::saturating_add);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
    }

    /// What was counted since it was looked at before; what is in flight is what it is now.
    pub fn since(&self, before: &Counted) -> Counted {
        let mut since = self.clone();
        since.combine(before, u64::saturating_sub, Duration::saturating_sub);
        since
    }

    fn combine(
        &mut self,
        other: &Counted,
        combine: impl Fn(u64, u64) -> u64 + Copy,
        times: impl Fn(Duration, Duration) -> Duration,
    ) {
        for (here, there) in self.kinds.iter_mut().zip(&other.kinds) {
            here.commands = combine(here.commands, there.commands);
            here.failed = combine(here.failed, there.failed);
            here.bytes = combine(here.bytes, there.bytes);
            here.time = times(here.time, there.time);
            here.latencies.combine(&there.latencies, combine);
        }
        for (here, there) in self.errors.iter_mut().zip(&other.errors) {
            *here = combine(*here, *there);
        }
    }
}

/// How long a command took and where the time went, in nanoseconds. What is in neither part it waited for its turn:
/// for older tasks, a fence, memory, a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// From its coming to its end.
    pub total: u64,
    /// Until its data had come after it was asked for.
    pub network: u64,
    /// From its first request to the store to its end.
    pub store: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_latency_is_known_within_a_quarter(nanoseconds in 0..1u64 << 40) {
            let at = bucket(nanoseconds);
            prop_assert!(nanoseconds < bucket_end(at));
            let start = at.checked_sub(1).map_or(0, bucket_end);
            prop_assert!(nanoseconds >= start, "{nanoseconds} in {start}..{}", bucket_end(at));
            if at > 0 && at < BUCKETS - 1 {
                prop_assert!(bucket_end(at) <= start + start.div_ceil(4));
            }
        }

        #[test]
        fn what_was_counted_between_is_what_was_added(counts in proptest::collection::vec(0..1u64 << 40, 1..50)) {
            let mut before = Latencies(vec![0; BUCKETS]);
            before.0[7] = 11;
            let mut after = before.clone();
            for count in &counts {
                after.0[bucket(*count)] += 1;
            }
            let counted = |latencies: &Latencies| {
                let mut counted = Counted::default();
                counted.kinds[0].latencies = latencies.clone();
                counted
            };
            let since = counted(&after).since(&counted(&before));
            prop_assert_eq!(since.kinds[0].latencies.count(), counts.len() as u64);
            let mut sorted = counts.clone();
            sorted.sort_unstable();
            for share in [0.0, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((counts.len() as f64 * share).ceil() as usize).max(1);
                let exact = sorted[rank - 1];
                let told = since.latencies().quantile(share).unwrap().as_nanos() as u64;
                // It lies in the same bucket, or at its end.
                prop_assert!(bucket(told) == bucket(exact) || told == bucket_end(bucket(exact)) || exact >= 1 << 36);
            }
        }
    }

    #[test]
    fn kinds_are_told_by_the_operation_code_and_questions_are_not_limited() {
        for (opcode, kind, limited) in [
            (0x28, CommandKind::Read, true),
            (0x8a, CommandKind::Write, true),
            (0x93, CommandKind::Write, true),
            (0x35, CommandKind::Flush, true),
            (0x42, CommandKind::Unmap, true),
            (0x8f, CommandKind::Other, true),
            (0x00, CommandKind::Other, false),
            (0x12, CommandKind::Other, false),
            (0x5f, CommandKind::Other, false),
            (0xff, CommandKind::Other, false),
        ] {
            assert_eq!((CommandKind::of(opcode), is_limited(opcode)), (kind, limited), "{opcode:02x}");
        }
        assert_eq!(ERROR_NAMES[ABORTED], "aborted");
        assert_eq!(error(Status::CheckCondition, Some(3)).map(|at| ERROR_NAMES[at]), Some("medium_error"));
        assert_eq!(error(Status::TaskAborted, None).map(|at| ERROR_NAMES[at]), Some("task_aborted"));
    }

    #[test]
    fn bounds_of_powers_of_two_are_ends_of_buckets() {
        for doubling in 10..36 {
            assert!((0..BUCKETS).any(|at| bucket_end(at) == 1 << doubling), "{doubling}");
        }
        let mut latencies = Latencies(vec![0; BUCKETS]);
        for nanoseconds in [500, 1023, 1024, 5000, 1 << 20, u64::MAX] {
            latencies.0[bucket(nanoseconds)] += 1;
        }
        assert_eq!([1 << 10, 1 << 13, 1 << 21, 1 << 36].map(|end| latencies.below(end)), [2, 4, 5, 5]);
        assert_eq!(latencies.count(), 6);
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
