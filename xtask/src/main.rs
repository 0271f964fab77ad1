//! The project's own chores: `cargo xtask tidy`, `test`, `conformance`, `fuzz`, `bench`, `counts` and `package`.

mod bench;
mod conformance;
mod counts;
mod fuzz;
mod package;
mod suites;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy | cargo xtask test [SUITE...] | cargo xtask bench [ROW...] | cargo xtask counts [--write] | cargo xtask conformance [--write] [--run FILE...] | cargo xtask package [deb] [rpm] [dist] | cargo xtask fuzz TARGET [--time 1h | INPUT...]\n\nSuites, all of them where none is named:";

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => {
            let findings = tidy::findings(&root);
            for finding in &findings {
                eprintln!("{finding}");
            }
            if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        ["bench", ..] => bench::run(&root, &words[1..]),
        ["conformance", ..] => conformance::run(&root, &words[1..]),
        ["fuzz", ..] => fuzz::run(&root, &words[1..]),
        ["counts", ..] => counts::run(&root, &words[1..]),
        ["package", ..] => package::run(&root, &words[1..]),
        ["test", ..] => suites::run(&root, &words[1..]),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}\n{}", suites::list());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}\n{}", suites::list());
            ExitCode::from(2)
        }
    }
}
