//! A link that goes over to another process: what comes is sorted, what belongs to nothing under way is kept as
//! it came, and what is half sent becomes plain bytes, so that both can be handed over with the socket.

use super::receive::Reading;
use super::transmit::{Progress, bytes_of, fill_digests};
use super::{Core, Link, LinkCounters, Memory};
use iscsi::session::{Segment, Sorted, TxBatch};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use tokio::net::TcpStream;

/// Bytes that are kept of one connection; behind them nothing more is read.
const KEPT_BYTES: usize = 32 << 20;

/// What is kept for who goes on with the stream.
#[derive(Default)]
pub(super) struct Holding {
    bytes: Vec<u8>,
    /// Nothing more is parsed: the rest is kept by not being read.
    stuck: bool,
}

/// What is left of a link at rest, beside its socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkAtRest {
    /// Bytes that were read and not handled.
    pub unread: Vec<u8>,
    /// Bytes that are still to be sent before anything else.
    pub unsent: Vec<u8>,
    /// Bytes received so far.
    pub received_bytes: u64,
    /// Bytes sent so far.
    pub sent_bytes: u64,
}

impl Holding {
    /// Takes a header with what its core says of it. `None`: it is to be handled. Else how many bytes behind it
    /// are to be kept as well, where that can be told.
    pub fn sort(&mut self, sorted: Sorted, header: &[u8]) -> Option<Option<usize>> {
        match sorted {
            Sorted::Now => None,
            Sorted::Later { behind } if self.bytes.len() + header.len() + behind <= KEPT_BYTES => {
                self.bytes.extend_from_slice(header);
                Some(Some(behind))
            }
            // A header that is not to be trusted is judged by who handles it.
            _ => {
                self.stuck = true;
                Some(None)
            }
        }
    }

    /// Bytes behind such a header.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

impl Link {
    /// From now on what comes is sorted by the core ([`Core::sort`]).
    pub fn hold(&mut self) {
        self.holding.get_or_insert_default();
    }

    /// What was kept is handled after all.
    pub fn release(&mut self) {
        if let Some(holding) = self.holding.take() {
            let mut bytes = holding.bytes;
            bytes.append(&mut self.leftover);
            self.leftover = bytes;
            if let Reading::Kept { .. } = self.reading {
                self.reading = Reading::Header;
            }
        }
    }

    /// Whether nothing more is parsed.
    pub(super) fn is_stuck(&self) -> bool {
        self.holding.as_ref().is_some_and(|holding| holding.stuck)
    }

    /// Makes plain bytes of all that is to be sent, so that the tasks behind it can end. For who does not read.
    pub fn settle<C: Core, M: Memory>(&mut self, now: Instant, core: &mut C, c: C::Connection, memory: &M) {
        let Some(batch) = &self.batch else { return };
        let is_plain = batch.segments.iter().all(|segment| matches!(segment, Segment::Arena(_)));
        let mut more = Vec::new();
        loop {
            let mut batch = TxBatch::default();
            core.poll_transmit(now, c, &mut batch);
            if batch.is_empty() {
                break;
            }
            fill_digests(&mut batch, memory);
            for segment in &batch.segments {
                more.extend_from_slice(bytes_of(segment, &batch, memory));
            }
            core.transmitted(&batch);
        }
        // Half sent headers stay as they are where nothing ends with them.
        if is_plain && more.is_empty() && !batch.names_tasks() {
            return;
        }
        let mut plain = self.unsent(memory);
        plain.append(&mut more);
        if let Some(batch) = self.batch.take() {
            core.transmitted(&batch);
        }
        self.sent = Progress::default();
        self.batch = Some(TxBatch::plain(plain));
    }

    fn unsent<M: Memory>(&self, memory: &M) -> Vec<u8> {
        let Some(batch) = &self.batch else { return Vec::new() };
        let mut bytes = Vec::new();
        for segment in batch.segments.iter().skip(self.sent.segment()) {
            bytes.extend_from_slice(bytes_of(segment, batch, memory));
        }
        bytes.drain(..self.sent.bytes().min(bytes.len()));
        bytes
    }

    /// The socket once more, and what is left of the link. The core is at rest.
    pub fn at_rest<M: Memory>(&self, memory: &M) -> std::io::Result<(OwnedFd, LinkAtRest)> {
        let socket = self.stream.as_fd().try_clone_to_owned()?;
        let mut unread = self.holding.as_ref().map(|holding| holding.bytes.clone()).unwrap_or_default();
        unread.extend_from_slice(&self.leftover);
        let LinkCounters { received_bytes, sent_bytes, .. } = self.counters;
        Ok((socket, LinkAtRest { unread, unsent: self.unsent(memory), received_bytes, sent_bytes }))
    }

    /// A link that was at rest, over its socket.
    pub fn revive(stream: TcpStream, rest: LinkAtRest) -> Link {
        let LinkAtRest { unread, unsent, received_bytes, sent_bytes } = rest;
        let mut link = Link::new(stream, unread);
        link.counters = LinkCounters { received_bytes, sent_bytes, ..LinkCounters::default() };
        if !unsent.is_empty() {
            // An initiator that does not read it has as long for it as for anything.
            link.sending_since = Some(Instant::now());
            link.batch = Some(TxBatch::plain(unsent));
        }
        link
    }
}
