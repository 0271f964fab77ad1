//! The instructions of the inner parts against the committed table ([`crate::counts`]).

use super::Outcome;
use crate::counts::{self, Verdict};
use std::path::Path;

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let table = counts::table(root)?;
    let here = counts::made_by()?;
    if here != table.made_by {
        // Another compiler's code has other counts: neither a pass nor a failure.
        let note = "to renew the table on a tree that is known to be good: cargo xtask counts --write";
        outcome.notes.push(format!("not run: the table is of {}, this is {here}; {note}", table.made_by));
        return Ok(());
    }
    let found = counts::measure(root)?;
    for (name, count) in &found {
        let Some((_, expected)) = table.counts.iter().find(|(other, _)| other == name) else {
            outcome.count(name, Err("has no row; add it with cargo xtask counts --write".into()));
            continue;
        };
        match counts::compare(*expected, *count) {
            Verdict::Worse(line) => outcome.count(name, Err(line)),
            Verdict::Better(line) => {
                outcome.count(name, Ok(()));
                outcome.notes.push(format!("{name}: {line}"));
            }
            Verdict::Same => outcome.count(name, Ok(())),
        }
    }
    for (name, _) in table.counts.iter().filter(|(name, _)| !found.iter().any(|(other, _)| other == name)) {
        outcome.count(name, Err("has a row and is no case any more; cargo xtask counts --write".into()));
    }
    Ok(())
}
