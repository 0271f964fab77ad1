//! A portal that can be cut and put back: a relay before the target.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// They pass.
    Pass,
    /// Connections end, and new ones end at once.
    Cut,
    /// Nothing passes and nobody is told: a cable that was pulled. What has come passes when it is put back.
    Hold,
    /// The same, of what the target says alone: what it is told still arrives.
    HoldAnswers,
    /// What came before [`Mode::Hold`] was set passes late; connections made since are held still.
    HoldNew,
}

/// A relay, until the test's process ends.
pub struct Switch {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    /// How often it was set to hold.
    holds: Arc<AtomicU64>,
    to_target: Arc<AtomicU64>,
}

impl Switch {
    /// Before this portal.
    pub fn before(portal: SocketAddr) -> Switch {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(Mode::Pass as u8));
        let to_target = Arc::new(AtomicU64::new(0));
        let holds = Arc::new(AtomicU64::new(0));
        let (watched, counted, holding) = (Arc::clone(&mode), Arc::clone(&to_target), Arc::clone(&holds));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if watched.load(Ordering::SeqCst) == Mode::Cut as u8 {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(portal) else { continue };
                let (from, to) = (connection.try_clone().unwrap(), upstream.try_clone().unwrap());
                let age = holding.load(Ordering::SeqCst);
                let (holds, mode) = (Arc::clone(&holding), Arc::clone(&watched));
                let is_held = move |to_target: bool| match mode.load(Ordering::SeqCst) {
                    held if held == Mode::Hold as u8 => true,
                    held if held == Mode::HoldAnswers as u8 => !to_target,
                    held if held == Mode::HoldNew as u8 => holds.load(Ordering::SeqCst) == age,
                    _ => false,
                };
                relay(from, to, true, is_held.clone(), Arc::clone(&watched), Arc::clone(&counted));
                relay(upstream, connection, false, is_held, Arc::clone(&watched), Arc::default());
            }
        });
        Switch { address, mode, holds, to_target }
    }

    /// Where the relay listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        if mode == Mode::Hold {
            self.holds.fetch_add(1, Ordering::SeqCst);
        }
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Bytes that went to the target.
    pub fn to_target(&self) -> u64 {
        self.to_target.load(Ordering::SeqCst)
    }
}

fn relay(
    mut from: TcpStream,
    mut to: TcpStream,
    to_target: bool,
    is_held: impl Fn(bool) -> bool + Send + 'static,
    mode: Arc<AtomicU8>,
    count: Arc<AtomicU64>,
) {
    std::thread::spawn(move || {
        let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = to.set_nodelay(true);
        let mut bytes = [0; 64 << 10];
        loop {
            while is_held(to_target) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if mode.load(Ordering::SeqCst) == Mode::Cut as u8 {
                break;
            }
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => {
                    while is_held(to_target) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    if to.write_all(&bytes[..length]).is_err() {
                        break;
                    }
                    count.fetch_add(length as u64, Ordering::SeqCst);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
