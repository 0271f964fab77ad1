//! The driver between one socket and one protocol core: the only reader and writer of PDU streams.
//!
//! It reads once, parses everything that came, and says where each payload belongs by asking the
//! core; it owns memory access, digests and system calls, the core owns none of them. What it holds
//! for an idle connection is a few hundred bytes: staging memory and batches belong to the worker
//! and are lent ([`Scratch`]).
//!
//! Policy, with its reasons (ARCHITECTURE.md, the data plane): payload that is already staged is
//! copied to its place (cheap, and warm for the digest); once [`DIRECT_BYTES`] or more of a data
//! segment are missing, the next read lands in the place itself, with staging behind it for the
//! headers that follow.

mod hold;
mod low_water;
mod receive;
pub mod tap;
mod transmit;

pub use hold::LinkAtRest;
pub use receive::Received;

use iscsi::initiator;
use iscsi::session::{self, ConnectionError, Incoming, Sorted, TaskId, TxBatch};
use iscsi::wire::BHS_BYTES;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// From this many missing bytes on, a data segment is read straight into its place.
pub const DIRECT_BYTES: usize = 16 << 10;
/// Bytes of the staging memory of a worker.
pub const STAGING_BYTES: usize = 256 << 10;
/// Bytes that are staged behind a large data segment, and before the next one.
const SHORT_STAGING_BYTES: usize = 4 << 10;
/// From this length on a data segment is large.
const LARGE_BYTES: u32 = 64 << 10;
/// Bytes of [`Scratch::small`].
const SMALL_STAGING_BYTES: usize = 16 << 10;

/// The protocol core of one connection's session, whichever role it has.
pub trait Core {
    /// A connection of the session.
    type Connection: Copy;
    /// Whether large data segments come one after the other, so that waiting for much of one at once pays.
    const STREAMS: bool;
    /// How long the header segments are, digest included, told from the first 48 bytes.
    fn header_bytes(&self, c: Self::Connection, first: &[u8; BHS_BYTES]) -> usize;
    /// Takes a header; answers where its data belongs.
    fn handle_header(
        &mut self,
        now: Instant,
        c: Self::Connection,
        header: &[u8],
        digest_ok: bool,
    ) -> Result<Incoming, ConnectionError>;
    /// Bytes of a data segment that the core keeps itself.
    fn collect(&mut self, c: Self::Connection, bytes: &[u8]);
    /// The data segment is complete.
    fn handle_data_end(&mut self, c: Self::Connection, digest_ok: bool) -> Result<(), ConnectionError>;
    /// Bytes that the task may receive in all; `None` when it has ended.
    fn expected_bytes(&self, task: TaskId) -> Option<u32>;
    /// Fills a batch.
    fn poll_transmit(&mut self, now: Instant, c: Self::Connection, out: &mut TxBatch);
    /// A batch has left.
    fn transmitted(&mut self, batch: &TxBatch);
    /// What becomes of the PDU that begins like this, on a link that goes over to another process.
    fn sort(&mut self, _: Instant, _: Self::Connection, _: &[u8; BHS_BYTES]) -> Sorted {
        Sorted::Now
    }
}

impl Core for session::Session {
    type Connection = session::ConnectionId;
    const STREAMS: bool = false;

    fn header_bytes(&self, c: session::ConnectionId, first: &[u8; BHS_BYTES]) -> usize {
        session::Session::header_bytes(self, c, first)
    }

    fn handle_header(
        &mut self,
        now: Instant,
        c: session::ConnectionId,
        header: &[u8],
        digest_ok: bool,
    ) -> Result<Incoming, ConnectionError> {
        session::Session::handle_header(self, now, c, header, digest_ok)
    }

    fn collect(&mut self, c: session::ConnectionId, bytes: &[u8]) {
        session::Session::collect(self, c, bytes);
    }

    fn handle_data_end(&mut self, c: session::ConnectionId, digest_ok: bool) -> Result<(), ConnectionError> {
        session::Session::handle_data_end(self, c, digest_ok)
    }

    fn expected_bytes(&self, task: TaskId) -> Option<u32> {
        self.task(task).map(|task| task.expected_out())
    }

    fn poll_transmit(&mut self, _: Instant, c: session::ConnectionId, out: &mut TxBatch) {
        session::Session::poll_transmit(self, c, out);
    }

    fn transmitted(&mut self, batch: &TxBatch) {
        session::Session::transmitted(self, batch);
    }

    fn sort(&mut self, now: Instant, c: session::ConnectionId, first: &[u8; BHS_BYTES]) -> Sorted {
        session::Session::sort(self, now, c, first)
    }
}

impl Core for initiator::Session {
    type Connection = initiator::ConnectionId;
    const STREAMS: bool = true;

    fn header_bytes(&self, c: initiator::ConnectionId, first: &[u8; BHS_BYTES]) -> usize {
        initiator::Session::header_bytes(self, c, first)
    }

    fn handle_header(
        &mut self,
        now: Instant,
        c: initiator::ConnectionId,
        header: &[u8],
        digest_ok: bool,
    ) -> Result<Incoming, ConnectionError> {
        initiator::Session::handle_header(self, now, c, header, digest_ok)
    }

    fn collect(&mut self, c: initiator::ConnectionId, bytes: &[u8]) {
        initiator::Session::collect(self, c, bytes);
    }

    fn handle_data_end(&mut self, c: initiator::ConnectionId, digest_ok: bool) -> Result<(), ConnectionError> {
        initiator::Session::handle_data_end(self, c, digest_ok)
    }

