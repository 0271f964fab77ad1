//! Every fuzz target: its whole corpus once, then ten seconds of new inputs ([`crate::fuzz`]).

use super::Outcome;
use crate::fuzz::{self, Ran};
use std::path::Path;

/// Seconds of new inputs for each target.
const SECONDS: u32 = 10;

pub fn run(root: &Path, outcome: &mut Outcome) {
    let root = &root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let folder = match fuzz::build(root) {
        Ok(folder) => folder,
        Err(why) => return outcome.count("set-up", Err(why)),
    };
    for target in fuzz::targets(root) {
        let replayed = fuzz::replay(root, &folder, &target);
        let sound = count(outcome, &target, "inputs of the corpus", replayed);
        if sound {
            count(
                outcome,
                &target,
                &format!("runs in {SECONDS} seconds"),
                fuzz::search(root, &folder, &target, SECONDS),
            );
        }
    }
}

fn count(outcome: &mut Outcome, target: &str, of: &str, ran: Result<Ran, String>) -> bool {
    let (executions, result) = match ran {
        Err(why) => (0, Err(why)),
        Ok(Ran { finding: Some(finding), executions }) => (executions, Err(finding)),
        Ok(Ran { executions: 0, .. }) => (0, Err("nothing was run".to_owned())),
        Ok(Ran { executions, .. }) => (executions, Ok(())),
    };
    let sound = result.is_ok();
    outcome.count(&format!("{target}: {executions} {of}"), result);
    sound
}
