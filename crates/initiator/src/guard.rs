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

    /// It is what it was (`None`), or it is refused for this reason until something else is said.
    pub fn judge(&self, verdict: Option<Error>) {
        let request = Request::Judge(self.0.lun(), verdict.map(Box::new));
        self.0.session().shared().ask(request);
    }
}

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
