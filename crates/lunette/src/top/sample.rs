//! What a daemon has counted at a moment, and what two such moments say together: rates, latencies, depths.

use lun::statistics::{CommandKind, Counted};
use std::time::Duration;

/// A daemon at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When, in microseconds of the daemon's own clock.
    pub time_us: u64,
    /// Who it is.
    pub daemon: Daemon,
    /// Its disks.
    pub luns: Vec<Lun>,
    /// Its sessions.
    pub sessions: Vec<Session>,
    /// The door.
    pub door: Door,
}

/// Which process it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process.
    pub process: u64,
    /// Since when, as RFC 3339 has it.
    pub since: String,
    /// Workers that do not answer.
    pub silent_workers: Vec<u64>,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lun {
    /// Its target.
    pub target: String,
    /// Its number.
    pub number: u16,
    /// Where it lies.
    pub place: String,
    /// How large it is.
    pub bytes: Option<u64>,
    /// `online`, `offline`, `empty`.
    pub state: String,
    /// Whether it can be written.
    pub writable: bool,
    /// What was counted.
    pub counted: Counted,
}

/// A session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// TSIH.
    pub number: u16,
    /// The initiator's name.
    pub initiator: String,
    /// What it calls itself.
    pub alias: Option<String>,
    /// The target's name.
    pub target: String,
    /// Since when.
    pub since: String,
    /// What was agreed: names and values.
    pub parameters: Vec<(String, String)>,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// What was counted.
    pub counted: Counted,
    /// What was counted at each of its LUNs.
    pub luns: Vec<(u16, Counted)>,
}

/// A connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// CID.
    pub cid: u16,
    /// Whom it comes from.
    pub peer: String,
    /// Where it has come to.
    pub local: String,
    /// Since when.
    pub since: String,
    /// Bytes that were received over it.
    pub received_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Which digests it has.
    pub digests: String,
}

/// The front door.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Door {
    /// Logins that succeeded.
    pub succeeded: u64,
    /// Logins that failed, by cause.
    pub failed: Vec<(String, u64)>,
    /// Connections in their login or in discovery.
    pub at_the_door: u64,
    /// Bounds: name, setting, how often they struck, what is bounded.
    pub bounds: Vec<Bound>,
    /// Refused logins, the newest first.
    pub refusals: Vec<Refusal>,
}

/// A bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub setting: String,
    /// How often it struck.
    pub struck: u64,
    /// What is bounded.
    pub what: String,
}

/// A refused login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub time: String,
    /// From where.
    pub peer: String,
    /// Who for what.
    pub who: String,
    /// The kind of reason.
    pub cause: String,
    /// The reason.
    pub why: String,
}

/// What happened between two moments, by the second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    /// Commands.
    pub operations: f64,
    /// Reads.
    pub reads: f64,
    /// Writes.
    pub writes: f64,
    /// Bytes that were read.
    pub read_bytes: f64,
    /// Bytes that were written.
    pub written_bytes: f64,
    /// Commands in flight on average.
    pub depth: f64,
    /// Commands that failed.
    pub errors: f64,
    /// Median latency; none where there was no command.
    pub p50: Option<Duration>,
    /// 99 of 100 took no longer.
    pub p99: Option<Duration>,
    /// 999 of 1,000 took no longer.
    pub p999: Option<Duration>,
    /// What was counted between.
    pub between: Counted,
}

impl Rates {
    /// Of what was counted in so many microseconds.
    pub fn of(now: &Counted, before: &Counted, microseconds: u64) -> Rates {
        let between = now.since(before);
        let seconds = microseconds.max(1) as f64 / 1e6;
        let rate = |count: u64| count as f64 / seconds;
        let (read, write) = (between.kind(CommandKind::Read), between.kind(CommandKind::Write));
        let total = between.total();
        let latencies = between.latencies();
        // Ends without a status (aborted ones) are errors and no commands.
        let failed: u64 = between.errors.iter().sum();
        Rates {
            operations: rate(total.commands),
            reads: rate(read.commands),
            writes: rate(write.commands),
            read_bytes: rate(read.bytes),
            written_bytes: rate(write.bytes),
            depth: total.time.as_secs_f64() / seconds,
            errors: rate(failed.max(total.failed)),
            p50: latencies.quantile(0.5),
            p99: latencies.quantile(0.99),
            p999: latencies.quantile(0.999),
            between,
        }
    }
}

/// How often commands have failed since the start.
pub fn failures(counted: &Counted) -> u64 {
    counted.errors.iter().sum::<u64>().max(counted.total().failed)
}

impl Sample {
    /// Microseconds since another sample of the same process; `None` where it is of another one, or not later.
    pub fn after(&self, before: &Sample) -> Option<u64> {
        let same = self.daemon.process == before.daemon.process && self.daemon.since == before.daemon.since;
        self.time_us.checked_sub(before.time_us).filter(|between| same && *between > 0)
    }

    /// What a LUN did since the sample before.
    pub fn lun_rates(&self, lun: &Lun, before: Option<&Sample>) -> Rates {
        let base = before.and_then(|before| {
            let microseconds = self.after(before)?;
            let then = before.luns.iter().find(|other| other.target == lun.target && other.number == lun.number);
            Some((then?.counted.clone(), microseconds))
        });
        base.map_or_else(Rates::default, |(then, microseconds)| Rates::of(&lun.counted, &then, microseconds))
    }

    /// What a session did since the sample before. One that came between did all of it between.
    pub fn session_rates(&self, session: &Session, before: Option<&Sample>) -> Rates {
        let base = before.and_then(|before| {
            let microseconds = self.after(before)?;
            let same = |other: &&Session| other.number == session.number && other.since == session.since;
            let then = before.sessions.iter().find(same).map(|then| then.counted.clone());
            Some((then.unwrap_or_default(), microseconds))
        });
        base.map_or_else(Rates::default, |(then, microseconds)| Rates::of(&session.counted, &then, microseconds))
    }

    /// What a session did at one of its LUNs since the sample before.
    pub fn session_lun_rates(&self, session: &Session, lun: u16, before: Option<&Sample>) -> Rates {
        let at = |session: &Session| {
            session.luns.iter().find(|(number, _)| *number == lun).map(|(_, counted)| counted.clone())
        };
        let base = before.and_then(|before| {
            let microseconds = self.after(before)?;
            let same = |other: &&Session| other.number == session.number && other.since == session.since;
            let then = before.sessions.iter().find(same).and_then(at).unwrap_or_default();
            Some((then, microseconds))
        });
        match (at(session), base) {
            (Some(now), Some((then, microseconds))) => Rates::of(&now, &then, microseconds),
            _ => Rates::default(),
        }
    }
}
