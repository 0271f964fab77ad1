//! `lunette bench`: load on a target, and what it takes.
//!
//! A thin initiator: it logs in, keeps a number of commands in flight on each connection, looks at no
//! data, and counts. One thread serves all connections of a run, so that it can be pinned beside the
//! server it measures.

mod connection;
mod login;
mod place;
mod report;
mod work;

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use connection::Connection;
use place::Place;
pub use report::{Report, histogram, own_processor_time, processor_time};
use rustix::event::epoll;
use std::time::{Duration, Instant};
use stores::parse_size;
pub use work::{Order, Work};

const EXAMPLES: &str = "\
Examples:
  lunette bench iscsi://127.0.0.1/iqn.2026-11.io.lunette:host/1 --connections 4 --depth 32
  lunette bench iscsi://127.0.0.1/iqn.2026-11.io.lunette:host/1 --block 1M --depth 8 --sequential --write 100
  lunette bench iscsi://127.0.0.1/iqn.2026-11.io.lunette:host/1 --logins --server $(pidof lunette)

With --write the content of the disk is overwritten.";

/// Which digests are negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Digests {
    /// None.
    None,
    /// Over headers.
    Header,
    /// Over headers and data.
    Both,
}

/// Arguments of `lunette bench`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The disk: iscsi://HOST[:PORT]/TARGET/LUN
    #[arg(value_name = "URL")]
    url: String,
    /// Connections, each a session of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10000))]
    connections: u16,
    /// Commands in flight on each connection
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=128))]
    depth: u16,
    /// Bytes of a command
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = size)]
    block: u64,
    /// How many of a hundred commands are writes
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    write: u8,
    /// One after the other instead of at random
    #[arg(long)]
    sequential: bool,
    /// Only the first so many bytes of the disk
    #[arg(long, value_name = "SIZE", value_parser = size)]
    span: Option<u64>,
    /// Digests to negotiate
    #[arg(long, value_enum, default_value_t = Digests::None)]
    digests: Digests,
    /// How long is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// How long it runs before
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warm_up: f64,
    /// Measure logins instead: connect, log in, close, again
    #[arg(long)]
    logins: bool,
    /// Send no commands: only hold the sessions
    #[arg(long, conflicts_with = "logins")]
    idle: bool,
    /// Also tell the processor time of this process, which is the server
    #[arg(long, value_name = "PID")]
    server: Option<u32>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// For the order of random blocks
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the load and prints what it took.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::parse(&arguments.url).map_err(Failure::input)?;
    let seconds = |value: f64, name: &str| {
        Duration::try_from_secs_f64(value)
            .map_err(|_| Failure::input(format!("--{name} {value}: give seconds from 0 on")))
    };
    let (warm_up, time) = (seconds(arguments.warm_up, "warm-up")?, seconds(arguments.seconds, "seconds")?);
    let report = match arguments.logins {
        true => logins(arguments, &place, warm_up, time)?,
        false => commands(arguments, &place, warm_up, time)?,
    };
    let text = if arguments.json { report.json() } else { report.table() };
    println!("{text}");
    Ok(())
}

fn commands(arguments: &Arguments, place: &Place, warm_up: Duration, time: Duration) -> Result<Report, Failure> {
    let runtime = |error: String| Failure::runtime(format!("{}: {error}", arguments.url));
    let mut connections = Vec::new();
    for number in 0..arguments.connections {
        let session = login::open(place, number, arguments.digests).map_err(runtime)?;
        let span = arguments.span.unwrap_or(session.capacity).min(session.capacity);
        if span < arguments.block || !arguments.block.is_multiple_of(u64::from(session.block_length)) {
            let lengths = format!("the disk has {} bytes in blocks of {}", session.capacity, session.block_length);
            return Err(Failure::input(format!("--block {}: {lengths}; choose a size that fits", arguments.block)));
        }
        let work = Work {
            block: arguments.block,
            span,
            write_percent: arguments.write,
            sequential: arguments.sequential,
            seed: arguments.seed.wrapping_mul(7919).wrapping_add(u64::from(number)),
            // Sequential streams do not run over each other.
            start: span / arguments.block * u64::from(number) / u64::from(arguments.connections),
        };
        connections.push(Connection::new(session, usize::from(arguments.depth), work));
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| runtime(error.to_string()))?;
    for (number, connection) in connections.iter_mut().enumerate() {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, connection.stream(), data, epoll::EventFlags::IN)
            .map_err(|error| runtime(error.to_string()))?;
        connection.start(!arguments.idle).map_err(runtime)?;
    }
    let mut watched = vec![false; connections.len()];
    let mut events = Vec::with_capacity(256);
    let begin = Instant::now() + warm_up;
    let (mut measuring, mut end) = (false, begin + time);
    let mut server = None;
    let mut own = report::own_processor_time();
    loop {
        events.clear();
        let limit = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(runtime(error.to_string())),
        }
        let now = Instant::now();
        if !measuring && now >= begin {
            measuring = true;
            connections.iter_mut().for_each(Connection::forget);
            server = arguments.server.and_then(report::processor_time);
            own = report::own_processor_time();
            end = Instant::now() + time;
        }
        if measuring && now >= end {
            break;
        }
        for event in events.drain(..) {
            let number = event.data.u64() as usize;
            let Some(connection) = connections.get_mut(number) else { continue };
            let blocked = connection.turn().map_err(runtime)?;
            if watched[number] != blocked {
                watched[number] = blocked;
                let flags =
                    if blocked { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
                epoll::modify(&poll, connection.stream(), event.data, flags)
                    .map_err(|error| runtime(error.to_string()))?;
            }
        }
    }
    let measured = (end - time).elapsed();
    let server = server.zip(arguments.server.and_then(report::processor_time)).map(|(before, after)| after - before);
    let own = report::own_processor_time().zip(own).map(|(after, before)| after - before);
    let latencies: Vec<_> = connections.iter().map(|connection| &connection.latencies).collect();
    Ok(Report::commands(arguments.block, measured, &latencies, server, own))
}

fn logins(arguments: &Arguments, place: &Place, warm_up: Duration, time: Duration) -> Result<Report, Failure> {
    let runtime = |error: String| Failure::runtime(format!("{}: {error}", arguments.url));
    let one = |count: u64| login::only(place, (count % 10_000) as u16, arguments.digests).map_err(runtime);
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < warm_up {
        one(count)?;
        count += 1;
    }
    let mut latencies = report::histogram();
    let server = arguments.server.and_then(report::processor_time);
    let begin = Instant::now();
    while begin.elapsed() < time {
        let start = Instant::now();
        one(count)?;
        latencies.saturating_record(start.elapsed().as_nanos() as u64);
        count += 1;
    }
    let server = server.zip(arguments.server.and_then(report::processor_time)).map(|(before, after)| after - before);
    Ok(Report::logins(begin.elapsed(), latencies, server))
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
}
