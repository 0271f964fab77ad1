//! What a change would do, step by step, for people and for programs; and why one is refused.

use crate::configuration::finding::{self, Found};
use serde_json::{Value, json};
use std::fmt::Write;

/// How a change is to be made.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Only the plan is wanted; nothing is touched.
    pub dry_run: bool,
    /// What is in use may be taken away; those who use it are told.
    pub force: bool,
}

/// What a step does to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is there from then on.
    Add,
    /// It is gone.
    Remove,
    /// It is another one, or says another thing.
    Change,
    /// It has another size.
    Resize,
    /// It has another number, or is at another target.
    Move,
}

impl Verb {
    /// As it stands in plans.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Remove => "remove",
            Verb::Change => "change",
            Verb::Resize => "resize",
            Verb::Move => "move",
        }
    }
}

/// A session that a step disturbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbed {
    /// The initiator's name.
    pub initiator: String,
    /// Where it comes from.
    pub peer: String,
    /// The target.
    pub target: String,
    /// The session's number.
    pub tsih: u16,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub verb: Verb,
    /// To what kind of thing: `target`, `lun`, `portal`, `rule`, `account`, `group`, …
    pub kind: &'static str,
    /// Whose it is, where it is a target's.
    pub target: Option<String>,
    /// Its own name: the LUN, the portal's address.
    pub name: String,
    /// What it is, or what changes: `10 GiB → 20 GiB`.
    pub details: String,
    /// Whether those whom it disturbs lose something, so that it has to be forced.
    pub takes_away: bool,
    /// Whom it disturbs.
    pub disturbs: Vec<Disturbed>,
}

impl Step {
    /// A step that takes nothing away from anybody.
    pub fn new(verb: Verb, kind: &'static str, target: Option<&str>, name: impl ToString) -> Step {
        let target = target.map(str::to_owned);
        let name = name.to_string();
        Step { verb, kind, target, name, details: String::new(), takes_away: false, disturbs: Vec::new() }
    }

    /// The same with what changes.
    pub fn with(self, details: impl ToString) -> Step {
        Step { details: details.to_string(), ..self }
    }

    /// The same, where it takes something away from those who use it.
    pub fn taking_away(self) -> Step {
        Step { takes_away: true, ..self }
    }

    /// In a line: `add LUN 3 of iqn.…: /srv/x.img, 10 GiB`.
    pub fn line(&self) -> String {
        let mut line = format!("{} {}", self.verb.name(), self.thing());
        if !self.details.is_empty() {
            let _ = write!(line, ": {}", self.details);
        }
        match self.disturbs.len() {
            0 => {}
            1 => line.push_str("; disturbs 1 session"),
            many => {
                let _ = write!(line, "; disturbs {many} sessions");
            }
        }
        line
    }

    /// What it is done to.
    fn thing(&self) -> String {
        let Step { kind, name, .. } = self;
        let kind = if *kind == "lun" { "LUN" } else { kind };
        let named = if name.is_empty() { kind.to_owned() } else { format!("{kind} {name}") };
        match &self.target {
            Some(target) => format!("{named} of {target}"),
            None => named,
        }
    }

    fn json(&self) -> Value {
        let disturbs = self.disturbs.iter().map(|session| {
            json!({
                "initiator": session.initiator,
                "peer": session.peer,
                "target": session.target,
                "tsih": session.tsih,
            })
        });
        json!({
            "do": self.verb.name(),
            "what": self.kind,
            "target": self.target,
            "name": self.name,
            "details": self.details,
            "takes_away": self.takes_away,
            "disturbs": disturbs.collect::<Vec<_>>(),
            "line": self.line(),
        })
    }
}

/// Something that stays as it is as long as the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Where it is said: `[daemon] threads`.
    pub key: String,
    /// What runs, and what was asked for.
    pub details: String,
    /// How it can be had.
    pub remedy: &'static str,
}

impl Stuck {
    /// Something that only a new process does otherwise.
    pub fn new(key: impl ToString, details: impl ToString) -> Stuck {
        let remedy = "restart the daemon, or let a new one take over with: lunette upgrade";
        Stuck { key: key.to_string(), details: details.to_string(), remedy }
    }

    /// In a line.
    pub fn line(&self) -> String {
        let Stuck { key, details, remedy } = self;
        format!("{key} cannot be changed while it runs ({details}); {remedy}")
    }
}

