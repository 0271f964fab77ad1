//! Runs seeds of the deterministic simulation: `simulate --seeds A..B [--level L] [--connections N]`.

use sim::joined::{Report, Setup, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "simulate --seeds FIRST..END|SEED [--level 0|1|2] [--connections 1..4] [--verbose] [--trace]";

struct Arguments {
    seeds: std::ops::Range<u64>,
    level: Option<u32>,
    connections: Option<u16>,
    verbose: bool,
    trace: bool,
}

fn arguments() -> Option<Arguments> {
    let mut parsed = Arguments { seeds: 0..0, level: None, connections: None, verbose: false, trace: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => {
                let range = words.next()?;
                parsed.seeds = match range.split_once("..") {
                    Some((first, end)) => first.parse().ok()?..end.parse().ok()?,
                    None => {
                        let seed: u64 = range.parse().ok()?;
                        seed..seed.checked_add(1)?
                    }
                };
            }
            "--level" => parsed.level = Some(words.next()?.parse().ok().filter(|level| *level <= 2)?),
            "--connections" => {
                parsed.connections = Some(words.next()?.parse().ok().filter(|count| (1..=4).contains(count))?);
            }
            "--trace" => parsed.trace = true,
            "--verbose" => parsed.verbose = true,
            _ => return None,
        }
    }
    (!parsed.seeds.is_empty()).then_some(parsed)
}

/// What was done, by level.
#[derive(Default)]
struct Tally {
    runs: u64,
    commands: u64,
    sessions: u64,
    connections: u64,
    cuts: u64,
    damages: u64,
}

impl Tally {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.commands += u64::from(report.commands);
        self.sessions += u64::from(report.sessions);
        self.connections += u64::from(report.connections);
        self.cuts += u64::from(report.cuts);
        self.damages += u64::from(report.damages);
    }
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    let begin = Instant::now();
    let mut tallies: [Tally; 3] = Default::default();
    let mut failed = 0u64;
    for seed in arguments.seeds.clone() {
        let by_seed = Setup::of(seed);
        let level = arguments.level.unwrap_or(by_seed.level);
        let connections = arguments.connections.unwrap_or(by_seed.connections);
        let mut setup = Setup::with(seed, level, connections);
        setup.trace = arguments.trace;
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&setup))).unwrap_or_else(|_| Err("panicked".to_owned()));
        match outcome {
            Ok(report) => {
                if arguments.verbose {
                    println!("seed {seed}: {report:?}");
                }
                tallies[level as usize].add(&report);
            }
            Err(what) => {
                failed += 1;
                println!("FAIL seed {seed}: {what}\n     {}", setup.rerun());
            }
        }
    }
    for (level, tally) in tallies.iter().enumerate().filter(|(_, tally)| tally.runs > 0) {
        println!(
            "level {level}: {} seeds, {} commands, {} sessions, {} connections, {} lost, {} bytes damaged",
            tally.runs, tally.commands, tally.sessions, tally.connections, tally.cuts, tally.damages
        );
    }
    let seeds = arguments.seeds.end - arguments.seeds.start;
    println!("{seeds} seeds, {failed} failed, {:.1} s", begin.elapsed().as_secs_f32());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
