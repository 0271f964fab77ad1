//! Columns of the tables: their titles, how wide they are, how much they are wanted where there is little room, what
//! they show of a row, and by what they sort.

use super::figures::{bytes, count, depth, latency};
use super::sample::{Lun, Rates, Session, failures};
use std::cmp::Ordering;

/// A cell: what is shown, and what it is sorted by.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// By what it is sorted.
    pub key: Key,
    /// Whether it is bad news.
    pub bad: bool,
}

/// By what a cell is sorted.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// Numbers, the largest first.
    Number(f64),
    /// Names, in their order.
    Text(String),
}

impl Key {
    /// The order in which people want to see them: the largest number first, the first name first.
    pub fn compare(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Number(one), Key::Number(two)) => two.total_cmp(one),
            (Key::Text(one), Key::Text(two)) => one.cmp(two),
            (Key::Number(_), Key::Text(_)) => Ordering::Less,
            (Key::Text(_), Key::Number(_)) => Ordering::Greater,
        }
    }
}

fn text(text: impl Into<String>) -> Cell {
    let text = text.into();
    Cell { key: Key::Text(text.clone()), text, bad: false }
}

fn number(text: String, value: f64) -> Cell {
    Cell { text, key: Key::Number(value), bad: false }
}

/// A column of a table of `T`.
pub struct Column<T> {
    /// What stands above it.
    pub title: &'static str,
    /// Its width, or its least width where it takes what is left.
    pub width: u16,
    /// Whether it takes what is left.
    pub stretches: bool,
    /// Numbers stand at the right.
    pub right: bool,
    /// 0 is always there; the higher, the sooner it goes where there is little room.
    pub rank: u8,
    /// What it shows.
    pub cell: fn(&T) -> Cell,
}

/// A row of the LUNs.
#[derive(Debug, Clone)]
pub struct LunRow {
    /// The disk.
    pub lun: Lun,
    /// What it does.
    pub rates: Rates,
    /// Sessions that have used it.
    pub sessions: usize,
}

/// A row of the sessions.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// The session.
    pub session: Session,
    /// What it does.
    pub rates: Rates,
}

/// A row of the targets.
#[derive(Debug, Clone)]
pub struct TargetRow {
    /// Its name.
    pub name: String,
    /// Its disks.
    pub luns: usize,
    /// Its sessions.
    pub sessions: usize,
    /// What its disks do together.
    pub rates: Rates,
    /// Commands that have failed since the start.
    pub failures: u64,
}

macro_rules! columns {
    ($of:ty: $($title:literal $width:literal $side:ident $rank:literal $cell:expr;)*) => {
        &[$(Column::<$of> {
            title: $title,
            width: $width,
            stretches: matches!(stringify!($side).as_bytes(), b"stretch"),
            right: matches!(stringify!($side).as_bytes(), b"right"),
            rank: $rank,
            cell: $cell,
        }),*]
    };
}

fn errors(rate: f64, all: u64) -> Cell {
    // An exclamation mark tells what a colour tells.
    match rate > 0.0 {
        true => Cell { text: format!("!{}", count(rate)), key: Key::Number(rate), bad: true },
        false => number(if all == 0 { "0".to_owned() } else { format!("({})", count(all as f64)) }, all as f64 / 1e18),
    }
}

fn time(value: Option<std::time::Duration>) -> Cell {
    number(latency(value), value.map_or(-1.0, |value| value.as_secs_f64()))
}

fn state(row: &LunRow) -> Cell {
    let lun = &row.lun;
    let words = match (lun.state.as_str(), lun.writable) {
        ("", _) => "-",
        ("online", true) => "online",
        ("online", false) => "readonly",
        (other, _) => other,
    };
    Cell { bad: !matches!(words, "online" | "readonly" | "-"), ..text(words) }
}

/// Of the LUNs.
pub const LUNS: &[Column<LunRow>] = columns! { LunRow:
    "TARGET" 12 stretch 0 |row| text(&*row.lun.target);
    "LUN" 5 right 0 |row| Cell {
        text: row.lun.number.to_string(),
        key: Key::Number(-f64::from(row.lun.number)),
        bad: false,
    };
    "STATE" 8 left 6 state;
    "SIZE" 6 right 8 |row| match row.lun.bytes {
        Some(size) => number(bytes(size as f64), size as f64),
        None => number("-".to_owned(), -1.0),
    };
    "OP/S" 6 right 0 |row| number(count(row.rates.operations), row.rates.operations);
    "RD/S" 6 right 4 |row| number(count(row.rates.reads), row.rates.reads);
    "WR/S" 6 right 4 |row| number(count(row.rates.writes), row.rates.writes);
    "RDB/S" 6 right 1 |row| number(bytes(row.rates.read_bytes), row.rates.read_bytes);
    "WRB/S" 6 right 1 |row| number(bytes(row.rates.written_bytes), row.rates.written_bytes);
    "P50" 6 right 3 |row| time(row.rates.p50);
    "P99" 6 right 2 |row| time(row.rates.p99);
    "P99.9" 6 right 5 |row| time(row.rates.p999);
    "DEPTH" 6 right 3 |row| number(depth(row.rates.depth), row.rates.depth);
    "USERS" 5 right 7 |row| number(row.sessions.to_string(), row.sessions as f64);
    "ERR/S" 6 right 2 |row| errors(row.rates.errors, failures(&row.lun.counted));
};

