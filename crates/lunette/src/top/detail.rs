//! A close look: at a disk with its initiators and how long its commands take, at a session with what was agreed, at
//! a target, and at the door.

use super::app::{App, History, Subject};
use super::figures::{bytes, count, depth, latency, shortened};
use super::look::{Line, Look};
use super::sample::{Lun, Rates, Sample, Session};
use lun::statistics::{CommandKind, Counted, bucket_end};
use ratatui::style::Style;
use std::time::Duration;

/// Lines of what is looked at.
pub fn of(app: &App, subject: &Subject, width: usize, look: Look) -> Vec<Line> {
    let gone = |what: &str| vec![vec![(format!("{what} is gone; Esc goes back"), look.bad())]];
    let Some(sample) = &app.sample else { return gone("the daemon") };
    match subject {
        Subject::Lun(target, number) => {
            match sample.luns.iter().find(|lun| lun.target == *target && lun.number == *number) {
                Some(lun) => of_lun(app, sample, lun, subject, width, look),
                None => gone(&format!("LUN {number} of {target}")),
            }
        }
        Subject::Session(number, since) => {
            match sample.sessions.iter().find(|session| session.number == *number && session.since == *since) {
                Some(session) => of_session(app, sample, session, subject, width, look),
                None => gone(&format!("session {number}")),
            }
        }
        Subject::Target(name) => of_target(app, sample, name, subject, width, look),
    }
}

fn plain(text: impl Into<String>) -> Line {
    vec![(text.into(), Style::new())]
}

fn heading(text: &str, look: Look) -> [Line; 2] {
    [Vec::new(), vec![(text.to_owned(), look.title())]]
}

fn fact(lines: &mut Vec<Line>, name: &str, value: &str, look: Look) {
    lines.push(vec![(format!("{name:<12} "), look.dim()), (value.to_owned(), Style::new())]);
}

fn pictures(lines: &mut Vec<Line>, history: Option<&History>, rates: &Rates, width: usize, look: Look) {
    const LABEL: usize = 22;
    let empty = History::default();
    let history = history.unwrap_or(&empty);
    let room = width.saturating_sub(LABEL + 1).min(super::app::HISTORY);
    let moved = rates.read_bytes + rates.written_bytes;
    for (name, now, values) in [
        ("op/s", count(rates.operations), &history.operations),
        ("bytes/s", bytes(moved), &history.bytes),
        ("p99", latency(rates.p99), &history.p99),
    ] {
        let picture = look.sparkline(values, room);
        lines.push(vec![(format!("{name:<12} {now:>8} "), Style::new()), (picture, look.picture())]);
    }
}

/// What each kind of command did between the last two looks.
fn kinds(lines: &mut Vec<Line>, rates: &Rates, microseconds: u64, with_latencies: bool, look: Look) {
    let title = format!(
        "{:<8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "OP/S", "BYTES/S", "MEAN", "P50", "P99", "P99.9", "FAILED"
    );
    lines.push(vec![(title, look.dim())]);
    let seconds = microseconds.max(1) as f64 / 1e6;
    for kind in CommandKind::ALL {
        let of_kind = rates.between.kind(kind);
        if of_kind.commands == 0 {
            continue;
        }
        let mean = of_kind.time.checked_div(u32::try_from(of_kind.commands).unwrap_or(u32::MAX));
        let quantile = |share| if with_latencies { latency(of_kind.latencies.quantile(share)) } else { "-".into() };
        let line = format!(
            "{:<8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            kind.name(),
            count(of_kind.commands as f64 / seconds),
            bytes(of_kind.bytes as f64 / seconds),
            latency(mean),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            of_kind.failed,
        );
        lines.push(vec![(line, if of_kind.failed > 0 { look.bad() } else { Style::new() })]);
    }
    if rates.between.total().commands == 0 {
        lines.push(vec![("nothing between the last two looks".to_owned(), look.dim())]);
    }
}

