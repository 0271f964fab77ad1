//! Seeing to it that a unit is the disk that it was, before anything is sent to it again.

use crate::driver::Request;
use crate::{Command, Error, Unit};

/// Whoever holds it looks at a unit whenever it may have become another: the session was lost and is back, or the
/// target says that its units or their INQUIRY data have changed. He looks with commands that are
/// [`crate::Command::inspecting`], and says what he found. Until then the unit's other commands wait, those among
/// them that were under way when the session was lost.
pub(crate) struct Guard(Unit);

impl Guard {
    /// Begins to guard a unit.
    pub fn new(unit: Unit) -> Guard {
        unit.session().shared().guard(unit.lun());
        Guard(unit)
    }

    /// A look begins.
    pub fn look(&self) -> Look {
        Look(self.0.session().shared().holds())
    }

    /// What a look has found: it is what it was (`None`), or it is refused for this reason until something else is
    /// said. Where the unit was held anew since the look began, that says nothing, and another look is due.
    pub fn judge(&self, look: Look, verdict: Option<Error>) {
        let request = Request::Judge(self.0.lun(), look.0, verdict.map(Box::new));
        self.0.session().shared().ask(request);
    }
}

/// When a look was begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.session().shared().unguard(self.0.lun());
    }
}

impl Command {
    /// That looks whether its unit is what it was, and does not wait for others who do.
    pub(crate) fn inspecting(self) -> Command {
        Command { inspects: true, ..self }
    }
}
