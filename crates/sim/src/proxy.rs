//! A TCP proxy that does to a connection what bad networks do: cut, reset, stall, split, corrupt
//! (reliability.md F05 to F08), at places that the test names.

use crate::random::Random;
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the initiator to the target.
    ToTarget,
    /// From the target to the initiator.
    ToInitiator,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Both sides see the end of the stream (FIN).
    Close,
    /// The receiving side sees the end of the stream; the other direction goes on.
    HalfClose,
    /// Both sides see a reset (RST).
    Reset,
    /// Nothing passes in this direction for so long.
    Stall(Duration),
    /// One bit of the byte is turned.
    Flip(u8),
}

/// Something that happens once, before the byte at `at` passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The direction whose bytes are counted.
    pub direction: Direction,
    /// How many bytes pass before it.
    pub at: u64,
    /// What happens.
    pub action: Action,
}

/// What becomes of one connection.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In any order.
    pub faults: Vec<Fault>,
    /// Passes pieces of random sizes up to this; 0: as they come.
    pub piece_bytes: usize,
    /// Waits up to this long before a piece.
    pub delay: Duration,
    /// For sizes and delays.
    pub seed: u64,
}

impl Plan {
    /// One fault and nothing else.
    pub fn fault(direction: Direction, at: u64, action: Action) -> Plan {
        Plan { faults: vec![Fault { direction, at, action }], ..Plan::default() }
    }
}

/// A running proxy. Its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 2]>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Before this target. The n-th connection gets the n-th plan, those behind them none.
    pub fn start(target: SocketAddr, plans: Vec<Plan>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&counts));
        let acceptor = std::thread::spawn(move || {
            let next = AtomicUsize::new(0);
            while let Ok((initiator, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(upstream) = TcpStream::connect(target) else { continue };
                let plan = plans.get(next.fetch_add(1, Ordering::SeqCst)).cloned().unwrap_or_default();
                let (Ok(from), Ok(to)) = (initiator.try_clone(), upstream.try_clone()) else { continue };
                relay(Direction::ToTarget, plan.clone(), from, to, &stopped, &counted);
                relay(Direction::ToInitiator, plan, upstream, initiator, &stopped, &counted);
            }
        });
        Proxy { address, stop, counts, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that passed this way on all connections together.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.counts[direction as usize].load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The acceptor looks at `stop` when it is woken by a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn relay(
    direction: Direction,
    plan: Plan,
    mut from: TcpStream,
    mut to: TcpStream,
    stop: &Arc<AtomicBool>,
    counts: &Arc<[AtomicU64; 2]>,
) {
    let (stop, counts) = (Arc::clone(stop), Arc::clone(counts));
    std::thread::spawn(move || {
        let _ = to.set_nodelay(true);
        // So that a thread whose peers stay open sees the end of the proxy.
        let _ = from.set_read_timeout(Some(Duration::from_millis(200)));
        let mut random = Random::new(plan.seed ^ direction as u64);
        let mut faults: Vec<Fault> = plan.faults.into_iter().filter(|fault| fault.direction == direction).collect();
        faults.sort_by_key(|fault| fault.at);
        let mut faults = faults.into_iter().peekable();
        let mut passed = 0u64;
        let mut bytes = [0; 64 << 10];
        loop {
            // A fault may be due before any byte.
            while let Some(fault) =
                faults.next_if(|fault| fault.at <= passed && !matches!(fault.action, Action::Flip(_)))
            {
                if !strike(fault.action, &from, &to) {
                    return;
                }
            }
            let mut limit = bytes.len();
            if plan.piece_bytes > 0 {
                limit = limit.min(1 + random.size(plan.piece_bytes));
            }
            if let Some(fault) = faults.peek() {
                limit = limit.min(((fault.at - passed).max(1)) as usize);
            }
            let count = match from.read(&mut bytes[..limit]) {
                Ok(0) => {
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(count) => count,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if stop.load(Ordering::SeqCst) {
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                        return;
                    }
                    continue;
                }
                Err(_) => {
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            };
            if let Some(fault) = faults.next_if(|fault| matches!(fault.action, Action::Flip(_)) && fault.at == passed)
                && let Action::Flip(bit) = fault.action
            {
                bytes[0] ^= 1 << (bit & 7);
            }
            if !plan.delay.is_zero() {
                std::thread::sleep(plan.delay * random.below(1000) as u32 / 1000);
            }
            passed += count as u64;
            // Counted first: whoever has received bytes finds them counted.
            counts[direction as usize].fetch_add(count as u64, Ordering::SeqCst);
            if to.write_all(&bytes[..count]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    });
}

/// False: the connection is over in this direction.
fn strike(action: Action, from: &TcpStream, to: &TcpStream) -> bool {
    match action {
        Action::Stall(time) => {
            std::thread::sleep(time);
            return true;
        }
        Action::Flip(_) => return true,
        Action::HalfClose => {
            let _ = to.shutdown(Shutdown::Write);
        }
        Action::Close => {
            let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
        }
        Action::Reset => {
            for stream in [from, to] {
                // With lingering off for no time at all the kernel resets instead of finishing; the
                // other thread's clones go when the shutdown wakes it.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            let _ = (to.shutdown(Shutdown::Read), from.shutdown(Shutdown::Read));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that says back what it hears.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn say(proxy: &Proxy, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(bytes)?;
        let mut heard = vec![0; bytes.len()];
        let mut at = 0;
        while at < heard.len() {
            match stream.read(&mut heard[at..])? {
                0 => break,
                count => at += count,
            }
        }
        heard.truncate(at);
        Ok(heard)
    }

    #[test]
    fn it_cuts_splits_and_turns_bits_where_it_was_told() {
        let target = echo();
        let plans = vec![
            Plan::fault(Direction::ToInitiator, 3, Action::Close),
            Plan::fault(Direction::ToTarget, 2, Action::Flip(0)),
            Plan { piece_bytes: 2, seed: 7, ..Plan::default() },
            Plan::fault(Direction::ToInitiator, 4, Action::Reset),
        ];
        let proxy = Proxy::start(target, plans);
        assert_eq!(say(&proxy, b"abcdef").unwrap(), b"abc");
        assert_eq!(say(&proxy, b"abcdef").unwrap(), b"abbdef");
        assert_eq!(say(&proxy, b"abcdef").unwrap(), b"abcdef");
        assert!(say(&proxy, b"abcdef").map_or(true, |heard| heard.len() <= 4));
        assert_eq!(say(&proxy, b"abcdef").unwrap(), b"abcdef", "no plan is left");
        assert!(proxy.passed(Direction::ToTarget) >= 24);
    }
}
