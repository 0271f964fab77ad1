//! Log lines about those who come, go and are refused, bounded: a stranger does not fill the log, and what is
//! written of him is escaped.

use super::places::origin;
use crate::limits::Limits;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// In what lines are counted.
const SECOND: Duration = Duration::from_secs(1);

/// Who may still write a line in this second.
pub(crate) struct Lines {
    limits: Arc<Limits>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    written: usize,
    /// Of the addresses of which something was written, so that it is no longer than that.
    by_origin: HashMap<IpAddr, usize>,
    not_shown: u64,
}

impl Lines {
    pub fn new(limits: Arc<Limits>) -> Lines {
        Lines { limits, state: Mutex::default() }
    }

    /// Writes a line about this peer, if it may be; the writer hears how many before it were not.
    pub fn write(&self, peer: SocketAddr, write: impl FnOnce(Option<u64>)) {
        if let Some(not_shown) = self.may(Instant::now(), peer.ip()) {
            write((not_shown > 0).then_some(not_shown));
        }
    }

    /// Whether a line about this address may be written, and how many before it were not.
    fn may(&self, now: Instant, address: IpAddr) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            let not_shown = state.not_shown;
            *state = State { since: Some(now), not_shown, ..State::default() };
        }
        let origin = origin(address);
        let here = state.by_origin.get(&origin).copied().unwrap_or(0);
        let struck = &self.limits.struck;
        let bound = match () {
            () if here >= self.limits.log_lines_by_address => Some(&struck.log_lines_by_address),
            () if state.written >= self.limits.log_lines => Some(&struck.log_lines),
            () => None,
        };
        if let Some(bound) = bound {
            bound.count();
            state.not_shown += 1;
            return None;
        }
        state.written += 1;
        *state.by_origin.entry(origin).or_default() += 1;
        Some(std::mem::take(&mut state.not_shown))
    }
}

/// What a stranger said, for a line of a log: without what a terminal would act upon, and not longer than this.
pub(crate) fn printable(text: &str) -> String {
    const MOST: usize = 300;
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= MOST {
            out.push('…');
            break;
        }
        match c {
            '"' | '\'' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_address_and_of_all_are_bounded_and_those_not_shown_are_told() {
        let limits = Arc::new(Limits { log_lines: 5, log_lines_by_address: 3, ..Limits::default() });
        let lines = Lines::new(Arc::clone(&limits));
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Instant::now();
        let shown = |address, times| (0..times).filter(|_| lines.may(now, address).is_some()).count();
        assert_eq!((shown(one, 4), shown(two, 3)), (3, 2));
        assert_eq!((limits.struck.log_lines_by_address.get(), limits.struck.log_lines.get()), (1, 1));
        assert_eq!(lines.may(now + SECOND, one), Some(1), "the other was told with a line about the second");
        assert_eq!(lines.may(now + SECOND, one), Some(0));
    }

    #[test]
    fn what_a_stranger_says_cannot_act_on_a_terminal() {
        assert_eq!(printable("a \"b\"\x1b[2J\n\u{202e}\\ü"), "a \"b\"\\u{1b}[2J\\n\\u{202e}\\\\ü");
        assert!(printable(&"x".repeat(5000)).len() < 310);
    }
}
