//! What goes over a link, told PDU by PDU to whoever watches: as it stood on the wire, digests included.
//!
//! A tap sees whole reads and writes and cuts them into PDUs by itself; a link without one pays a look at an empty
//! list for each system call. How much of a data segment is kept says the watcher when it has seen the header, so
//! that it can count and bound what it holds; the tap itself holds no more than one PDU for each direction.

use iscsi::wire::{BHS_BYTES, Header, header_bytes, padding};
use zerocopy::FromBytes;

/// Which way a PDU goes, as this end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// What a watcher says to a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The PDU is told with at most so many bytes of its data segment.
    Keep(usize),
    /// It is not told.
    Pass,
}

/// Whoever watches a link.
pub trait Watcher: Send {
    /// A PDU has begun. `header` is its header segments without their digest, `rest` the bytes behind them and
    /// their digest: data segment, padding, data digest.
    fn begins(&mut self, direction: Direction, header: &[u8], rest: usize) -> Wish;
    /// A PDU that was to be told has passed.
    fn passed(&mut self, passed: Passed);
    /// Whether nothing more is wanted: the tap is taken off.
    fn is_over(&self) -> bool;
}

/// A PDU that has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Which way it went.
    pub direction: Direction,
    /// Bytes that its direction had carried before it since the link began.
    pub offset: u64,
    /// Its bytes on the wire.
    pub length: u32,
    /// The first of them: all, or as many as were wanted.
    pub bytes: Vec<u8>,
}

/// Which digests the stream carries (RFC 7143 §13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// Of headers.
    pub header: bool,
    /// Of data segments.
    pub data: bool,
}

/// Cuts one direction of a stream into PDUs.
struct Cutter {
    direction: Direction,
    digests: Digests,
    /// Of the byte that comes next.
    offset: u64,
    /// Of the PDU that is under way.
    begin: u64,
    at: At,
    kept: Vec<u8>,
}

enum At {
    /// In the header segments, which are kept.
    Header,
    /// Behind them: so many bytes are to come, of which the first are kept.
    Rest { left: usize, keep: usize, told: bool },
}

impl Cutter {
    /// The first `skip` bytes belong to a PDU that has begun before, which is not told.
    fn new(direction: Direction, digests: Digests, offset: u64, skip: usize) -> Cutter {
        let at = if skip > 0 { At::Rest { left: skip, keep: 0, told: false } } else { At::Header };
        Cutter { direction, digests, offset, begin: offset, at, kept: Vec::new() }
    }

    fn feed(&mut self, mut bytes: &[u8], watcher: &mut dyn Watcher) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Header => {
                    let wanted = match self.kept.first_chunk::<BHS_BYTES>() {
                        None => BHS_BYTES,
                        Some(first) => header_bytes(first, self.digests.header),
                    };
                    let count = (wanted - self.kept.len()).min(bytes.len());
                    let (taken, behind) = bytes.split_at(count);
                    self.kept.extend_from_slice(taken);
                    self.offset += count as u64;
                    bytes = behind;
                    let whole = |first| header_bytes(first, self.digests.header) == self.kept.len();
                    if self.kept.first_chunk::<BHS_BYTES>().is_some_and(whole) {
                        self.header(watcher);
                    }
                }
                At::Rest { left, keep, .. } => {
                    let count = (*left).min(bytes.len());
                    let (taken, behind) = bytes.split_at(count);
                    let kept = (*keep).min(count);
                    self.kept.extend_from_slice(&taken[..kept]);
                    *keep -= kept;
                    *left -= count;
                    self.offset += count as u64;
                    bytes = behind;
                    if *left == 0 {
                        self.end(watcher);
                    }
                }
            }
        }
    }

    /// The header segments are whole.
    fn header(&mut self, watcher: &mut dyn Watcher) {
        let Ok((header, _)) = Header::ref_from_prefix(&self.kept) else { return };
        let data = header.data_segment_bytes();
        let trailer = if data == 0 { 0 } else { padding(data) as usize + if self.digests.data { 4 } else { 0 } };
        let left = data as usize + trailer;
        let plain = self.kept.len() - if self.digests.header { 4 } else { 0 };
        let wish = watcher.begins(self.direction, &self.kept[..plain], left);
        // Where the data segment is wanted whole, so is what closes it.
        let (keep, told) = match wish {
            Wish::Keep(most) if most >= data as usize => (left, true),
            Wish::Keep(most) => (most, true),
            Wish::Pass => (0, false),
        };
        self.at = At::Rest { left, keep, told };
        if left == 0 {
            self.end(watcher);
        }
    }

    fn end(&mut self, watcher: &mut dyn Watcher) {
        let told = matches!(std::mem::replace(&mut self.at, At::Header), At::Rest { told: true, .. });
        if told {
            let length = (self.offset - self.begin) as u32;
            let bytes = std::mem::take(&mut self.kept);
            watcher.passed(Passed { direction: self.direction, offset: self.begin, length, bytes });
        }
        self.kept.clear();
        self.begin = self.offset;
    }
}

