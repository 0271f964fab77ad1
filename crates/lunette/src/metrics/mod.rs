//! What Prometheus reads: one table of families, and the numbers of each from what the daemon counts anyway.
//!
//! Reading disturbs nobody: no worker is asked. Labels are targets, LUNs, kinds, causes and bounds, which the
//! configuration and the code bound; sessions are told by their number alone.

mod exposition;
mod process;
mod server;

pub use process::starts;
pub use server::Server;

use exposition::{CONTENT_TYPE, Exposition, Family, Kind};
use lun::statistics::CommandKind;
use std::collections::BTreeMap;
use target::Door;
use target::admin::{DoorView, LunStatistics};

/// The upper bounds of latencies, as powers of two of a nanosecond: from 16 µs to 17 s, each twice the one before.
/// The daemon counts four times as finely (`lunette top` shows that); a bound here is exactly an end of its buckets.
const DOUBLINGS: std::ops::RangeInclusive<u32> = 14..=34;

/// A family, and what fills it.
pub struct Metric {
    family: Family,
    fill: fn(&Family, &Facts, &mut Exposition),
}

/// What all families are filled from.
struct Facts {
    door: DoorView,
    luns: Vec<LunStatistics>,
    counted: Vec<lun::statistics::Counted>,
    /// Sessions by target.
    sessions: BTreeMap<String, u64>,
    slow: u64,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
    fill: fn(&Family, &Facts, &mut Exposition),
) -> Metric {
    Metric { family: Family { name, kind, help, labels }, fill }
}

const LUN: &[&str] = &["target", "lun"];
const OPERATION: &[&str] = &["target", "lun", "operation"];

/// All families, in the order in which they are told.
pub const METRICS: &[Metric] = &[
    metric(
        "lunette_build_info",
        Kind::Gauge,
        "Always 1; the label says which version runs.",
        &["version"],
        |f, _, out| {
            out.number(f, &[env!("CARGO_PKG_VERSION")], 1.0);
        },
    ),
    metric("lunette_targets", Kind::Gauge, "Targets that have LUNs.", &[], |f, facts, out| {
        out.number(f, &[], facts.sessions.len() as f64);
    }),
    metric("lunette_sessions", Kind::Gauge, "Sessions that are there, by target.", &["target"], |f, facts, out| {
        for (target, count) in &facts.sessions {
            out.number(f, &[target], *count as f64);
        }
    }),
    metric(
        "lunette_lun_latency_seconds",
        Kind::Histogram,
        "From a command's coming to its status, by LUN and operation (read, write, flush, unmap, other); its count is the number \
         of commands, failed ones among them.",
        OPERATION,
        latencies,
    ),
    metric(
        "lunette_lun_bytes_total",
        Kind::Counter,
        "Bytes that commands moved which ended well, by LUN and operation; of unmap what was given back.",
        OPERATION,
        |f, facts, out| by_operation(f, facts, out, |kind| kind.bytes),
    ),
    metric(
        "lunette_lun_failed_commands_total",
        Kind::Counter,
        "Commands that ended with another status than GOOD, by LUN and operation.",
        OPERATION,
        |f, facts, out| by_operation(f, facts, out, |kind| kind.failed),
    ),
    metric(
        "lunette_lun_errors_total",
        Kind::Counter,
        "How commands failed, by LUN: the sense key, another status, or aborted (ended without a status). Those that \
         never occurred are left out.",
        &["target", "lun", "error"],
        |f, facts, out| {
            each_lun(facts, |target, lun, _, counted| {
                counted.errors().for_each(|(error, count)| out.number(f, &[target, lun, error], count as f64));
            });
        },
    ),
    metric("lunette_lun_in_flight", Kind::Gauge, "Commands under way, by LUN.", LUN, |f, facts, out| {
        each_lun(facts, |target, lun, _, counted| out.number(f, &[target, lun], counted.in_flight as f64));
    }),
    metric("lunette_lun_size_bytes", Kind::Gauge, "The size of a LUN.", LUN, |f, facts, out| {
        each_lun(facts, |target, lun, one, _| {
            out.number(f, &[target, lun], one.unit.backend().limits().capacity() as f64);
        });
    }),
    metric(
        "lunette_lun_limit_operations",
        Kind::Gauge,
        "Operations a second that a LUN is limited to; left out where it is not.",
        LUN,
        |f, facts, out| limits(f, facts, out, |rate| rate.operations),
    ),
    metric(
        "lunette_lun_limit_bytes",
        Kind::Gauge,
        "Bytes a second that a LUN is limited to; left out where it is not.",
        LUN,
        |f, facts, out| limits(f, facts, out, |rate| rate.bytes),
    ),
    metric(
        "lunette_lun_limited_sessions",
        Kind::Gauge,
        "Sessions that wait just now because of a LUN's limit.",
        LUN,
        |f, facts, out| {
            each_lun(facts, |target, lun, one, _| out.number(f, &[target, lun], one.unit.limiter().waiting() as f64));
        },
    ),
    metric(
        "lunette_slow_commands_total",
        Kind::Counter,
        "Commands that took longer than [log] slow says.",
        &[],
        |f, facts, out| out.number(f, &[], facts.slow as f64),
    ),
    metric("lunette_logins_total", Kind::Counter, "Logins that succeeded.", &[], |f, facts, out| {
        out.number(f, &[], facts.door.succeeded as f64);
    }),
    metric(
        "lunette_login_failures_total",
        Kind::Counter,
        "Logins that failed, by cause.",
        &["cause"],
        |f, facts, out| {
            facts.door.failed.iter().for_each(|(cause, count)| out.number(f, &[cause.name()], *count as f64));
        },
    ),
    metric(
        "lunette_connections_at_the_door",
        Kind::Gauge,
        "Connections in their login, or in discovery.",
        &[],
        |f, facts, out| out.number(f, &[], facts.door.at_the_door as f64),
    ),
    metric(
        "lunette_bound_struck_total",
        Kind::Counter,
        "How often a bound of docs/limits.md struck.",
        &["bound"],
        |f, facts, out| {
            facts.door.bounds.iter().for_each(|bound| out.number(f, &[bound.name], bound.struck as f64));
        },
    ),
    metric(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the daemon started, in seconds since 1970-01-01 UTC.",
        &[],
        |f, _, out| out.number(f, &[], process::start_seconds()),
    ),
    metric(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Processor time of the daemon, in the kernel and outside of it.",
        &[],
        |f, _, out| out.number(f, &[], process::cpu_seconds()),
    ),
    metric("process_resident_memory_bytes", Kind::Gauge, "Memory of the daemon that is in RAM.", &[], |f, _, out| {
        process::resident_bytes().into_iter().for_each(|bytes| out.number(f, &[], bytes as f64))
    }),
    metric("process_open_fds", Kind::Gauge, "Descriptors that the daemon has open.", &[], |f, _, out| {
        process::open_descriptors().into_iter().for_each(|count| out.number(f, &[], count as f64));
    }),
    metric("process_max_fds", Kind::Gauge, "Descriptors that the daemon may have open.", &[], |f, _, out| {
        process::descriptors_max().into_iter().for_each(|count| out.number(f, &[], count as f64));
    }),
];

