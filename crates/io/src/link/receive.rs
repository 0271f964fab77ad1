//! The receiving half of [`Link`](super::Link): one read, then all that it brought.

use super::tap::{Direction, feed};
use super::{Core, DIRECT_BYTES, LARGE_BYTES, Link, LinkError, Memory, Placement, SHORT_STAGING_BYTES, Scratch};
use crate::crc32c::Crc32c;
use iscsi::session::{Incoming, Place, Sorted};
use iscsi::wire::{BHS_BYTES, header_bytes};
use std::io::{ErrorKind, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, ReadBuf};

/// Where the stream stands.
pub(super) enum Reading {
    /// At a header.
    Header,
    /// In a data segment.
    Data { incoming: Incoming, done: u32, crc: Crc32c },
    /// Behind a data segment: padding and digest.
    Trailer { incoming: Incoming, crc: Crc32c },
    /// Behind a header that is kept for another process: bytes that are kept with it.
    Kept { missing: usize },
}

/// What a call of [`Link::poll_receive`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Something was read and parsed; there may be more.
    Some,
    /// A task has no memory for what comes next.
    WaitsForMemory,
}

impl Link {
    /// Reads once and parses all of it. `Pending` when the socket is empty.
    pub fn poll_receive<C: Core, M: Memory>(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        core: &mut C,
        c: C::Connection,
        memory: &mut M,
        scratch: &mut Scratch,
    ) -> Poll<Result<Received, LinkError>> {
        if self.is_stuck() {
            return Poll::Ready(Ok(Received::WaitsForMemory));
        }
        let staging = &mut scratch.staging;
        // What waited for memory or stood behind the login is parsed before more is read.
        let kept = self.leftover.len();
        if kept > 0 {
            let whole = self.parse_kept(now, core, c, memory)?;
            if !whole {
                return Poll::Ready(Ok(Received::WaitsForMemory));
            }
            if self.leftover.len() != kept {
                return Poll::Ready(Ok(Received::Some));
            }
        }
        let direct = match &self.reading {
            Reading::Data { incoming, done, .. } if self.leftover.is_empty() => {
                ((incoming.length - done) as usize >= DIRECT_BYTES).then_some((*incoming, *done))
            }
            _ => None,
        };
        if let Some((Incoming { place: Place::Task { task, offset }, length, .. }, done)) = direct
            && let Some(expected) = core.expected_bytes(task)
        {
            return match memory.place(task, expected, offset + done, length - done) {
                Placement::Here(place) => {
                    let missing = place.len();
                    if C::STREAMS {
                        self.low_water.expect(&self.stream, missing);
                    }
                    ready!(self.stream.poll_read_ready(cx))?;
                    let short = C::STREAMS && length >= LARGE_BYTES;
                    let staging = if short { &mut staging[..SHORT_STAGING_BYTES] } else { &mut staging[..] };
                    let read =
                        self.stream.try_read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(&mut staging[..])]);
                    let count = match read {
                        Ok(0) => return Poll::Ready(Err(LinkError::Closed)),
                        Ok(count) => count,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            // Readiness was stale: register again.
                            ready!(self.stream.poll_read_ready(cx))?;
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    self.counters.received_bytes += count as u64;
                    self.counters.reads += 1;
                    let landed = count.min(missing);
                    if let Reading::Data { incoming, done, crc } = &mut self.reading {
                        if incoming.digest
                            && let Placement::Here(place) = memory.place(task, expected, offset + *done, landed as u32)
                        {
                            crc.update(place);
                        }
                        *done += landed as u32;
                    }
                    let staged = &staging[..count - landed];
                    if !self.taps.is_empty() {
                        let from = offset + done;
                        if let Placement::Here(place) = memory.place(task, expected, from, landed as u32) {
                            feed(&mut self.taps, Direction::Received, place);
                        }
                        feed(&mut self.taps, Direction::Received, staged);
                    }
                    self.parse_staged(now, core, c, memory, staged)
                }
                Placement::Gone => self.read_staged(cx, now, core, c, memory, staging),
                Placement::Wait => Poll::Ready(Ok(Received::WaitsForMemory)),
            };
        }
        self.read_staged(cx, now, core, c, memory, staging)
    }

    fn read_staged<C: Core, M: Memory>(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        core: &mut C,
        c: C::Connection,
        memory: &mut M,
        staging: &mut [u8],
    ) -> Poll<Result<Received, LinkError>> {
        let kept = self.leftover.len();
        let staging = match self.large && kept == 0 {
            true => &mut staging[..SHORT_STAGING_BYTES],
            false => staging,
        };
        if C::STREAMS {
            self.low_water.expect(&self.stream, 1);
        }
        staging[..kept].copy_from_slice(&self.leftover);
        let mut buffer = ReadBuf::new(&mut staging[kept..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            return Poll::Ready(Err(LinkError::Closed));
        }
        self.counters.received_bytes += count as u64;
        self.counters.reads += 1;
        self.leftover.clear();
        if !self.taps.is_empty() {
            feed(&mut self.taps, Direction::Received, &staging[kept..kept + count]);
        }
        self.parse_staged(now, core, c, memory, &staging[..kept + count])
    }

    /// Parses staged bytes and keeps what cannot be parsed yet. `leftover` is empty.
    fn parse_staged<C: Core, M: Memory>(
        &mut self,
        now: Instant,
        core: &mut C,
        c: C::Connection,
        memory: &mut M,
        staged: &[u8],
    ) -> Poll<Result<Received, LinkError>> {
        let (used, waits) = self.parse(now, core, c, memory, staged)?;
        self.leftover.extend_from_slice(&staged[used..]);
        Poll::Ready(Ok(if waits { Received::WaitsForMemory } else { Received::Some }))
    }

    /// Parses `leftover` again. False: it still waits for memory.
    fn parse_kept<C: Core, M: Memory>(
        &mut self,
        now: Instant,
        core: &mut C,
        c: C::Connection,
        memory: &mut M,
    ) -> Result<bool, LinkError> {
        let mut kept = std::mem::take(&mut self.leftover);
        let (used, waits) = self.parse(now, core, c, memory, &kept)?;
        kept.drain(..used);
        if kept.is_empty() && kept.capacity() > 4096 {
            kept = Vec::new();
        }
        self.leftover = kept;
        Ok(!waits)
    }

    /// Returns how many bytes were used, and whether the rest waits for memory.
    fn parse<C: Core, M: Memory>(
        &mut self,
        now: Instant,
        core: &mut C,
        c: C::Connection,
        memory: &mut M,
        bytes: &[u8],
    ) -> Result<(usize, bool), LinkError> {
        let mut rest = bytes;
        loop {
            match &mut self.reading {
                Reading::Header => {
                    let Some(first) = rest.first_chunk::<BHS_BYTES>() else { break };
                    let total = core.header_bytes(c, first);
                    let Some(whole) = rest.get(..total) else { break };
                    let plain = header_bytes(first, false);
                    let (header, digest) = whole.split_at(plain);
                    let digest_ok = digest.is_empty() || digest == Crc32c::over(header).to_le_bytes();
                    if let Some(holding) = &mut self.holding {
                        // What is damaged is not even looked at.
                        let sorted = if digest_ok { core.sort(now, c, first) } else { Sorted::Unclear };
                        match holding.sort(sorted, whole) {
                            None => {}
                            Some(None) => return Ok((bytes.len() - rest.len(), true)),
                            Some(Some(missing)) => {
                                rest = &rest[total..];
                                self.reading = Reading::Kept { missing };
                                continue;
                            }
                        }
                    }
                    let incoming = core.handle_header(now, c, header, digest_ok)?;
                    rest = &rest[total..];
                    if incoming.length > 0 {
                        self.large = C::STREAMS && incoming.length >= LARGE_BYTES;
                        self.reading = Reading::Data { incoming, done: 0, crc: Crc32c::new() };
                    }
                }
                Reading::Kept { missing } => {
                    let (chunk, behind) = rest.split_at(rest.len().min(*missing));
                    *missing -= chunk.len();
                    let whole = *missing == 0;
                    if let Some(holding) = &mut self.holding {
                        holding.keep(chunk);
                    }
                    rest = behind;
                    if !whole {
                        break;
                    }
                    self.reading = Reading::Header;
                }
                Reading::Data { incoming, done, crc } => {
                    let missing = incoming.length - *done;
                    if missing == 0 {
                        self.reading = Reading::Trailer { incoming: *incoming, crc: crc.clone() };
                        continue;
                    }
                    let count = rest.len().min(missing as usize);
                    if count == 0 {
                        break;
                    }
                    let (chunk, behind) = rest.split_at(count);
                    match incoming.place {
                        Place::Task { task, offset } => {
                            if let Some(expected) = core.expected_bytes(task) {
                                match memory.place(task, expected, offset + *done, count as u32) {
                                    Placement::Here(place) => place.copy_from_slice(chunk),
                                    Placement::Gone => {}
                                    Placement::Wait => return Ok((bytes.len() - rest.len(), true)),
                                }
                            }
                        }
                        Place::Arena => core.collect(c, chunk),
                        Place::Discard => {}
                    }
                    if incoming.digest {
                        crc.update(chunk);
                    }
                    *done += count as u32;
                    rest = behind;
                }
                Reading::Trailer { incoming, crc } => {
                    let padding = incoming.padding as usize;
                    let length = padding + if incoming.digest { 4 } else { 0 };
                    let Some(trailer) = rest.get(..length) else { break };
                    let (padding, digest) = trailer.split_at(padding);
                    let digest_ok = digest.is_empty() || {
                        crc.update(padding);
                        digest == crc.finish().to_le_bytes()
                    };
                    rest = &rest[length..];
                    self.reading = Reading::Header;
                    core.handle_data_end(c, digest_ok)?;
                }
            }
        }
        Ok((bytes.len() - rest.len(), false))
    }
}