/// A watcher with what it has not been told yet.
pub(super) struct Tap {
    /// Its name, so that it is put on once.
    pub name: u64,
    watcher: Box<dyn Watcher>,
    received: Cutter,
    sent: Cutter,
}

/// Where a direction of a stream stands: bytes that went before, and how many of the next ones belong to a PDU
/// that has begun.
pub(super) struct Standing {
    pub offset: u64,
    pub skip: usize,
}

impl Tap {
    pub fn new(name: u64, watcher: Box<dyn Watcher>, digests: Digests, received: Standing, sent: Standing) -> Tap {
        let cutter = |direction, at: Standing| Cutter::new(direction, digests, at.offset, at.skip);
        Tap { name, watcher, received: cutter(Direction::Received, received), sent: cutter(Direction::Sent, sent) }
    }

    fn feed(&mut self, direction: Direction, bytes: &[u8]) {
        let cutter = match direction {
            Direction::Received => &mut self.received,
            Direction::Sent => &mut self.sent,
        };
        cutter.feed(bytes, &mut *self.watcher);
    }
}

/// Tells all watchers of these bytes; who wants no more is sent away.
// Seldom called, and to be out of the way of reads and writes that nobody watches.
#[cold]
pub(super) fn feed(taps: &mut Vec<Tap>, direction: Direction, bytes: &[u8]) {
    taps.retain_mut(|tap| {
        let goes_on = !tap.watcher.is_over();
        if goes_on {
            tap.feed(direction, bytes);
        }
        goes_on
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use iscsi::wire::{DataOut, NopOut, Pdu};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Passed>>>, usize);

    impl Watcher for Seen {
        fn begins(&mut self, _: Direction, header: &[u8], _: usize) -> Wish {
            match header[0] & 0x3f {
                0x05 => Wish::Keep(self.1),
                _ if header.len() == BHS_BYTES => Wish::Keep(usize::MAX),
                _ => Wish::Pass,
            }
        }

        fn passed(&mut self, passed: Passed) {
            self.0.lock().unwrap().push(passed);
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    fn pdu(mut header: impl Pdu, additional: usize, data: &[u8], digests: Digests) -> Vec<u8> {
        header.set_data_segment_bytes(data.len() as u32);
        let mut bytes = header.as_bytes().to_vec();
        bytes[4] = additional as u8;
        bytes.resize(BHS_BYTES + additional * 4, 7);
        bytes.extend(vec![0xd1; if digests.header { 4 } else { 0 }]);
        bytes.extend_from_slice(data);
        if !data.is_empty() {
            bytes.extend(vec![0; padding(data.len() as u32) as usize]);
            bytes.extend(vec![0xd2; if digests.data { 4 } else { 0 }]);
        }
        bytes
    }

    #[test]
    fn pdus_are_told_whole_wherever_the_stream_is_cut() {
        for digests in [Digests::default(), Digests { header: true, data: true }] {
            let ping = pdu(NopOut::empty(), 0, b"hello", digests);
            let unwanted = pdu(NopOut::empty(), 2, b"nobody wants this", digests);
            let data = pdu(DataOut::empty(), 0, &[9; 100], digests);
            let stream = [&ping[..], &unwanted, &data, &ping].concat();
            for piece in [1, 3, 47, 49, 1000] {
                let seen = Seen(Arc::default(), 10);
                // The end of a PDU that has begun before comes first.
                let mut cutter = Cutter::new(Direction::Received, digests, 1000, 5);
                let mut watcher = seen.clone();
                cutter.feed(&[1; 5], &mut watcher);
                stream.chunks(piece).for_each(|piece| cutter.feed(piece, &mut watcher));
                let told = seen.0.lock().unwrap();
                let offsets: Vec<u64> = told.iter().map(|passed| passed.offset).collect();
                let (first, second) = (1005, 1005 + ping.len() + unwanted.len());
                assert_eq!(offsets, [first, second as u64, (second + data.len()) as u64], "in pieces of {piece}");
                assert_eq!(told[0].bytes, ping);
                assert_eq!(told[1].length as usize, data.len());
                let header = BHS_BYTES + if digests.header { 4 } else { 0 };
                assert_eq!(told[1].bytes, data[..header + 10], "the start of its data");
                assert_eq!(told[2].bytes, ping);
            }
        }
    }

    #[test]
    fn data_that_is_wanted_whole_comes_with_its_padding_and_digest() {
        let digests = Digests { header: false, data: true };
        let data = pdu(DataOut::empty(), 0, &[9; 99], digests);
        let seen = Seen(Arc::default(), 99);
        Cutter::new(Direction::Sent, digests, 0, 0).feed(&data, &mut seen.clone());
        assert_eq!(seen.0.lock().unwrap()[0].bytes, data);
    }
}
