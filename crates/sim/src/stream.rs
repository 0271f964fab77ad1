//! Bytes of a connection into a session of either end and out of an initiator's, in the plainest way: header,
//! data where it belongs, digests as they come (what `io::link` does with sockets).

use crate::frame::crc32c;
use iscsi::session::{ConnectionError, Digest, Incoming, Place, Segment, TaskId, TxBatch};
use iscsi::wire::{BHS_BYTES, header_bytes};

/// A session, seen from one of its connections.
pub(crate) trait Receiver {
    /// Bytes of the header segments, told from the first 48.
    fn header_bytes(&self, first: &[u8; BHS_BYTES]) -> usize;
    /// Takes a header without its digest.
    fn header(&mut self, header: &[u8], digest_ok: bool) -> Result<Incoming, ConnectionError>;
    /// Bytes for the connection's arena.
    fn collect(&mut self, bytes: &[u8]);
    /// Bytes for a task.
    fn store(&mut self, task: TaskId, offset: u32, bytes: &[u8]);
    /// The data segment is complete.
    fn data_end(&mut self, digest_ok: bool) -> Result<(), ConnectionError>;
}

/// Where a stream stands.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    data: Option<Data>,
}

#[derive(Debug)]
struct Data {
    incoming: Incoming,
    done: u32,
    /// What the digest is over.
    bytes: Vec<u8>,
}

impl Stream {
    /// Takes what there is of `input`, as far as it goes.
    pub fn parse(&mut self, input: &mut Vec<u8>, to: &mut impl Receiver) -> Result<(), ConnectionError> {
        let mut used = 0;
        let parsed = self.parse_from(input, &mut used, to);
        input.drain(..used);
        parsed
    }

    fn parse_from(&mut self, input: &[u8], used: &mut usize, to: &mut impl Receiver) -> Result<(), ConnectionError> {
        loop {
            let rest = input.get(*used..).unwrap_or_default();
            match &mut self.data {
                None => {
                    let Some(first) = rest.first_chunk::<BHS_BYTES>() else { return Ok(()) };
                    let plain = header_bytes(first, false);
                    let Some(whole) = rest.get(..to.header_bytes(first)) else { return Ok(()) };
                    let (header, digest) = whole.split_at(plain);
                    let digest_ok = digest.is_empty() || digest == crc32c(header).to_le_bytes();
                    *used += whole.len();
                    let incoming = to.header(header, digest_ok)?;
                    if incoming.length > 0 {
                        self.data = Some(Data { incoming, done: 0, bytes: Vec::new() });
                    }
                }
                Some(Data { incoming, done, bytes }) if *done < incoming.length => {
                    let chunk = rest.get(..(incoming.length - *done) as usize).unwrap_or(rest);
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    if incoming.digest {
                        bytes.extend_from_slice(chunk);
                    }
                    let at = *done;
                    *done += chunk.len() as u32;
                    *used += chunk.len();
                    match incoming.place {
                        Place::Task { task, offset } => to.store(task, offset + at, chunk),
                        Place::Arena => to.collect(chunk),
                        Place::Discard => {}
                    }
                }
                Some(Data { incoming, bytes, .. }) => {
                    let pad = incoming.padding as usize;
                    let Some(trailer) = rest.get(..pad + if incoming.digest { 4 } else { 0 }) else { return Ok(()) };
                    let (padding, digest) = trailer.split_at(pad);
                    bytes.extend_from_slice(padding);
                    let digest_ok = digest.is_empty() || digest == crc32c(bytes).to_le_bytes();
                    *used += trailer.len();
                    self.data = None;
                    to.data_end(digest_ok)?;
                }
            }
        }
    }
}

/// A batch of an initiator as bytes, with its digests. `payload` gives the bytes of a task.
pub(crate) fn encode<'a>(batch: &mut TxBatch, payload: impl Fn(TaskId, u32, u32) -> &'a [u8]) -> Vec<u8> {
    for digest in std::mem::take(&mut batch.digests) {
        let (value, at) = match digest {
            Digest::Arena { over, at } => (crc32c(&batch.arena[over]), at),
            Digest::Payload { task, offset, length, padding, at } => {
                let bytes = payload(task, offset, length);
                (crc32c(&[bytes, &[0; 3][..padding as usize]].concat()), at)
            }
        };
        batch.arena[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(batch.arena.len() * 2);
    for segment in &batch.segments {
        match segment {
            Segment::Arena(range) => bytes.extend_from_slice(&batch.arena[range.clone()]),
            Segment::Payload { task, offset, length } => bytes.extend_from_slice(payload(*task, *offset, *length)),
        }
    }
    bytes
}
