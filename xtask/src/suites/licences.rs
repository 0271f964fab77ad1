//! What the workspace depends on: licences, and where it comes from.
//!
//! `cargo deny` checks deny.toml where it is installed. Everywhere, the licence expressions of the
//! locked dependencies are checked against the same list, so that the check never depends on a tool.

use super::Outcome;
use std::path::Path;
use std::process::Command;

pub fn run(root: &Path, outcome: &mut Outcome) {
    let allowed = match std::fs::read_to_string(root.join("deny.toml")) {
        Ok(text) => allowed(&text),
        Err(error) => return outcome.count("deny.toml", Err(error.to_string())),
    };
    let listed = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--edges", "normal,build,dev", "--prefix", "none"])
        .args(["--format", "{p}\t{l}"])
        .current_dir(root)
        .output();
    let text = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => return outcome.count("cargo tree", Err(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => return outcome.count("cargo tree", Err(error.to_string())),
    };
    let mut wrong: Vec<String> = Vec::new();
    for (package, licence) in text.lines().filter_map(|line| line.split_once('\t')) {
        let licence = licence.trim_end_matches(" (*)");
        if !permits(licence, &allowed) {
            wrong.push(format!("{package} has {licence:?}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    outcome.count(
        "every dependency has a licence of deny.toml",
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join(", ")) },
    );
    let deny = Command::new(env!("CARGO")).args(["deny", "--version"]).output();
    match deny {
        Ok(output) if output.status.success() => {
            let checked = Command::new(env!("CARGO"))
                .args(["deny", "--locked", "check", "licenses", "bans", "sources"])
                .current_dir(root)
                .status();
            let good = checked.is_ok_and(|status| status.success());
            outcome.count("cargo deny check", if good { Ok(()) } else { Err("see above".into()) });
        }
        _ => {
            outcome.notes.push("cargo deny not run: it is not installed; get it with: cargo install cargo-deny".into())
        }
    }
}

/// The quoted words of `allow = [ … ]`.
fn allowed(text: &str) -> Vec<String> {
    let list = text.split_once("\nallow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with these: one side of each OR, both sides of each AND.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|one| allowed.iter().any(|known| known == one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_one_side_of_each_or() {
        let allowed = allowed("[licenses]\nallow = [\n  \"MIT\",\n  \"Unicode-3.0\",\n]\n");
        assert_eq!(allowed, ["MIT", "Unicode-3.0"]);
        assert!(permits("MIT OR Apache-2.0", &allowed) && permits("MIT/Apache-2.0", &allowed));
        assert!(permits("(MIT OR Apache-2.0) AND Unicode-3.0", &allowed));
        assert!(!permits("GPL-3.0", &allowed) && !permits("MIT AND GPL-3.0", &allowed) && !permits("", &allowed));
    }
}
