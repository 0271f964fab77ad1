//! Every bound of the target: its name, its default, what it may be set to, how often it struck. Nothing that a
//! stranger does goes past one of these.

use crate::slow::SlowCommands;
use iscsi::counter::Counter;
use iscsi::login::target::LoginLimits;
use iscsi::session::SessionLimits;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Bounds of a target. Clones count together.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in their login at a time.
    pub logins: usize,
    /// Connections in their login at a time from one address.
    pub logins_by_address: usize,
    /// From accepting a connection to the end of its login.
    pub login_time: Duration,
    /// Text, keys and exchanges of a login.
    pub login: LoginLimits,
    /// A discovery session that takes longer is closed.
    pub discovery_time: Duration,
    /// The longest delay of the answer to a login that failed. Zero: none.
    pub failure_delay: Duration,
    /// Refused connections that wait for their answer at a time.
    pub delayed: usize,
    /// Refused connections of one address that wait for their answer at a time.
    pub delayed_by_address: usize,
    /// Addresses whose failures are remembered.
    pub failing_addresses: usize,
    /// Refused logins that the administration view shows.
    pub refusals: usize,
    /// Log lines in a second about strangers.
    pub log_lines: usize,
    /// Log lines in a second about one address.
    pub log_lines_by_address: usize,
    /// Sessions at a time.
    pub sessions: usize,
    /// Sessions at a time of one initiator name.
    pub sessions_by_initiator: usize,
    /// How long a login waits for the end of the session whose place it takes.
    pub reinstatement_time: Duration,
    /// Windows, pings and backlogs of a session.
    pub session: SessionLimits,
    /// Bytes of data in flight, of all workers together.
    pub memory: usize,
    /// Those of one session.
    pub session_memory: usize,
    /// Data that was asked for and does not move for so long costs its session.
    pub slow_sender: Duration,
    /// Answers that are not read for so long cost their connection.
    pub slow_reader: Duration,
    /// Connections of an iSNS server to us at a time, and as many of others.
    pub isns_notifiers: usize,
    /// How long somebody else than the iSNS server may be connected where its messages are taken.
    pub isns_notifier_time: Duration,
    /// How long a shutdown waits for what is in flight.
    pub grace: Duration,
    /// How often those struck that are not a session's own.
    pub struck: Arc<Counters>,
    /// Which commands are slow.
    pub slow: Arc<SlowCommands>,
}

/// How often the bounds of the door and of the workers struck.
#[derive(Debug, Default)]
#[allow(missing_docs)] // Each is the bound of its name.
pub struct Counters {
    pub logins: Counter,
    pub logins_by_address: Counter,
    pub login_time: Counter,
    pub text_bytes: Counter,
    pub keys: Counter,
    pub exchanges: Counter,
    pub discovery_time: Counter,
    pub failure_delay: Counter,
    pub delayed: Counter,
    pub delayed_by_address: Counter,
    pub failing_addresses: Counter,
    pub refusals: Counter,
    pub log_lines: Counter,
    pub log_lines_by_address: Counter,
    pub sessions: Counter,
    pub sessions_by_initiator: Counter,
    pub reinstatement_time: Counter,
    pub memory: Counter,
    pub slow_sender: Counter,
    pub slow_reader: Counter,
    pub isns_notifiers: Counter,
    pub isns_notifier_time: Counter,
    pub grace: Counter,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            logins: 1024,
            logins_by_address: 64,
            login_time: Duration::from_secs(15),
            login: LoginLimits::default(),
            discovery_time: Duration::from_secs(60),
            failure_delay: Duration::from_secs(3),
            delayed: 256,
            delayed_by_address: 16,
            failing_addresses: 1024,
            refusals: 64,
            log_lines: 100,
            log_lines_by_address: 20,
            sessions: 4096,
            sessions_by_initiator: 64,
            reinstatement_time: Duration::from_secs(10),
            session: SessionLimits::default(),
            memory: 24 << 20,
            session_memory: 16 << 20,
            slow_sender: Duration::from_secs(30),
            slow_reader: Duration::from_secs(60),
            isns_notifiers: 8,
            isns_notifier_time: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            struck: Arc::default(),
            slow: Arc::default(),
        }
    }
}

/// In what a bound is told and set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes; a setting may say 64K, 16M or 2G.
    Bytes,
    /// Milliseconds; a setting says seconds (`15`, `15s`) or milliseconds (`500ms`).
    Time,
}

/// One bound: a row of [`BOUNDS`].
pub struct Bound {
    /// The setting's name.
    pub name: &'static str,
    /// In what it is told.
    pub unit: Unit,
    /// What it may be.
    pub range: RangeInclusive<u64>,
    /// What is bounded.
    pub what: &'static str,
    /// What happens at the bound.
    pub then: &'static str,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
    struck: fn(&Limits) -> u64,
}