/// Of the sessions.
pub const SESSIONS: &[Column<SessionRow>] = columns! { SessionRow:
    "NR" 5 right 0 |row| Cell {
        text: row.session.number.to_string(),
        key: Key::Number(-f64::from(row.session.number)),
        bad: false,
    };
    "INITIATOR" 12 stretch 0 |row| text(&*row.session.initiator);
    "FROM" 15 left 7 |row| text(row.session.connections.first().map_or("-", |connection| &connection.peer));
    "CONN" 4 right 8 |row| number(row.session.connections.len().to_string(), row.session.connections.len() as f64);
    "OP/S" 6 right 0 |row| number(count(row.rates.operations), row.rates.operations);
    "RD/S" 6 right 5 |row| number(count(row.rates.reads), row.rates.reads);
    "WR/S" 6 right 5 |row| number(count(row.rates.writes), row.rates.writes);
    "RDB/S" 6 right 1 |row| number(bytes(row.rates.read_bytes), row.rates.read_bytes);
    "WRB/S" 6 right 1 |row| number(bytes(row.rates.written_bytes), row.rates.written_bytes);
    "P50" 6 right 4 |row| time(row.rates.p50);
    "P99" 6 right 2 |row| time(row.rates.p99);
    "P99.9" 6 right 6 |row| time(row.rates.p999);
    "DEPTH" 6 right 3 |row| number(depth(row.rates.depth), row.rates.depth);
    "ERR/S" 6 right 2 |row| errors(row.rates.errors, failures(&row.session.counted));
};

/// Of the targets.
pub const TARGETS: &[Column<TargetRow>] = columns! { TargetRow:
    "TARGET" 12 stretch 0 |row| text(&*row.name);
    "LUNS" 5 right 3 |row| number(row.luns.to_string(), row.luns as f64);
    "SESS" 5 right 0 |row| number(row.sessions.to_string(), row.sessions as f64);
    "OP/S" 6 right 0 |row| number(count(row.rates.operations), row.rates.operations);
    "RD/S" 6 right 5 |row| number(count(row.rates.reads), row.rates.reads);
    "WR/S" 6 right 5 |row| number(count(row.rates.writes), row.rates.writes);
    "RDB/S" 6 right 1 |row| number(bytes(row.rates.read_bytes), row.rates.read_bytes);
    "WRB/S" 6 right 1 |row| number(bytes(row.rates.written_bytes), row.rates.written_bytes);
    "P50" 6 right 4 |row| time(row.rates.p50);
    "P99" 6 right 2 |row| time(row.rates.p99);
    "P99.9" 6 right 6 |row| time(row.rates.p999);
    "DEPTH" 6 right 3 |row| number(depth(row.rates.depth), row.rates.depth);
    "ERR/S" 6 right 2 |row| errors(row.rates.errors, row.failures);
};

/// Which columns there is room for, each with its width: those that are most wanted, and what is left goes to the one
/// that stretches.
pub fn fitted<T>(columns: &[Column<T>], width: u16) -> Vec<(usize, u16)> {
    const GAP: u16 = 1;
    let mut chosen: Vec<usize> = (0..columns.len()).collect();
    let needed =
        |chosen: &[usize]| -> u16 { chosen.iter().map(|at| columns[*at].width + GAP).sum::<u16>().saturating_sub(GAP) };
    while needed(&chosen) > width {
        // Of several that are wanted as little the last goes first.
        let least = chosen.iter().enumerate().filter(|(_, at)| columns[**at].rank > 0);
        let Some((place, _)) = least.max_by_key(|(place, at)| (columns[**at].rank, *place)) else { break };
        chosen.remove(place);
    }
    let spare = width.saturating_sub(needed(&chosen));
    let stretching = chosen.iter().filter(|at| columns[**at].stretches).count().max(1) as u16;
    chosen
        .into_iter()
        .map(|at| {
            let column = &columns[at];
            (at, column.width + if column.stretches { spare / stretching } else { 0 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_little_room_what_is_wanted_least_goes() {
        let titles = |width| -> Vec<&str> { fitted(LUNS, width).iter().map(|(at, _)| LUNS[*at].title).collect() };
        assert_eq!(titles(200).len(), LUNS.len());
        assert_eq!(titles(80), ["TARGET", "LUN", "OP/S", "RD/S", "RDB/S", "WRB/S", "P50", "P99", "DEPTH", "ERR/S"]);
        assert_eq!(titles(40), ["TARGET", "LUN", "OP/S", "RDB/S", "WRB/S"]);
        assert_eq!(titles(10), ["TARGET", "LUN", "OP/S"]);
        let total: u16 = fitted(LUNS, 120).iter().map(|(_, width)| width + 1).sum();
        assert_eq!(total, 121, "all of it is used");
    }
}