/// How many commands took how long: a bar for each doubling.
fn histogram(lines: &mut Vec<Line>, between: &Counted, width: usize, look: Look) {
    let latencies = between.latencies();
    let all = latencies.count();
    if all == 0 {
        lines.push(vec![("no command between the last two looks".to_owned(), look.dim())]);
        return;
    }
    // Four buckets a doubling, behind the first one.
    let buckets = latencies.buckets();
    let mut doublings: Vec<(u64, u64)> = vec![(bucket_end(0), buckets.first().copied().unwrap_or(0))];
    for (at, group) in buckets.get(1..).unwrap_or_default().chunks(4).enumerate() {
        let last = (1 + at * 4 + group.len() - 1).min(buckets.len() - 1);
        doublings.push((bucket_end(last), group.iter().sum()));
    }
    let first = doublings.iter().position(|(_, count)| *count > 0).unwrap_or(0);
    let last = doublings.iter().rposition(|(_, count)| *count > 0).unwrap_or(0);
    let most = doublings.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let room = width.saturating_sub(30).max(4);
    for (end, here) in &doublings[first..=last] {
        let bound = match *end {
            u64::MAX => "more".to_owned(),
            end => format!("< {}", latency(Some(Duration::from_nanos(end)))),
        };
        let share = *here as f64 / all as f64 * 100.0;
        let bar = look.bar(*here as f64 / most as f64, room);
        lines.push(vec![
            (format!("{bound:>9} {:>7} {share:>6.2}% ", count(*here as f64)), Style::new()),
            (bar, look.picture()),
        ]);
    }
}

fn errors(lines: &mut Vec<Line>, counted: &Counted, look: Look) {
    let all: Vec<_> = counted.errors().map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
    if !all.is_empty() {
        lines.extend(heading("Failures since the start", look));
        lines.push(plain(all.join(", ")));
    }
}

fn of_lun(app: &App, sample: &Sample, lun: &Lun, subject: &Subject, width: usize, look: Look) -> Vec<Line> {
    let before = app.before.as_ref();
    let rates = sample.lun_rates(lun, before);
    let microseconds = before.and_then(|before| sample.after(before)).unwrap_or(0);
    let mut lines = vec![vec![(format!("LUN {} of {}", lun.number, lun.target), look.title())]];
    fact(&mut lines, "store", &lun.place, look);
    let size = lun.bytes.map_or("-".to_owned(), |size| format!("{} ({size} bytes)", bytes(size as f64)));
    fact(&mut lines, "size", &size, look);
    let state = if lun.writable { lun.state.clone() } else { format!("{}, read-only", lun.state) };
    fact(&mut lines, "state", &state, look);
    let flight = format!("{} now, {} on average", lun.counted.in_flight, depth(rates.depth));
    fact(&mut lines, "in flight", &flight, look);
    pictures(&mut lines, app.history(subject), &rates, width, look);
    lines.extend(heading("Commands", look));
    kinds(&mut lines, &rates, microseconds, true, look);
    lines.extend(heading("How long they took", look));
    histogram(&mut lines, &rates.between, width, look);
    lines.extend(heading("Initiators", look));
    let mut users = 0;
    for session in sample.sessions.iter().filter(|session| session.target == lun.target) {
        if !session.luns.iter().any(|(number, _)| *number == lun.number) {
            continue;
        }
        let own = sample.session_lun_rates(session, lun.number, before);
        let name = shortened(&session.initiator, width.saturating_sub(46).max(8), look.ellipsis());
        lines.push(plain(format!(
            "{:>5}  {:>6} op/s  {:>6} read/s  {:>6} written/s  {name}",
            session.number,
            count(own.operations),
            bytes(own.read_bytes),
            bytes(own.written_bytes),
        )));
        users += 1;
    }
    if users == 0 {
        lines.push(vec![("no session has used it".to_owned(), look.dim())]);
    }
    errors(&mut lines, &lun.counted, look);
    lines
}

