//! How much has to come before a reader is woken (SO_RCVLOWAT): a large data segment is not worth a wake-up for
//! every piece of it.

use std::os::fd::AsRawFd;
use tokio::net::TcpStream;

/// The most bytes that are waited for at once: the sender must not find the window shut meanwhile.
const MOST: usize = 256 << 10;
/// Fewer are not worth the call.
const LEAST: usize = 64 << 10;

/// The mark as it stands at a socket.
#[derive(Debug, Default)]
pub(super) struct LowWater {
    /// 0: as the socket came.
    set: usize,
}

impl LowWater {
    /// So many bytes are sure to come: the reader is woken when most of them are there. A system that refuses
    /// wakes it earlier, and no harm is done.
    pub fn expect(&mut self, stream: &TcpStream, missing: usize) {
        let mark = match missing {
            0..LEAST => 1,
            // In steps, so that it is set seldom.
            _ => 1 << missing.min(MOST).ilog2(),
        };
        if mark != self.set.max(1) {
            set(stream, mark);
            self.set = mark;
        }
    }
}

fn set(stream: &TcpStream, bytes: usize) {
    let value = bytes as libc::c_int;
    // SAFETY: the descriptor is open as long as the stream is borrowed; the kernel reads `size_of::<c_int>()` bytes
    // of `value`, which lives on this frame, and keeps no pointer to it.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}
