//! Runs one case as often as is asked, to be watched by callgrind: `counts CASE TIMES`; without arguments
//! the cases' names. The difference of two runs has neither start-up nor preparation in it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Calls before the counted ones, so that what grows once has grown.
const WARM_UP: u32 = 100;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cases = measure::cases();
    let [name, times] = &words[..] else {
        cases.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    };
    let (Some(case), Ok(times)) = (cases.iter().find(|case| case.name == name), times.parse::<u32>()) else {
        eprintln!("usage: counts [CASE TIMES]");
        return ExitCode::from(2);
    };
    let mut once = (case.prepare)();
    (0..WARM_UP + times).for_each(|_| once());
    ExitCode::SUCCESS
}