    fn expected_bytes(&self, task: TaskId) -> Option<u32> {
        self.expected_in(task)
    }

    fn poll_transmit(&mut self, now: Instant, c: initiator::ConnectionId, out: &mut TxBatch) {
        initiator::Session::poll_transmit(self, now, c, out);
    }

    fn transmitted(&mut self, batch: &TxBatch) {
        initiator::Session::transmitted(self, batch);
    }
}

/// Where bytes of a task go.
pub enum Placement<'a> {
    /// Here: as many bytes as were asked for.
    Here(&'a mut [u8]),
    /// Nowhere any more: they are read and forgotten.
    Gone,
    /// There is no memory now. The stream waits; [`Link::poll_receive`] is called again later.
    Wait,
}

/// The tasks' memory, in the hands of the application.
pub trait Memory {
    /// Memory for `length` bytes at `offset` of the task's data, which may grow to `expected` bytes.
    fn place(&mut self, task: TaskId, expected: u32, offset: u32, length: u32) -> Placement<'_>;
    /// `length` bytes at `offset` of the task's data, to be sent. Empty when it is not there, which
    /// is a defect of the application.
    fn payload(&self, task: TaskId, offset: u32, length: u32) -> &[u8];
}

/// That of a session which carries text alone: it has no tasks.
pub struct NoMemory;

impl Memory for NoMemory {
    fn place(&mut self, _: TaskId, _: u32, _: u32, _: u32) -> Placement<'_> {
        Placement::Gone
    }

    fn payload(&self, _: TaskId, _: u32, _: u32) -> &[u8] {
        &[]
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// The network did.
    #[error("{0}")]
    Network(#[from] std::io::Error),
    /// The protocol did.
    #[error("{0}")]
    Protocol(#[from] ConnectionError),
}

/// What a worker lends to whichever connection is at work.
pub struct Scratch {
    staging: Box<[u8]>,
    batches: Vec<TxBatch>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { staging: vec![0; STAGING_BYTES].into_boxed_slice(), batches: Vec::new() }
    }
}

impl Scratch {
    /// Less of it, for sessions that carry text alone.
    pub fn small() -> Scratch {
        Scratch { staging: vec![0; SMALL_STAGING_BYTES].into_boxed_slice(), batches: Vec::new() }
    }
}

/// Counters of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkCounters {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Reads that brought something.
    pub reads: u64,
    /// Writes that took something.
    pub writes: u64,
}

/// One connection's socket with what is half read and half written.
pub struct Link {
    stream: TcpStream,
    /// Bytes that could not be parsed yet: part of a header, or what stands behind a place that
    /// has no memory.
    leftover: Vec<u8>,
    reading: receive::Reading,
    batch: Option<TxBatch>,
    sent: transmit::Progress,
    /// Since when the batch is being sent.
    sending_since: Option<Instant>,
    counters: LinkCounters,
    low_water: low_water::LowWater,
    /// The last data segment was large: the next will be, and staging would only be copied.
    large: bool,
    /// Who watches what passes.
    taps: Vec<tap::Tap>,
    /// It goes over to another process.
    holding: Option<Box<hold::Holding>>,
}

impl Link {
    /// A link over a connected stream; `early` was read from it already.
    pub fn new(stream: TcpStream, early: Vec<u8>) -> Link {
        Link {
            stream,
            leftover: early,
            reading: receive::Reading::Header,
            batch: None,
            sent: transmit::Progress::default(),
            sending_since: None,
            counters: LinkCounters::default(),
            low_water: low_water::LowWater::default(),
            large: false,
            taps: Vec::new(),
            holding: None,
        }
    }

    /// Has what passes from the next PDUs on told to a watcher of this name, unless it is told already.
    pub fn watch(&mut self, name: u64, digests: tap::Digests, watcher: Box<dyn tap::Watcher>) {
        if self.taps.iter().any(|tap| tap.name == name) {
            return;
        }
        let digest = |there: bool| if there { 4 } else { 0 };
        let skip = match &self.reading {
            receive::Reading::Header => 0,
            receive::Reading::Data { incoming, done, .. } => {
                (incoming.length - done + incoming.padding) as usize + digest(incoming.digest)
            }
            receive::Reading::Trailer { incoming, .. } => incoming.padding as usize + digest(incoming.digest),
            receive::Reading::Kept { missing } => *missing,
        };
        // What was read and not parsed yet was not seen by anybody.
        let offset = self.counters.received_bytes.saturating_sub(self.leftover.len() as u64);
        let received = tap::Standing { offset, skip };
        let sent = tap::Standing { offset: self.counters.sent_bytes, skip: self.unsent_bytes() };
        let tap = tap::Tap::new(name, watcher, digests, received, sent);
        let mut one = vec![tap];
        tap::feed(&mut one, tap::Direction::Received, &self.leftover);
        self.taps.append(&mut one);
    }

    /// What went through it.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Since when the peer has been about to read what is half written.
    pub fn sending_since(&self) -> Option<Instant> {
        self.sending_since
    }

    /// The end of a connection on which something was said last: what was sent is read by the peer before
    /// the connection is gone. A close with unread bytes would reset it and take those words with it.
    pub async fn linger(mut self, time: Duration, scratch: &mut [u8]) {
        let drained = async {
            self.stream.shutdown().await?;
            while self.stream.read(scratch).await? > 0 {}
            std::io::Result::Ok(())
        };
        let _ = tokio::time::timeout(time, drained).await;
    }
}