fn of_session(app: &App, sample: &Sample, session: &Session, subject: &Subject, width: usize, look: Look) -> Vec<Line> {
    let before = app.before.as_ref();
    let rates = sample.session_rates(session, before);
    let microseconds = before.and_then(|before| sample.after(before)).unwrap_or(0);
    let mut lines = vec![vec![(format!("Session {} of {}", session.number, session.initiator), look.title())]];
    if let Some(alias) = &session.alias {
        fact(&mut lines, "alias", alias, look);
    }
    fact(&mut lines, "target", &session.target, look);
    fact(&mut lines, "since", &session.since, look);
    let flight = format!("{} now, {} on average", session.counted.in_flight, depth(rates.depth));
    fact(&mut lines, "in flight", &flight, look);
    pictures(&mut lines, app.history(subject), &rates, width, look);
    lines.extend(heading("Commands", look));
    kinds(&mut lines, &rates, microseconds, true, look);
    lines.extend(heading("LUNs", look));
    for (number, counted) in &session.luns {
        let own = sample.session_lun_rates(session, *number, before);
        lines.push(plain(format!(
            "{number:>5}  {:>6} op/s  {:>6} read/s  {:>6} written/s  {} commands since the login",
            count(own.operations),
            bytes(own.read_bytes),
            bytes(own.written_bytes),
            counted.total().commands,
        )));
    }
    lines.extend(heading("Connections", look));
    for connection in &session.connections {
        lines.push(plain(format!(
            "{:>5}  {} at {}, since {}, received {}, sent {}, digests {}",
            connection.cid,
            connection.peer,
            connection.local,
            connection.since,
            bytes(connection.received_bytes as f64),
            bytes(connection.sent_bytes as f64),
            connection.digests,
        )));
    }
    lines.extend(heading("What was agreed", look));
    for pair in session.parameters.chunks(2) {
        let one = |(name, value): &(String, String)| format!("{:<38}", format!("{name}={value}"));
        lines.push(plain(pair.iter().map(one).collect::<String>().trim_end()));
    }
    lines.extend(heading("How long commands took", look));
    histogram(&mut lines, &rates.between, width, look);
    errors(&mut lines, &session.counted, look);
    lines
}

fn of_target(app: &App, sample: &Sample, name: &str, subject: &Subject, width: usize, look: Look) -> Vec<Line> {
    let before = app.before.as_ref();
    let mut lines = vec![vec![(name.to_owned(), look.title())]];
    let rates = app.targets().into_iter().find(|row| row.name == name).map(|row| row.rates).unwrap_or_default();
    pictures(&mut lines, app.history(subject), &rates, width, look);
    lines.extend(heading("LUNs", look));
    for lun in sample.luns.iter().filter(|lun| lun.target == name) {
        let own = sample.lun_rates(lun, before);
        lines.push(plain(format!(
            "{:>5}  {:>6} op/s  {:>6} read/s  {:>6} written/s  p99 {:>6}  {}",
            lun.number,
            count(own.operations),
            bytes(own.read_bytes),
            bytes(own.written_bytes),
            latency(own.p99),
            lun.place,
        )));
    }
    lines.extend(heading("Sessions", look));
    for session in sample.sessions.iter().filter(|session| session.target == name) {
        let own = sample.session_rates(session, before);
        lines.push(plain(format!(
            "{:>5}  {:>6} op/s  {:>6} read/s  {:>6} written/s  p99 {:>6}  {}",
            session.number,
            count(own.operations),
            bytes(own.read_bytes),
            bytes(own.written_bytes),
            latency(own.p99),
            session.initiator,
        )));
    }
    lines
}

/// Logins, refusals, bounds.
pub fn door(app: &App, width: usize, look: Look) -> Vec<Line> {
    let Some(sample) = &app.sample else { return Vec::new() };
    let door = &sample.door;
    let failed: u64 = door.failed.iter().map(|(_, count)| count).sum();
    let causes = door.failed.iter().filter(|(_, count)| *count > 0).map(|(cause, count)| format!("{cause} {count}"));
    let causes = causes.collect::<Vec<_>>().join(", ");
    let causes = if causes.is_empty() { causes } else { format!(" ({causes})") };
    let mut lines = vec![plain(format!(
        "Logins: {} succeeded, {failed} failed{causes}; {} at the door now",
        door.succeeded, door.at_the_door
    ))];
    lines.extend(heading("Bounds that struck", look));
    let mut struck: Vec<_> = door.bounds.iter().filter(|bound| bound.struck > 0).collect();
    struck.sort_by_key(|bound| std::cmp::Reverse(bound.struck));
    for bound in &struck {
        let text = format!("{:>9}  {:<22} {:>8}  {}", bound.struck, bound.name, bound.setting, bound.what);
        lines.push(vec![(text, look.bad())]);
    }
    if struck.is_empty() {
        lines.push(vec![(format!("none of {}", door.bounds.len()), look.dim())]);
    }
    lines.extend(heading("Refused logins, the newest first", look));
    for refusal in &door.refusals {
        let head = format!("{}  {:<21}  {}", refusal.time, refusal.peer, refusal.cause);
        lines.push(plain(head));
        let what =
            if refusal.who.is_empty() { refusal.why.clone() } else { format!("{}: {}", refusal.who, refusal.why) };
        lines.push(plain(format!("  {}", shortened(&what, width.saturating_sub(2).max(8), look.ellipsis()))));
    }
    if door.refusals.is_empty() {
        lines.push(vec![("none".to_owned(), look.dim())]);
    }
    lines
}
