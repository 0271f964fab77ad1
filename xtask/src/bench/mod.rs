//! `cargo xtask bench`: Lunette, its peers and the floor, in turn, on the same two processors.
//!
//! A row of the matrix is one workload. Each round runs every server for a few seconds, one after the
//! other, so that a machine that drifts drifts for all of them; the table has the medians, and ratios
//! of figures of the same round.

mod rest;
mod servers;

use servers::{Server, Store};
use std::path::Path;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask bench [--rounds N] [--seconds S] [--json FILE] [ROW...]

A ROW is a part of a row's name; without one all rows run. Needs two processors, and root for tgt
(apt-get install tgt); a peer that is not installed is left out and named.";

/// A workload.
struct Row {
    name: &'static str,
    store: Store,
    arguments: &'static [&'static str],
    /// A floor server does the same without iSCSI; not where digests or logins are the point.
    floor: bool,
}

const fn row(name: &'static str, store: Store, arguments: &'static [&'static str]) -> Row {
    Row { name, store, arguments, floor: true }
}

const fn ours(name: &'static str, store: Store, arguments: &'static [&'static str]) -> Row {
    Row { name, store, arguments, floor: false }
}

const ROWS: &[Row] = &[
    row("4K read, depth 1", Store::File, &["--depth", "1"]),
    row("4K read, depth 32", Store::File, &["--depth", "32"]),
    row("4K read, 4 x depth 32", Store::File, &["--connections", "4"]),
    row("4K write, depth 1, tmpfs", Store::Tmpfs, &["--depth", "1", "--write", "100"]),
    row("4K write, depth 32, tmpfs", Store::Tmpfs, &["--write", "100"]),
    row("4K write, 4 x depth 32, tmpfs", Store::Tmpfs, &["--connections", "4", "--write", "100"]),
    row("4K write, 4 x depth 32, file", Store::File, &["--connections", "4", "--write", "100"]),
    row("4K 70/30, 4 x depth 32, tmpfs", Store::Tmpfs, &["--connections", "4", "--write", "30"]),
    row("64K read, depth 16", Store::File, &["--block", "64K", "--depth", "16", "--sequential"]),
    row("256K read, depth 8", Store::File, &["--block", "256K", "--depth", "8", "--sequential"]),
    row("1M read, depth 8", Store::File, &["--block", "1M", "--depth", "8", "--sequential"]),
    row(
        "64K write, depth 16, tmpfs",
        Store::Tmpfs,
        &["--block", "64K", "--depth", "16", "--sequential", "--write", "100"],
    ),
    row(
        "256K write, depth 8, tmpfs",
        Store::Tmpfs,
        &["--block", "256K", "--depth", "8", "--sequential", "--write", "100"],
    ),
    row("1M write, depth 8, tmpfs", Store::Tmpfs, &["--block", "1M", "--depth", "8", "--sequential", "--write", "100"]),
    ours("4K read, 4 x 32, digests", Store::File, &["--connections", "4", "--digests", "both"]),
    ours(
        "4K write, 4 x 32, tmpfs, digests",
        Store::Tmpfs,
        &["--connections", "4", "--write", "100", "--digests", "both"],
    ),
    ours(
        "1M read, depth 8, digests",
        Store::File,
        &["--block", "1M", "--depth", "8", "--sequential", "--digests", "both"],
    ),
    ours(
        "1M write, depth 8, tmpfs, digests",
        Store::Tmpfs,
        &["--block", "1M", "--depth", "8", "--sequential", "--write", "100", "--digests", "both"],
    ),
    ours("4K read, 4 x depth 32, RAM", Store::Ram, &["--connections", "4"]),
    ours("4K read, 4 x depth 32, null", Store::Null, &["--connections", "4"]),
    ours("4K read, 4 x depth 32, O_DIRECT", Store::Direct, &["--connections", "4"]),
    ours("4K read, 4 x depth 32, cold file", Store::Cold, &["--connections", "4"]),
    row("4K read, 16 sessions x 64", Store::File, &["--connections", "16", "--depth", "64"]),
    row("4K read, 64 sessions x 2", Store::File, &["--connections", "64", "--depth", "2"]),
    row("4K read, 1000 sessions x 1", Store::File, &["--connections", "1000", "--depth", "1"]),
    ours("logins", Store::Null, &["--logins"]),
];

/// A server with what it did in each round.
type Measured = (Server, Vec<Figures>);

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    rate: f64,
    bytes: f64,
    median: f64,
    p999: f64,
    fairness: f64,
    /// Processor time of the server for one command, in microseconds.
    server: f64,
}

/// Runs the matrix.
pub fn run(root: &Path, words: &[String]) -> ExitCode {
    match try_run(root, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask bench: {why}");
            ExitCode::from(2)
        }
    }
}

