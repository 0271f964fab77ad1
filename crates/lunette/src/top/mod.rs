//! `lunette top`: what a daemon's disks and sessions do, on a screen that goes on, or as text and JSON for scripts.

mod app;
mod columns;
mod detail;
mod figures;
mod look;
mod sample;
mod screen;
mod source;
mod terminal;
#[cfg(test)]
mod tests;

pub use figures::{bytes, count, latency};
pub use source::lun_rates;

use crate::control;
use crate::failure::Failure;
use app::{App, View};
use clap::{Args, ValueEnum};
use look::Look;
use sample::{Rates, Sample, failures};
use serde_json::{Value, json};
use source::{Control, Source};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Columns of plain text where nobody says how many there are.
const WIDTH: u16 = 132;

/// Arguments of `lunette top`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    lunette top                        the screen; ? shows its keys\n  \
    lunette top --view sessions        begins with the sessions\n  \
    lunette top --once --sort p99      the disks as a table, the slowest first\n  \
    lunette top --json --count 10      ten samples as JSON, a line each\n\n\
    Exit codes: 0 it ended as asked, 1 it failed while running, 2 wrong arguments, 3 no daemon answers.")]
pub struct Arguments {
    /// With what it begins
    #[arg(long, value_enum, default_value_t = Begin::Luns)]
    view: Begin,
    /// The column to sort by: op/s, p99, err/s, …
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// Only rows in which this stands
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Seconds between two looks
    #[arg(long, short, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// One table as text, of what happens in the first interval
    #[arg(long)]
    once: bool,
    /// A table as text after each interval
    #[arg(long, conflicts_with = "once")]
    batch: bool,
    /// A JSON object after each interval, a line each; with --once one alone
    #[arg(long, conflicts_with = "batch")]
    json: bool,
    /// End after so many (with --batch and --json)
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Colours: auto, always, never
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
    /// The daemon's socket [default: where `lunette serve` puts it]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The --state-dir of the daemon, where its socket is in it
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    state_dir: Option<PathBuf>,
}

/// Views on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Begin {
    /// The disks.
    Luns,
    /// The sessions.
    Sessions,
    /// The targets.
    Targets,
    /// Logins, refusals, bounds.
    Door,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "is no number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("is not from 0.1 to 3600 seconds".to_owned()) }
}

/// Runs until it is told to end.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::path(arguments.control.as_deref(), arguments.state_dir.as_deref())
        .ok_or_else(|| Failure::input("where the daemon's socket is, is not known; name it with --control PATH"))?;
    let mut source = Control { path };
    let view = match arguments.view {
        Begin::Luns => View::Luns,
        Begin::Sessions => View::Sessions,
        Begin::Targets => View::Targets,
        Begin::Door => View::Door,
    };
    let mut app = App::new(view, Duration::from_secs_f64(arguments.interval));
    app.filter.clone_from(&arguments.filter);
    if let Some(column) = &arguments.sort {
        app.sort_by(column).map_err(|why| Failure::input(format!("--sort: {why}")))?;
    }
    // Whoever asks in vain hears it on a line of its own, before any screen.
    app.take(Ok(source.sample()?));
    let colour = match arguments.color.as_str() {
        "always" => true,
        "never" => false,
        _ => std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()),
    };
    let look = Look::from_environment(colour);
    if arguments.once || arguments.batch || arguments.json {
        return scripted(arguments, &mut source, &mut app, look);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::input("standard output is no terminal; use --once, --batch or --json"));
    }
    terminal::run(app, Box::new(source), look)
}

/// Text and JSON.
fn scripted(arguments: &Arguments, source: &mut Control, app: &mut App, look: Look) -> Result<(), Failure> {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(WIDTH);
    let mut left = if arguments.once { Some(1) } else { arguments.count };
    while left != Some(0) {
        std::thread::sleep(app.interval);
        app.take(Ok(source.sample()?));
        let text = match arguments.json {
            true => format!("{}\n", report(app)),
            false => screen::plain(app, width, look) + if left == Some(1) { "" } else { "\n" },
        };
        let mut out = std::io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Whoever read it has enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::runtime(error)),
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// A sample for programs: what the tables show, unrounded, and what was counted since the start.
fn report(app: &App) -> Value {
    let empty = Sample::default();
    let sample = app.sample.as_ref().unwrap_or(&empty);
    let microseconds = app.before.as_ref().and_then(|before| sample.after(before));
    let seconds = |latency: Option<Duration>| latency.map(|latency| latency.as_secs_f64());
    let rates = |rates: &Rates| {
        json!({
            "operations": rates.operations,
            "reads": rates.reads,
            "writes": rates.writes,
            "read_bytes": rates.read_bytes,
            "written_bytes": rates.written_bytes,
            "depth": rates.depth,
            "errors": rates.errors,
            "p50_seconds": seconds(rates.p50),
            "p99_seconds": seconds(rates.p99),
            "p999_seconds": seconds(rates.p999),
        })
    };
    let luns = app.luns().into_iter().map(|row| {
        let lun = &row.lun;
        json!({
            "target": lun.target, "lun": lun.number, "store": lun.place, "bytes": lun.bytes, "state": lun.state,
            "writable": lun.writable, "sessions": row.sessions, "in_flight": lun.counted.in_flight,
            "commands": lun.counted.total().commands, "failed": failures(&lun.counted), "rates": rates(&row.rates),
        })
    });
    let sessions = app.sessions().into_iter().map(|row| {
        let session = &row.session;
        json!({
            "tsih": session.number, "initiator": session.initiator, "target": session.target, "since": session.since,
            "connections": session.connections.len(), "in_flight": session.counted.in_flight,
            "commands": session.counted.total().commands, "failed": failures(&session.counted),
            "rates": rates(&row.rates),
        })
    });
    json!({
        "time_us": sample.time_us,
        "seconds": microseconds.map(|microseconds| microseconds as f64 / 1e6),
        "version": sample.daemon.version,
        "process": sample.daemon.process,
        "luns": luns.collect::<Vec<_>>(),
        "sessions": sessions.collect::<Vec<_>>(),
    })
}
