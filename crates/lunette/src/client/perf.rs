//! `lunette perf`: load on a disk through the library, and what it takes.
//!
//! As `lunette bench`, but with everything that a caller of the library has: CHAP, several connections, recovery.

use super::failure;
use super::login::{Login, Needed, leave};
use super::print;
use crate::bench::{Order, Report, Work, histogram, own_processor_time, processor_time};
use crate::failure::Failure;
use block::Buf;
use clap::Args;
use hdrhistogram::Histogram;
use initiator::{Address, Channel, Command, Lun, Session};
use scsi::blocks::Capacity;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use stores::parse_size;

const EXAMPLES: &str = "\
Examples:
  lunette perf iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette perf iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 --block 1M --depth 8 --sequential
  lunette perf iscsi://alice@192.0.2.7/iqn.2026-11.com.example:disk/0 --sessions 4 --write 30 --json

With --write the content of the disk is overwritten.";

/// Arguments of `lunette perf`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The disk: iscsi://HOST[:PORT]/TARGET/LUN
    #[arg(value_name = "URL")]
    url: String,
    /// Sessions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    sessions: u16,
    /// Connections of each session, as far as the target takes them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Commands in flight of each session
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    depth: u32,
    /// Bytes of a command
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = parse_size)]
    block: u64,
    /// How many of a hundred commands are writes
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    write: u8,
    /// One after the other instead of at random
    #[arg(long)]
    sequential: bool,
    /// Only the first so many bytes of the disk
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    span: Option<u64>,
    /// How long is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// How long it runs before
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warm_up: f64,
    /// Also tell the processor time of this process, which is the server
    #[arg(long, value_name = "PID")]
    server: Option<u32>,
    /// For the order of random blocks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// What the sessions are to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    Stop,
}

/// Runs the load and prints what it took.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = arguments.login.address(&arguments.url, Needed::Unit)?;
    let seconds = |value: f64, name: &str| {
        Duration::try_from_secs_f64(value)
            .map_err(|_| Failure::input(format!("--{name} {value}: give seconds from 0 on")))
    };
    let (warm_up, time) = (seconds(arguments.warm_up, "warm-up")?, seconds(arguments.seconds, "seconds")?);
    let report = super::run(async {
        let local = tokio::task::LocalSet::new();
        local.run_until(load(arguments, &address, warm_up, time)).await
    })?;
    print(&format!("{}\n", if arguments.json { report.json() } else { report.table() }))
}