impl Bound {
    /// The bound of this name.
    pub fn find(name: &str) -> Option<&'static Bound> {
        BOUNDS.iter().find(|bound| bound.name == name)
    }

    /// What it is set to, in its unit.
    pub fn value(&self, limits: &Limits) -> u64 {
        (self.get)(limits)
    }

    /// How often it struck.
    pub fn struck(&self, limits: &Limits) -> u64 {
        (self.struck)(limits)
    }

    /// A value as a setting says it.
    pub fn text(&self, value: u64) -> String {
        let units = [(30, "G"), (20, "M"), (10, "K")];
        match self.unit {
            Unit::Count => value.to_string(),
            Unit::Time if value.is_multiple_of(1000) => format!("{}s", value / 1000),
            Unit::Time => format!("{value}ms"),
            Unit::Bytes => units
                .iter()
                .find(|(shift, _)| value >= 1 << shift && value.is_multiple_of(1 << shift))
                .map_or_else(|| value.to_string(), |(shift, unit)| format!("{}{unit}", value >> shift)),
        }
    }

    fn parse(&self, text: &str) -> Option<u64> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let number: u64 = digits.parse().ok()?;
        let factor = match (self.unit, unit) {
            (Unit::Count | Unit::Bytes, "") | (Unit::Time, "ms") => 1,
            (Unit::Time, "" | "s") => 1000,
            (Unit::Bytes, "K" | "KiB") => 1 << 10,
            (Unit::Bytes, "M" | "MiB") => 1 << 20,
            (Unit::Bytes, "G" | "GiB") => 1 << 30,
            _ => return None,
        };
        number.checked_mul(factor)
    }
}

/// What a worker has at least: one command of the largest size, and as much again for the others.
const WORKER_MEMORY: usize = 12 << 20;

impl Limits {
    /// Bytes of data in flight of each of so many workers.
    pub fn worker_memory(&self, workers: usize) -> usize {
        (self.memory / workers.max(1)).max(WORKER_MEMORY)
    }

    /// Sets the bound of this name to what a setting says. The error says what is wrong with it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let bound = Bound::find(name).ok_or_else(|| {
            let names: Vec<_> = BOUNDS.iter().map(|bound| bound.name).collect();
            format!("there is no limit '{name}'; there are {}", names.join(", "))
        })?;
        let (low, high) = (bound.text(*bound.range.start()), bound.text(*bound.range.end()));
        match bound.parse(text).filter(|value| bound.range.contains(value)) {
            Some(value) => (bound.set)(self, value),
            None => return Err(format!("{name} is from {low} to {high}, not '{text}'")),
        }
        Ok(())
    }
}

/// A row whose value lies in a field of [`Limits`], or in several that are one setting.
macro_rules! bound {
    (@get Time, $field:expr) => { u64::try_from($field.as_millis()).unwrap_or(u64::MAX) };
    (@get $unit:ident, $field:expr) => { $field as u64 };
    (@set Time, $value:expr) => { Duration::from_millis($value) };
    (@set $unit:ident, $value:expr) => { $value.try_into().unwrap_or_default() };
    ($name:literal, $unit:ident $range:expr, $($field:ident).+ $(= $($other:ident).+)?,
     $($counter:ident).+ $(+ $($counter_2:ident).+)?, $what:literal, $then:literal) => {
        Bound {
            name: $name,
            unit: Unit::$unit,
            range: $range,
            what: $what,
            then: $then,
            get: |limits| bound!(@get $unit, limits.$($field).+),
            set: |limits, value| {
                limits.$($field).+ = bound!(@set $unit, value);
                $(limits.$($other).+ = bound!(@set $unit, value);)?
            },
            struck: |limits| limits.$($counter).+.get() $(+ limits.$($counter_2).+.get())?,
        }
    };
}

const HOUR: u64 = 3_600_000;