fn each_lun(facts: &Facts, mut with: impl FnMut(&str, &str, &LunStatistics, &lun::statistics::Counted)) {
    for (one, counted) in facts.luns.iter().zip(&facts.counted) {
        with(&one.target, &one.lun.to_string(), one, counted);
    }
}

/// Calls with each kind of commands that a LUN has had; with reads and writes in any case, so that nobody has to
/// wait for the first one.
fn each_kind(counted: &lun::statistics::Counted, mut with: impl FnMut(&str, &lun::statistics::KindCounted)) {
    for kind in CommandKind::ALL {
        let of_kind = counted.kind(kind);
        if of_kind.commands > 0 || matches!(kind, CommandKind::Read | CommandKind::Write) {
            with(kind.name(), of_kind);
        }
    }
}

fn by_operation(
    family: &Family,
    facts: &Facts,
    out: &mut Exposition,
    number: impl Fn(&lun::statistics::KindCounted) -> u64,
) {
    each_lun(facts, |target, lun, _, counted| {
        each_kind(counted, |name, kind| out.number(family, &[target, lun, name], number(kind) as f64));
    });
}

fn latencies(family: &Family, facts: &Facts, out: &mut Exposition) {
    each_lun(facts, |target, lun, _, counted| {
        each_kind(counted, |name, kind| {
            let below = |doubling: u32| ((1u64 << doubling) as f64 / 1e9, kind.latencies.below(1 << doubling));
            let below: Vec<_> = DOUBLINGS.map(below).collect();
            // The sum was read after the buckets, and so may have one more in it; the count is the buckets'.
            let (count, sum) = (kind.latencies.count(), kind.time.as_secs_f64());
            out.histogram(family, &[target, lun, name], &below, count, sum);
        });
    });
}

fn limits(family: &Family, facts: &Facts, out: &mut Exposition, of: impl Fn(lun::Rate) -> u64) {
    each_lun(facts, |target, lun, one, _| {
        let rate = of(one.unit.limiter().rate());
        if rate > 0 {
            out.number(family, &[target, lun], rate as f64);
        }
    });
}

/// All families as they stand.
pub fn text(door: &Door) -> String {
    let luns = door.lun_statistics();
    let mut sessions: BTreeMap<String, u64> = luns.iter().map(|lun| (lun.target.clone(), 0)).collect();
    for session in door.session_statistics() {
        *sessions.entry(session.target).or_default() += 1;
    }
    let counted = luns.iter().map(|lun| lun.unit.counted()).collect();
    let facts = Facts { door: door.view(), luns, counted, sessions, slow: door.slow_commands().count() };
    let mut out = Exposition::default();
    for Metric { family, fill } in METRICS {
        out.begin(family);
        fill(family, &facts, &mut out);
    }
    out.text()
}

/// The answer to GET /metrics.
pub fn answer(door: &Door) -> ([(axum::http::HeaderName, &'static str); 1], String) {
    ([(axum::http::header::CONTENT_TYPE, CONTENT_TYPE)], text(door))
}

#[cfg(test)]
mod tests;
