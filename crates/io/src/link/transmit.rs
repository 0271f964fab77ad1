//! The sending half of [`Link`](super::Link): one batch, one system call.

use super::tap::{Direction, feed};
use super::{Core, Link, LinkError, Memory, Scratch};
use crate::crc32c::Crc32c;
use iscsi::session::{Digest, Segment, TxBatch};
use std::io::{ErrorKind, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// How much of a batch has left: whole segments, and bytes of the one behind them.
#[derive(Default)]
pub(super) struct Progress {
    segment: usize,
    bytes: usize,
}

impl Progress {
    /// The segment that is being sent.
    pub fn segment(&self) -> usize {
        self.segment
    }

    /// How much of it has left.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Pieces handed to one system call.
const PIECES: usize = 256;
/// Batches that a worker keeps warm.
const SPARE_BATCHES: usize = 4;

impl Link {
    /// Sends until the core has nothing more (`Ready`) or the socket is full (`Pending`).
    pub fn poll_transmit<C: Core, M: Memory>(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        core: &mut C,
        c: C::Connection,
        memory: &M,
        scratch: &mut Scratch,
    ) -> Poll<Result<(), LinkError>> {
        loop {
            if self.batch.is_none() {
                let mut batch = scratch.batches.pop().unwrap_or_default();
                core.poll_transmit(now, c, &mut batch);
                if batch.is_empty() {
                    spare(scratch, batch);
                    return Poll::Ready(Ok(()));
                }
                fill_digests(&mut batch, memory);
                self.sent = Progress::default();
                self.batch = Some(batch);
                self.sending_since = Some(now);
            }
            ready!(self.poll_write(cx, memory))?;
            self.sending_since = None;
            if let Some(mut batch) = self.batch.take() {
                core.transmitted(&batch);
                batch.clear();
                spare(scratch, batch);
            }
        }
    }

    /// Bytes of the batch that have not left.
    pub(super) fn unsent_bytes(&self) -> usize {
        let Some(batch) = &self.batch else { return 0 };
        let left: usize = batch.segments.iter().skip(self.sent.segment).map(length_of).sum();
        left.saturating_sub(self.sent.bytes)
    }

    /// Writes the batch. Ready when all of it has left.
    fn poll_write<M: Memory>(&mut self, cx: &mut Context<'_>, memory: &M) -> Poll<Result<(), LinkError>> {
        let Some(batch) = &self.batch else { return Poll::Ready(Ok(())) };
        while self.sent.segment < batch.segments.len() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            let segments = &batch.segments[self.sent.segment..];
            for (at, segment) in segments.iter().take(PIECES).enumerate() {
                let bytes = bytes_of(segment, batch, memory);
                pieces[at] = IoSlice::new(if at == 0 { &bytes[self.sent.bytes..] } else { bytes });
                count += 1;
            }
            let written = match self.stream.try_write_vectored(&pieces[..count]) {
                Ok(0) => return Poll::Ready(Err(LinkError::Closed)),
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(cx))?;
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            self.counters.sent_bytes += written as u64;
            self.counters.writes += 1;
            if !self.taps.is_empty() {
                let mut passed = written;
                for piece in &pieces[..count] {
                    let here = piece.len().min(passed);
                    feed(&mut self.taps, Direction::Sent, &piece[..here]);
                    passed -= here;
                }
            }
            let mut left = written + self.sent.bytes;
            self.sent.bytes = 0;
            for segment in segments {
                let length = length_of(segment);
                if left < length {
                    self.sent.bytes = left;
                    break;
                }
                left -= length;
                self.sent.segment += 1;
                if left == 0 {
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn spare(scratch: &mut Scratch, batch: TxBatch) {
    if scratch.batches.len() < SPARE_BATCHES {
        scratch.batches.push(batch);
    }
}

fn length_of(segment: &Segment) -> usize {
    match segment {
        Segment::Arena(range) => range.len(),
        Segment::Payload { length, .. } => *length as usize,
    }
}

pub(super) fn bytes_of<'a, M: Memory>(segment: &Segment, batch: &'a TxBatch, memory: &'a M) -> &'a [u8] {
    match segment {
        Segment::Arena(range) => &batch.arena[range.clone()],
        Segment::Payload { task, offset, length } => {
            let bytes = memory.payload(*task, *offset, *length);
            // The stream would lose its frame: better none than a wrong one.
            assert_eq!(bytes.len(), *length as usize, "a task's memory went before its batch");
            bytes
        }
    }
}

pub(super) fn fill_digests<M: Memory>(batch: &mut TxBatch, memory: &M) {
    for at in 0..batch.digests.len() {
        let (crc, place) = match &batch.digests[at] {
            Digest::Arena { over, at } => (Crc32c::over(&batch.arena[over.clone()]), *at),
            Digest::Payload { task, offset, length, padding, at } => {
                let mut crc = Crc32c::new();
                crc.update(memory.payload(*task, *offset, *length));
                crc.update(&[0; 3][..*padding as usize]);
                (crc.finish(), *at)
            }
        };
        batch.arena[place..place + 4].copy_from_slice(&crc.to_le_bytes());
    }
}
