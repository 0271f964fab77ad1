//! Load on a disk through the library, with the processor time that it costs, for comparison with iscsi-perf:
//! `load iscsi://HOST/TARGET/LUN BLOCKS DEPTH SECONDS [random] [futures]`. How little it could cost: `load floor BYTES
//! DEPTH SECONDS` against `load floor-server BYTES`, which move the same bytes with one call for each read and no
//! protocol. `crates/initiator/examples/compare.sh` runs all of it.

use initiator::{Command, Data, Lun, Session};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Processor time of all threads of this process, in nanoseconds.
fn processor_time() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let one = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| one(task.path())).sum()
}

/// Where to read next.
struct Order {
    blocks: u64,
    of: u64,
    random: bool,
    state: u64,
}

impl Order {
    fn next(&mut self) -> u64 {
        let slots = self.of / self.blocks;
        self.state = match self.random {
            true => {
                let mut x = self.state;
                x ^= x << 13;
                x ^= x >> 7;
                x ^ x << 17
            }
            false => self.state + 1,
        };
        self.state % slots * self.blocks
    }
}

fn read(lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x88;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

struct Bell(tokio::sync::Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Where the floor's server listens.
const FLOOR: &str = "127.0.0.1:39111";
/// Wait for all of it.
const MSG_WAITALL: i32 = 0x100;

/// Answers 48 bytes with 48 bytes and so many more.
fn floor_server(bytes: usize) -> std::io::Result<()> {
    let data = vec![7; 64 << 20];
    for stream in std::net::TcpListener::bind(FLOOR)?.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        let (mut request, mut at) = ([0; 48], 0);
        while stream.read_exact(&mut request).is_ok() {
            let sent = stream.write_all(&request).and_then(|()| stream.write_all(&data[at..at + bytes]));
            if sent.is_err() {
                break;
            }
            at = (at + bytes) % (data.len() - bytes);
        }
    }
    Ok(())
}

fn floor(bytes: usize, depth: usize, seconds: u64) -> std::io::Result<()> {
    let mut stream = std::net::TcpStream::connect(FLOOR)?;
    stream.set_nodelay(true)?;
    let mut memory = vec![vec![MaybeUninit::uninit(); bytes]; depth];
    let mut header = [0; 48];
    for _ in 0..depth {
        stream.write_all(&header)?;
    }
    let (begun, before) = (Instant::now(), processor_time());
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        stream.read_exact(&mut header)?;
        let mut rest = &mut memory[count as usize % depth][..];
        while !rest.is_empty() {
            let come = socket2::SockRef::from(&stream).recv_with_flags(rest, MSG_WAITALL)?;
            assert!(come > 0, "the server has gone");
            rest = &mut rest[come..];
        }
        stream.write_all(&header)?;
        count += 1;
    }
    tell("floor", count, bytes, begun.elapsed(), processor_time() - before);
    Ok(())
}

fn tell(what: &str, count: u64, bytes: usize, took: Duration, used: u64) {
    let rate = count as f64 / took.as_secs_f64();
    let mib = rate * bytes as f64 / f64::from(1 << 20);
    let each = used as f64 / 1000.0 / count as f64;
    println!("{what:<9} {rate:>8.0} reads/s {mib:>8.0} MiB/s {each:>8.2} µs processor time each");
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|number| number.parse().ok()).unwrap_or(1usize);
    match arguments.first().map(String::as_str) {
        Some("floor-server") => floor_server(number(1)),
        Some("floor") => floor(number(1), number(2), number(3) as u64),
        _ => {
            load();
            Ok(())
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn load() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments[at].parse::<u64>().expect("a number");
    let (url, blocks, depth, seconds) = (&arguments[0], number(1) as u32, number(2) as usize, number(3));
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let session = Session::connect(url).await.expect("a session");
    let lun = Lun::new(url.rsplit('/').next().and_then(|lun| lun.parse().ok()).expect("a LUN"));
    let unit = session.unit(lun);
    let capacity = unit.capacity().await.expect("a capacity");
    let bytes = blocks as usize * capacity.block_length as usize;
    let order =
        Order { blocks: blocks.into(), of: capacity.blocks, random: has("random"), state: 88_172_645_463_325_252 };
    let order = std::cell::RefCell::new(order);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (begun, before) = (Instant::now(), processor_time());
    let count = match has("futures") {
        true => {
            let reader = async || {
                let mut count = 0u64;
                let mut buf = block::Buf::new(bytes).expect("memory");
                while Instant::now() < end {
                    let lba = order.borrow_mut().next();
                    let (back, result) = unit.read_into(lba, blocks, buf, 0..bytes).await;
                    result.expect("a read");
                    buf = back.expect("the buffer");
                    count += 1;
                }
                count
            };
            // Each is polled when any is woken: what a program without an executor of its own would do.
            let mut readers: Vec<_> = (0..depth).map(|_| Some(Box::pin(reader()))).collect();
            let mut count = 0;
            let mut all = pin!(std::future::poll_fn(|cx| {
                for reader in &mut readers {
                    if let Some(future) = reader
                        && let Poll::Ready(done) = future.as_mut().poll(cx)
                    {
                        count += done;
                        *reader = None;
                    }
                }
                if readers.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
            }));
            all.as_mut().await;
            count
        }
        false => {
            let bell = Arc::new(Bell(tokio::sync::Notify::new()));
            let mut channel = session.channel(Waker::from(bell.clone()));
            let mut batch = Vec::new();
            for token in 0..depth as u64 {
                let buf = block::Buf::new(bytes).expect("memory");
                batch.push((token, lun, Command::new(&read(order.borrow_mut().next(), blocks)).into(buf, 0..bytes)));
            }
            channel.submit(&mut batch);
            let mut done = Vec::new();
            let mut count = 0u64;
            while Instant::now() < end {
                bell.0.notified().await;
                channel.take(&mut done);
                count += done.len() as u64;
                for (token, finished) in done.drain(..) {
                    finished.result.expect("a read");
                    let Data::Buf(buf, range) = finished.data_in else { unreachable!("it was a buffer") };
                    let cdb = read(order.borrow_mut().next(), blocks);
                    batch.push((token, lun, Command::new(&cdb).into(buf, range)));
                }
                channel.submit(&mut batch);
            }
            count
        }
    };
    let what = if has("futures") { "futures" } else { "channel" };
    tell(what, count, bytes, begun.elapsed(), processor_time() - before);
}