/// All bounds, in the order in which a stranger meets them.
#[rustfmt::skip]
pub const BOUNDS: &[Bound] = &[
    bound!("logins", Count 1..=100_000, logins, struck.logins,
        "connections in login or discovery at a time",
        "the oldest of the address that has most of them is closed"),
    bound!("logins-by-address", Count 1..=100_000, logins_by_address, struck.logins_by_address,
        "those of one address (of one /64 in IPv6)",
        "its oldest is closed"),
    bound!("login-time", Time 100..=HOUR, login_time, struck.login_time,
        "from a connection to the end of its login",
        "it is closed"),
    bound!("text-bytes", Bytes 8192..=16 << 20, login.text_bytes = session.text_bytes,
        struck.text_bytes + session.struck.text_bytes,
        "text of one login, or of one negotiation later",
        "the login ends with status 0200, a negotiation with a Reject (0Ah)"),
    bound!("keys", Count 64..=100_000, login.keys = session.keys, struck.keys + session.struck.keys,
        "keys of one login, or of one negotiation later",
        "the login ends with status 0200, a negotiation with a Reject (04h)"),
    bound!("text-time", Time 1000..=HOUR, session.text_time, session.struck.text_time,
        "a negotiation behind the login",
        "it is forgotten; a request that goes on with it is rejected (09h)"),
    bound!("exchanges", Count 6..=10_000, login.exchanges, struck.exchanges,
        "requests of one login",
        "it ends with status 0200"),
    bound!("discovery-time", Time 1000..=HOUR, discovery_time, struck.discovery_time,
        "a discovery session",
        "it is closed"),
    bound!("failure-delay", Time 0..=60_000, failure_delay, struck.failure_delay,
        "longest delay of the answer to an address that fails often; 0 none",
        "the next failure is answered after this time, no later"),
    bound!("delayed", Count 0..=100_000, delayed, struck.delayed,
        "refused connections that wait for their answer at a time",
        "the connection is closed without one"),
    bound!("delayed-by-address", Count 0..=100_000, delayed_by_address, struck.delayed_by_address,
        "those of one address",
        "the connection is closed without one"),
    bound!("failing-addresses", Count 1..=1_000_000, failing_addresses, struck.failing_addresses,
        "addresses whose failures are remembered",
        "the one that has been quiet longest is forgotten"),
    bound!("refusals", Count 0..=10_000, refusals, struck.refusals,
        "refused logins that `lunette status` shows",
        "the oldest is forgotten"),
    bound!("log-lines", Count 1..=100_000, log_lines, struck.log_lines,
        "log lines in a second about who comes, goes and is refused",
        "they are counted, and the next line says how many were not shown"),
    bound!("log-lines-by-address", Count 1..=100_000, log_lines_by_address, struck.log_lines_by_address,
        "those about one address",
        "they are counted"),
    bound!("sessions", Count 1..=65_535, sessions, struck.sessions,
        "sessions at a time",
        "a login ends with status 0302"),
    bound!("sessions-by-initiator", Count 1..=65_535, sessions_by_initiator, struck.sessions_by_initiator,
        "sessions at a time of one initiator name",
        "a login ends with status 0302"),
    bound!("reinstatement-time", Time 100..=HOUR, reinstatement_time, struck.reinstatement_time,
        "how long a login waits for the session whose place it takes",
        "it is closed"),
    bound!("window", Count 1..=4096, session.window = login.window, session.struck.window,
        "commands of a session in flight (MaxCmdSN)",
        "what is sent beyond it is ignored"),
    bound!("immediate", Count 1..=1024, session.immediate, session.struck.immediate,
        "immediate commands of a session in flight",
        "a Reject (06h); task management functions are counted apart, by the same number"),
    bound!("early-bytes", Bytes 4096..=1 << 30, session.early_bytes, session.struck.early_bytes,
        "requests of a session that came before their turn",
        "the connection is closed"),
    bound!("backlog-bytes", Bytes 4096..=1 << 30, session.backlog_bytes, session.struck.backlog,
        "answers beside data that a connection does not read",
        "nothing more is read from it until it reads"),
    bound!("retained-bytes", Bytes 4096..=1 << 30, session.retained_bytes, session.struck.retained,
        "answers of a session that wait for their acknowledgment, at recovery level 1 and above",
        "the oldest is forgotten, and a SNACK for it rejected (03h)"),
    bound!("rejects", Count 1..=1_000_000, session.rejects, session.struck.rejects,
        "Rejects of a connection in a minute",
        "it is closed"),
    bound!("nop-interval", Time 0..=HOUR, session.nop_interval, session.struck.nop_timeout,
        "after so much silence an initiator is pinged; 0 never",
        "see nop-timeout"),
    bound!("nop-timeout", Time 100..=HOUR, session.nop_timeout, session.struck.nop_timeout,
        "how long it may take to answer",
        "the connection is closed"),
    bound!("memory", Bytes 12 << 20..=1 << 40, memory, struck.memory,
        "data in flight; a worker has at least 12M of it",
        "commands wait, and R2Ts with them; what each session may have is in ARCHITECTURE.md, \"Memory\""),
    bound!("session-memory", Bytes 1 << 20..=1 << 40, session_memory, struck.memory,
        "data in flight of a session; a single command may have more",
        "its commands wait"),
    bound!("slow-sender", Time 100..=HOUR, slow_sender, struck.slow_sender,
        "how long data that was asked for may take to go on, by 4 KiB",
        "the session is closed"),
    bound!("slow-reader", Time 100..=HOUR, slow_reader, struck.slow_reader,
        "how long a connection may take to read 1 MiB or less",
        "it is closed"),
    bound!("isns-notifiers", Count 1..=1024, isns_notifiers, struck.isns_notifiers,
        "connections of an iSNS server to us at a time, and as many of others",
        "the oldest is closed"),
    bound!("isns-notifier-time", Time 100..=HOUR, isns_notifier_time, struck.isns_notifier_time,
        "a connection of somebody else where an iSNS server's messages are taken",
        "it is closed"),
    bound!("grace", Time 0..=HOUR, grace, struck.grace,
        "how long the end waits for what is in flight",
        "it is given up, and initiators are told"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_can_be_set_to_its_ends_and_to_nothing_beyond() {
        let names: std::collections::BTreeSet<_> = BOUNDS.iter().map(|bound| bound.name).collect();
        assert_eq!(names.len(), BOUNDS.len(), "each once");
        for bound in BOUNDS {
            let mut limits = Limits::default();
            let default = bound.value(&limits);
            assert!(bound.range.contains(&default), "{}: {default}", bound.name);
            let (low, high) = (*bound.range.start(), *bound.range.end());
            for value in [low, high, default] {
                limits.set(bound.name, &bound.text(value)).unwrap();
                assert_eq!(bound.value(&limits), value, "{}", bound.name);
                // Nothing else has moved.
                let mut restored = limits.clone();
                restored.set(bound.name, &bound.text(default)).unwrap();
                for other in BOUNDS {
                    assert_eq!(
                        other.value(&restored),
                        other.value(&Limits::default()),
                        "{} {}",
                        bound.name,
                        other.name
                    );
                }
            }
            let beyond = low.checked_sub(1).map(|below| bound.text(below)).into_iter().chain([bound.text(high + 1)]);
            for text in beyond.chain(["", "-1", "x", "5x", "1 ", "99999999999999999999"].map(str::to_owned)) {
                let error = limits.set(bound.name, &text).unwrap_err();
                assert!(error.contains(bound.name) && error.contains(&bound.text(high)), "{error}");
            }
        }
        assert!(Limits::default().set("login", "1").unwrap_err().contains("logins-by-address"));
    }

    #[test]
    fn settings_say_sizes_and_times_as_people_do() {
        let mut limits = Limits::default();
        limits.set("memory", "16M").unwrap();
        limits.set("login-time", "5").unwrap();
        limits.set("slow-reader", "500ms").unwrap();
        limits.set("window", "7").unwrap();
        assert_eq!((limits.memory, limits.login_time), (16 << 20, Duration::from_secs(5)));
        assert_eq!(limits.slow_reader, Duration::from_millis(500));
        assert_eq!((limits.session.window, limits.login.window), (7, 7), "told in the login, kept in the session");
    }

    #[test]
    fn what_strikes_one_clone_is_seen_at_all() {
        let limits = Limits::default();
        limits.clone().struck.text_bytes.count();
        limits.clone().session.struck.text_bytes.count();
        assert_eq!(Bound::find("text-bytes").unwrap().struck(&limits), 2);
    }

    /// docs/limits.md as this table makes it.
    fn page() -> String {
        let mut page = String::from(
            "# Bounds\n\nMade from the table in crates/target/src/limits.rs, and checked against it by its tests; to write \
             it anew: `LUNETTE_WRITE=1 cargo test -p lunette-target limits`.\n\n\
             Nothing that is on the network goes past one of these. Each is a setting: `--limit NAME=VALUE` of `lunette \
             serve`, which may be repeated, or a line of the table `[limits]` in the configuration file. Sizes may end \
             in K, M or G, times in s or ms (without it they are seconds). `lunette status` shows how often each \
             struck.\n\n\
             | limit | default | from, to | what is bounded | what happens at the bound |\n|---|---|---|---|---|\n",
        );
        let limits = Limits::default();
        for bound in BOUNDS {
            let (low, high) = (bound.text(*bound.range.start()), bound.text(*bound.range.end()));
            let Bound { name, what, then, .. } = bound;
            let default = bound.text(bound.value(&limits));
            page += &format!("| `{name}` | {default} | {low}, {high} | {what} | {then} |\n");
        }
        page
    }

    #[test]
    fn docs_limits_md_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
        if std::env::var_os("LUNETTE_WRITE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page(), "docs/limits.md is not what the table says; write it with LUNETTE_WRITE=1");
    }
}