fn try_run(root: &Path, words: &[String]) -> Result<(), String> {
    let (mut rounds, mut seconds, mut json, mut wanted) = (3, 2.0f64, None, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--rounds" => rounds = value()?.parse().map_err(|_| USAGE)?,
            "--seconds" => seconds = value()?.parse().map_err(|_| USAGE)?,
            "--json" => json = Some(value()?.clone()),
            "--help" | "-h" => {
                println!("{USAGE}\n\nRows:");
                ROWS.iter().for_each(|row| println!("  {}", row.name));
                return Ok(());
            }
            other if other.starts_with('-') => return Err(format!("there is no {other}\n{USAGE}")),
            other => wanted.push(other.to_owned()),
        }
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("two processors are needed: one for the server, one for the load".into());
    }
    let bench = servers::Bench::set_up(root)?;
    println!("{}", machine());
    for name in bench.absent() {
        println!("not measured: {name}");
    }
    let mut all = Vec::new();
    println!(
        "\n{:<34} {:<8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}  ratios of server time",
        "workload", "server", "ops/s", "MiB/s", "median µs", "99.9 µs", "worst", "µs/op"
    );
    for row in ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|part| row.name.contains(part))) {
        let mut measured: Vec<Measured> =
            bench.servers(row.floor).into_iter().map(|server| (server, Vec::new())).collect();
        for _ in 0..rounds {
            for (server, figures) in &mut measured {
                match bench.measure(*server, row.store, row.arguments, seconds) {
                    Ok(figure) => figures.push(figure),
                    Err(why) => println!("{:<34} {:<8} {why}", row.name, server.name()),
                }
            }
        }
        print_row(row.name, &measured);
        all.push((row.name, measured));
    }
    if wanted.is_empty() || wanted.iter().any(|part| "idle".contains(part.as_str())) {
        rest::run(&bench)?;
    }
    if let Some(path) = json {
        std::fs::write(&path, to_json(&all)).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

fn print_row(name: &str, measured: &[Measured]) {
    let ours = measured.iter().find(|(server, _)| *server == Server::Lunette).map(|(_, figures)| figures);
    for (server, figures) in measured.iter().filter(|(_, figures)| !figures.is_empty()) {
        let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(pick));
        let ratio = match (ours, *server) {
            (Some(ours), Server::Floor | Server::Tgt) => {
                let pairs = ours.iter().zip(figures);
                let time = median(pairs.clone().map(|(ours, theirs)| ours.server / theirs.server));
                let rate = median(pairs.clone().map(|(ours, theirs)| ours.rate / theirs.rate));
                let wait = median(pairs.map(|(ours, theirs)| ours.median / theirs.median));
                format!("{:.2} of {}'s ({rate:.2} x its rate, {wait:.2} of its median)", time, server.name())
            }
            _ => String::new(),
        };
        println!(
            "{name:<34} {:<8} {:>9.0} {:>9.0} {:>9.1} {:>9.1} {:>7.2} {:>8.2}  {ratio}",
            server.name(),
            of(|figures| figures.rate),
            of(|figures| figures.bytes) / 1048576.0,
            of(|figures| figures.median),
            of(|figures| figures.p999),
            of(|figures| figures.fairness),
            of(|figures| figures.server),
        );
    }
}

fn to_json(all: &[(&str, Vec<Measured>)]) -> String {
    let rows: Vec<_> = all
        .iter()
        .flat_map(|(name, measured)| measured.iter().map(move |(server, figures)| (name, server, figures)))
        .map(|(name, server, figures)| {
            let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(pick));
            serde_json::json!({
                "workload": name,
                "server": server.name(),
                "rounds": figures.len(),
                "per_second": of(|figures| figures.rate),
                "median_us": of(|figures| figures.median),
                "p999_us": of(|figures| figures.p999),
                "worst_session": of(|figures| figures.fairness),
                "server_us": of(|figures| figures.server),
            })
        })
        .collect();
    serde_json::Value::Array(rows).to_string()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = Command::new("uname").arg("-r").output();
    let kernel = kernel.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} processors, {model}, Linux {kernel}; server on processor 0, load on 1, loopback")
}