/// All steps of a change.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order in which they are taken.
    pub steps: Vec<Step>,
    /// What was asked for and cannot be; then nothing is done.
    pub stuck: Vec<Stuck>,
    /// What is hardly meant in the document.
    pub warnings: Vec<Found>,
    /// Whether it was carried out.
    pub done: bool,
    /// What did not come about as it was meant, although the change is in force.
    pub remarks: Vec<String>,
}

impl Plan {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.stuck.is_empty()
    }

    /// Steps that take away what somebody uses.
    pub fn forced(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.takes_away && !step.disturbs.is_empty())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "done": self.done,
            "steps": self.steps.iter().map(Step::json).collect::<Vec<_>>(),
            "stuck": self.stuck.iter().map(|stuck| json!({
                "key": stuck.key, "details": stuck.details, "line": stuck.line(),
            })).collect::<Vec<_>>(),
            "needs_force": self.forced().next().is_some(),
            "warnings": self.warnings.iter().map(Found::json).collect::<Vec<_>>(),
            "remarks": self.remarks,
        })
    }
}

/// Why a change was not made. Nothing of it is seen.
#[derive(Debug, Clone)]
pub enum Refused {
    /// The document would be wrong in these ways.
    Findings(Vec<Found>),
    /// What was asked cannot be done as it was asked; a line that says how it could.
    Input(String),
    /// There is no such thing.
    NotFound(String),
    /// There is one already.
    Exists(String),
    /// The file says something else than what runs, and nobody has applied it; a line.
    Conflict(String),
    /// Something of it cannot be changed while the daemon runs.
    Stuck(Box<Plan>),
    /// It takes away what is in use, and was not forced.
    InUse(Box<Plan>),
    /// This step failed for this reason; those before it were undone.
    Failed {
        /// The step, in a line.
        step: String,
        /// What is wrong, and what would mend it.
        why: String,
    },
}

impl Refused {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Findings(_) => "invalid",
            Refused::Input(_) => "input",
            Refused::NotFound(_) => "not-found",
            Refused::Exists(_) => "exists",
            Refused::Conflict(_) => "conflict",
            Refused::Stuck(_) => "needs-restart",
            Refused::InUse(_) => "in-use",
            Refused::Failed { .. } => "failed",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Findings(findings) => f.write_str(finding::text(findings).trim_end()),
            Refused::Input(line) | Refused::NotFound(line) | Refused::Exists(line) | Refused::Conflict(line) => {
                f.write_str(line)
            }
            Refused::Stuck(plan) => {
                let lines: Vec<_> = plan.stuck.iter().map(Stuck::line).collect();
                f.write_str(&lines.join("; "))
            }
            Refused::InUse(plan) => {
                let lines: Vec<_> = plan.forced().map(Step::line).collect();
                write!(f, "it is in use: {}; --force does it all the same, and tells the initiators", lines.join("; "))
            }
            Refused::Failed { step, why } => write!(f, "{step}: {why}; everything is as it was"),
        }
    }
}

/// Bytes as plans show them: `10 GiB` where that is exact.
pub fn size(bytes: u64) -> String {
    let text = stores::Size(bytes).to_string();
    match text.strip_suffix(|c: char| c.is_ascii_uppercase()) {
        Some(number) => format!("{number} {}iB", &text[number.len()..]),
        None => format!("{text} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_line() {
        let step = Step::new(Verb::Add, "lun", Some("iqn.a:b"), 3).with(format!("/srv/x.img, {}", size(10 << 30)));
        assert_eq!(step.line(), "add LUN 3 of iqn.a:b: /srv/x.img, 10 GiB");
        let session = Disturbed { initiator: "i".into(), peer: "p".into(), target: "t".into(), tsih: 1 };
        let step = Step::new(Verb::Remove, "portal", None, "192.0.2.1:3260").taking_away();
        let step = Step { disturbs: vec![session.clone(), session], ..step };
        assert_eq!(step.line(), "remove portal 192.0.2.1:3260; disturbs 2 sessions");
        assert_eq!((size(1 << 20), size(513)), ("1 MiB".into(), "513 bytes".into()));
        let plan = Plan { steps: vec![step], ..Plan::default() };
        assert_eq!(plan.forced().count(), 1);
        assert!(Refused::InUse(Box::new(plan)).to_string().contains("--force"));
    }
}