async fn load(arguments: &Arguments, address: &Address, warm_up: Duration, time: Duration) -> Result<Report, Failure> {
    let options = arguments.login.options(address).connections(arguments.connections);
    let lun = Lun::from(address.lun.unwrap_or(0));
    let phase = Rc::new(Cell::new(Phase::WarmUp));
    let (mut sessions, mut loads) = (Vec::new(), Vec::new());
    for number in 0..arguments.sessions {
        let failed = |error: initiator::Error| failure::of(address, &error);
        let session = options.clone().connect().await.map_err(failed)?;
        let capacity = session.unit(lun).capacity().await.map_err(failed)?;
        let work = work(arguments, &capacity, number)?;
        sessions.push(session.clone());
        loads.push(Load::new(session, lun, capacity.block_length, arguments.depth, work, phase.clone())?);
    }
    let tasks: Vec<_> = loads.into_iter().map(|load| tokio::task::spawn_local(load.run())).collect();
    tokio::time::sleep(warm_up).await;
    phase.set(Phase::Measure);
    let server = arguments.server.and_then(processor_time);
    let own = own_processor_time();
    let begun = Instant::now();
    // An error ends it at once.
    let mut pending = tasks;
    let early = poll_fn(|cx| {
        for task in &mut pending {
            if let Poll::Ready(ended) = std::pin::Pin::new(task).poll(cx) {
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    });
    let ended = |error: tokio::task::JoinError| Failure::runtime(format!("{address}: the load ended early: {error}"));
    if let Ok(early) = tokio::time::timeout(time, early).await {
        return early
            .map_err(ended)?
            .map_err(|error| failure::of(address, &error))
            .and_then(|_| Err(Failure::runtime(format!("{address}: the load ended early"))));
    }
    let measured = begun.elapsed();
    let server = server.zip(arguments.server.and_then(processor_time)).map(|(before, after)| after - before);
    let own = own.zip(own_processor_time()).map(|(before, after)| after - before);
    phase.set(Phase::Stop);
    let mut latencies = Vec::new();
    for task in pending {
        latencies.push(task.await.map_err(ended)?.map_err(|error| failure::of(address, &error))?);
    }
    for session in &sessions {
        leave(session).await;
    }
    let all: Vec<_> = latencies.iter().collect();
    Ok(Report::commands(arguments.block, measured, &all, server, own))
}

fn work(arguments: &Arguments, capacity: &Capacity, number: u16) -> Result<Work, Failure> {
    let span = arguments.span.unwrap_or(capacity.bytes()).min(capacity.bytes());
    let fits = arguments.block > 0 && arguments.block.is_multiple_of(u64::from(capacity.block_length));
    if span < arguments.block || !fits || arguments.block > 16 << 20 {
        let lengths = format!("the disk has {} bytes in blocks of {}", capacity.bytes(), capacity.block_length);
        return Err(Failure::input(format!("--block {}: {lengths}; choose a size that fits", arguments.block)));
    }
    Ok(Work {
        block: arguments.block,
        span,
        write_percent: arguments.write,
        sequential: arguments.sequential,
        seed: arguments.seed.wrapping_mul(7919).wrapping_add(u64::from(number)),
        start: span / arguments.block * u64::from(number) / u64::from(arguments.sessions),
    })
}

/// The load of one session.
struct Load {
    session: Session,
    lun: Lun,
    block_length: u64,
    order: Order,
    buffers: Vec<Buf>,
    begun: Vec<Instant>,
    block: u64,
    phase: Rc<Cell<Phase>>,
}

impl Load {
    fn new(
        session: Session,
        lun: Lun,
        block_length: u32,
        depth: u32,
        work: Work,
        phase: Rc<Cell<Phase>>,
    ) -> Result<Load, Failure> {
        let mut order = Order::new(work.clone());
        let buffers = (0..depth).map(|_| {
            let mut buffer = Buf::new(work.block as usize)?;
            // Data that nothing on the way can make smaller.
            for word in buffer.as_mut_slice().chunks_exact_mut(8) {
                word.copy_from_slice(&order.random().to_le_bytes());
            }
            Some(buffer)
        });
        let buffers = buffers.collect::<Option<Vec<_>>>().ok_or_else(|| Failure::runtime("there is no memory"))?;
        let begun = vec![Instant::now(); buffers.len()];
        let (block_length, block) = (u64::from(block_length), work.block);
        Ok(Load { session, lun, block_length, order, buffers, begun, block, phase })
    }

    async fn run(mut self) -> Result<Histogram<u64>, initiator::Error> {
        let mut latencies = histogram();
        let mut channel: Option<Channel> = None;
        let (mut batch, mut done) = (Vec::new(), Vec::new());
        let mut measures = false;
        poll_fn(|cx| {
            let channel = match &mut channel {
                Some(channel) => channel,
                None => {
                    let buffers = std::mem::take(&mut self.buffers);
                    for (token, buffer) in buffers.into_iter().enumerate() {
                        batch.push(self.command(token, buffer));
                    }
                    channel.insert(self.session.channel(cx.waker().clone()))
                }
            };
            loop {
                channel.submit(&mut batch);
                channel.take(&mut done);
                if done.is_empty() {
                    break;
                }
                let phase = self.phase.get();
                if phase == Phase::Measure && !measures {
                    measures = true;
                    latencies.reset();
                }
                for (token, finished) in done.drain(..) {
                    if let Err(error) = &finished.result {
                        return Poll::Ready(Err(error.clone()));
                    }
                    let begun = self.begun.get(token as usize).map_or(Duration::ZERO, Instant::elapsed);
                    if phase != Phase::Stop {
                        latencies.saturating_record(begun.as_nanos() as u64);
                        if let Some(buffer) = finished.into_buf() {
                            batch.push(self.command(token as usize, buffer));
                        }
                    }
                }
            }
            match channel.in_flight() {
                0 => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await?;
        Ok(latencies)
    }

    fn command(&mut self, token: usize, buffer: Buf) -> (u64, Lun, Command) {
        let (number, write) = self.order.next();
        let lba = number * self.block / self.block_length;
        let mut cdb = [0; 16];
        cdb[0] = if write { 0x8a } else { 0x88 };
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&((self.block / self.block_length) as u32).to_be_bytes());
        let range = 0..self.block as usize;
        let command = Command::new(&cdb);
        let command = if write { command.from(buffer, range) } else { command.into(buffer, range) };
        if let Some(begun) = self.begun.get_mut(token) {
            *begun = Instant::now();
        }
        (token as u64, self.lun, command)
    }
}
