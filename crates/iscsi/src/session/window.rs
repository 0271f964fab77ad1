//! The command window: CmdSN, ExpCmdSN and MaxCmdSN of a session (RFC 7143 §4.2.2.1).

use crate::serial::{at_most, precedes};

/// What is to become of a numbered request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one.
    Next,
    /// It is inside the window, behind a gap.
    Early,
    /// It is outside the window, or a duplicate: ignore it without a word.
    Ignored,
}

/// The numbers of a session. Requests that came before their turn wait in `early`.
pub(super) struct Window {
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    /// MaxCmdSN as last told on the wire.
    told_max_cmd_sn: u32,
    size: u32,
    in_use: u32,
    /// No further credit is given.
    shut: bool,
    early: Vec<(u32, super::receive::Deferred)>,
}

impl Window {
    pub fn new(exp_cmd_sn: u32, size: u32) -> Window {
        let max_cmd_sn = exp_cmd_sn.wrapping_add(size).wrapping_sub(1);
        Window { exp_cmd_sn, max_cmd_sn, told_max_cmd_sn: max_cmd_sn, size, in_use: 0, shut: false, early: Vec::new() }
    }

    /// The window of a session that goes on: the initiator knows this MaxCmdSN.
    pub fn at(exp_cmd_sn: u32, told_max_cmd_sn: u32, size: u32) -> Window {
        let mut window = Window { max_cmd_sn: told_max_cmd_sn, told_max_cmd_sn, ..Window::new(exp_cmd_sn, size) };
        // A connection that joined may have been told of more.
        window.update();
        window
    }

    pub fn classify(&self, cmd_sn: u32) -> Arrival {
        if cmd_sn == self.exp_cmd_sn && at_most(cmd_sn, self.max_cmd_sn) {
            Arrival::Next
        } else if precedes(self.exp_cmd_sn, cmd_sn)
            && at_most(cmd_sn, self.max_cmd_sn)
            && !self.early.iter().any(|(early, _)| *early == cmd_sn)
        {
            Arrival::Early
        } else {
            Arrival::Ignored
        }
    }

    /// Keeps a request that came before its turn. `classify` said [`Arrival::Early`].
    pub fn keep(&mut self, cmd_sn: u32, request: super::receive::Deferred) {
        self.early.push((cmd_sn, request));
    }

    /// Bytes of the requests that wait.
    pub fn early_bytes(&self) -> usize {
        self.early.iter().map(|(_, request)| request.bytes()).sum()
    }

    /// The number of the next request was used. Returns the request behind it, if it is here already.
    pub fn advance(&mut self) -> Option<super::receive::Deferred> {
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        let at = self.early.iter().position(|(cmd_sn, _)| *cmd_sn == self.exp_cmd_sn)?;
        Some(self.early.swap_remove(at).1)
    }

    /// Requests that came before their turn on this connection count as not received. Commands are its own
    /// where `is_its` says so.
    pub fn discard(
        &mut self,
        c: super::ConnectionId,
        is_its: impl Fn(super::TaskId) -> bool,
    ) -> Vec<super::receive::Deferred> {
        self.early.extract_if(.., |(_, request)| request.is_of(c, &is_its)).map(|(_, request)| request).collect()
    }

    /// The number that is expected next.
    pub fn expected(&self) -> u32 {
        self.exp_cmd_sn
    }

    /// Whether a number below `end` may still come: the expected one is, and is within the window.
    pub fn has_gap_below(&self, end: u32) -> bool {
        precedes(self.exp_cmd_sn, end) && at_most(self.exp_cmd_sn, self.max_cmd_sn)
    }

    /// This number, or the first behind the window where it is further away.
    pub fn at_most_behind(&self, number: u32) -> u32 {
        if precedes(self.max_cmd_sn, number) { self.max_cmd_sn.wrapping_add(1) } else { number }
    }

    /// Gives no further credit: what was allowed may still come, and nothing after it.
    pub fn shut(&mut self) {
        self.shut = true;
    }

    /// Gives credit again.
    pub fn open(&mut self) {
        self.shut = false;
    }

    /// Whether nothing came before its turn.
    pub fn is_in_order(&self) -> bool {
        self.early.is_empty()
    }

    /// The first number behind all that have come.
    pub fn behind_all(&self) -> u32 {
        let after = self.early.iter().map(|(cmd_sn, _)| cmd_sn.wrapping_add(1));
        after.fold(self.exp_cmd_sn, |last, next| if precedes(last, next) { next } else { last })
    }

    /// ExpCmdSN, and MaxCmdSN as last told.
    pub fn told(&self) -> (u32, u32) {
        (self.exp_cmd_sn, self.told_max_cmd_sn)
    }

    /// A credit is held by a task.
    pub fn take_credit(&mut self) {
        self.in_use += 1;
    }

    /// A task gives its credit back.
    pub fn give_credit(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Moves MaxCmdSN as far as free slots allow, never back, and notes that it is being told.
    pub fn tell(&mut self) -> (u32, u32) {
        self.update();
        self.told_max_cmd_sn = self.max_cmd_sn;
        (self.exp_cmd_sn, self.max_cmd_sn)
    }

    /// ExpCmdSN and MaxCmdSN as they stand, without noting that anybody is told.
    pub fn numbers(&self) -> (u32, u32) {
        (self.exp_cmd_sn, self.max_cmd_sn)
    }

    /// Whether the initiator believes the window to be shut although it is open (CSN-06).
    pub fn must_be_told(&mut self) -> bool {
        self.update();
        precedes(self.told_max_cmd_sn, self.exp_cmd_sn) && at_most(self.exp_cmd_sn, self.max_cmd_sn)
    }

    fn update(&mut self) {
        if self.shut {
            return;
        }
        let free = self.size.saturating_sub(self.in_use);
        let max = self.exp_cmd_sn.wrapping_add(free).wrapping_sub(1);
        if precedes(self.max_cmd_sn, max) {
            self.max_cmd_sn = max;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::receive::Deferred;

    #[test]
    fn csn_03_only_the_window_is_let_in() {
        for start in [0, 7, 0x7fff_ffff, u32::MAX - 1] {
            let window = Window::new(start, 4);
            let at = |offset: u32| window.classify(start.wrapping_add(offset));
            assert_eq!(at(0), Arrival::Next);
            assert_eq!([at(1), at(3)], [Arrival::Early; 2]);
            assert_eq!([at(4), at(u32::MAX), at(1 << 31)], [Arrival::Ignored; 3], "start {start:#x}");
        }
    }

    #[test]
    fn csn_04_exp_cmd_sn_stops_at_a_hole_and_jumps_when_it_is_filled() {
        let mut window = Window::new(10, 8);
        window.keep(11, Deferred::Plug);
        window.keep(12, Deferred::Plug);
        assert_eq!(window.exp_cmd_sn, 10);
        assert_eq!(window.classify(11), Arrival::Ignored, "a duplicate");
        assert!(window.advance().is_some());
        assert!(window.advance().is_some());
        assert!(window.advance().is_none());
        assert_eq!(window.exp_cmd_sn, 13);
    }

    #[test]
    fn csn_05_max_cmd_sn_never_moves_back() {
        let mut window = Window::new(0, 4);
        assert_eq!(window.tell(), (0, 3));
        for _ in 0..4 {
            window.take_credit();
            window.advance();
        }
        assert_eq!(window.tell(), (4, 3), "shut: MaxCmdSN is ExpCmdSN - 1");
        assert!(!window.must_be_told());
        window.give_credit();
        assert!(window.must_be_told());
        assert_eq!(window.tell(), (4, 4));
        assert!(!window.must_be_told());
    }
}
