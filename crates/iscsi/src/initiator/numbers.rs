//! CmdSN, ExpCmdSN and MaxCmdSN as the initiator keeps them (RFC 7143 §4.2.2.1).

use crate::serial::{at_most, precedes};

/// Commands that may be unacknowledged. No window is as large.
const AHEAD: u32 = 1 << 16;

/// The command window of a session.
#[derive(Debug)]
pub(super) struct Window {
    /// Of the next command.
    cmd_sn: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
}

impl Window {
    /// Before the target has said anything, one command may be sent (§4.2.2.1).
    pub fn new(cmd_sn: u32) -> Window {
        Window { cmd_sn, exp_cmd_sn: cmd_sn, max_cmd_sn: cmd_sn }
    }

    pub fn cmd_sn(&self) -> u32 {
        self.cmd_sn
    }

    pub fn exp_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn
    }

    /// Whether the target has acknowledged this command.
    pub fn is_acknowledged(&self, cmd_sn: u32) -> bool {
        precedes(cmd_sn, self.exp_cmd_sn)
    }

    pub fn room(&self) -> u32 {
        match at_most(self.cmd_sn, self.max_cmd_sn) {
            true => self.max_cmd_sn.wrapping_sub(self.cmd_sn).wrapping_add(1),
            false => 0,
        }
    }

    /// The number of the next command, where the target takes one. Never so far ahead of what is
    /// acknowledged that an old number could be taken for a new one (CSN-11), nor further than what is kept of
    /// commands that a target never acknowledges may take.
    pub fn take(&mut self) -> Option<u32> {
        let cmd_sn = self.cmd_sn;
        if self.room() == 0 || cmd_sn.wrapping_sub(self.exp_cmd_sn) >= AHEAD {
            return None;
        }
        self.cmd_sn = cmd_sn.wrapping_add(1);
        Some(cmd_sn)
    }

    /// What a PDU of the target's says. Numbers that contradict each other are ignored, and so are old
    /// ones: another connection may have overtaken this one (§4.2.2.1).
    pub fn told(&mut self, exp_cmd_sn: u32, max_cmd_sn: u32) {
        if precedes(max_cmd_sn, exp_cmd_sn.wrapping_sub(1)) {
            return;
        }
        if precedes(self.max_cmd_sn, max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
        // What was never sent cannot be acknowledged.
        if precedes(self.exp_cmd_sn, exp_cmd_sn) && at_most(exp_cmd_sn, self.cmd_sn) {
            self.exp_cmd_sn = exp_cmd_sn;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csn_01_numbers_advance_by_one_across_the_wrap() {
        let mut window = Window::new(u32::MAX - 1);
        window.told(u32::MAX - 1, 2);
        let taken: Vec<u32> = std::iter::from_fn(|| window.take()).collect();
        assert_eq!(taken, [u32::MAX - 1, u32::MAX, 0, 1, 2]);
        assert_eq!(window.cmd_sn(), 3);
    }

    #[test]
    fn csn_07_nothing_is_sent_beyond_max_cmd_sn_and_bad_updates_are_ignored() {
        let mut window = Window::new(10);
        assert_eq!(window.room(), 1, "one command before the target has spoken");
        window.told(10, 9);
        assert_eq!(window.room(), 1, "a window is never taken back");
        assert_eq!(window.take(), Some(10));
        assert_eq!(window.take(), None);
        window.told(11, 9);
        assert_eq!((window.room(), window.is_acknowledged(10)), (0, false), "MaxCmdSN < ExpCmdSN - 1");
        window.told(11, 10);
        assert_eq!((window.room(), window.is_acknowledged(10)), (0, true), "shut");
        window.told(11, 74);
        assert_eq!(window.room(), 64);
        window.told(10, 12);
        assert_eq!((window.room(), window.exp_cmd_sn()), (64, 11), "stale");
        window.told(500, 600);
        assert_eq!(window.exp_cmd_sn(), 11, "acknowledges what was never sent");
    }

    #[test]
    fn csn_11_cmd_sn_does_not_run_away_from_what_is_acknowledged() {
        let mut window = Window { cmd_sn: AHEAD - 1, exp_cmd_sn: 0, max_cmd_sn: (1 << 31) - 1 };
        assert_eq!(window.take(), Some(AHEAD - 1));
        assert_eq!(window.take(), None);
    }
}
