//! PDUs as a pcapng file (draft-ietf-opsawg-pcapng) that Wireshark and tshark open: each is put into TCP segments of
//! its connection, with addresses, ports, and sequence numbers of both directions as if every byte had been seen.
//! Digests and payload stand as they stood on the wire; what was not kept is cut off each packet's end, and what was
//! not told is a hole in the sequence numbers.

use super::record::{Record, Side};
use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Payload bytes of a segment: what fits into an IP packet's 16-bit length with room to spare.
const SEGMENT_BYTES: usize = 60_000;
/// Streams that are remembered.
const STREAMS: usize = 65_536;

/// Where one direction of a stream stands.
#[derive(Default, Clone, Copy)]
struct Way {
    /// The sequence number of its byte 0.
    base: u32,
    /// The next sequence number.
    next: u32,
    /// Which connection of the trace it is.
    connection: Option<u64>,
}

/// Writes a file.
pub struct Writer<W> {
    out: W,
    streams: HashMap<(SocketAddr, SocketAddr), [Way; 2]>,
}

impl<W: Write> Writer<W> {
    /// Begins one: section header and the one interface, with nanoseconds.
    pub fn new(mut out: W) -> std::io::Result<Writer<W>> {
        let application = format!("lunette {}", env!("CARGO_PKG_VERSION"));
        let mut section = Vec::new();
        section.extend_from_slice(&0x1a2b_3c4du32.to_le_bytes());
        section.extend_from_slice(&1u16.to_le_bytes());
        section.extend_from_slice(&0u16.to_le_bytes());
        section.extend_from_slice(&u64::MAX.to_le_bytes());
        option(&mut section, 4, application.as_bytes());
        option(&mut section, 0, &[]);
        block(&mut out, 0x0a0d_0d0a, &section)?;
        let mut interface = Vec::new();
        // LINKTYPE_ETHERNET, and no limit on what is kept.
        interface.extend_from_slice(&1u16.to_le_bytes());
        interface.extend_from_slice(&[0; 6]);
        option(&mut interface, 2, b"lunette trace");
        option(&mut interface, 9, &[9]);
        option(&mut interface, 0, &[]);
        block(&mut out, 1, &interface)?;
        Ok(Writer { out, streams: HashMap::new() })
    }

    /// One PDU.
    pub fn write(&mut self, record: &Record) -> std::io::Result<()> {
        let connection = &record.connection;
        let key = (connection.peer, connection.local);
        if self.streams.len() >= STREAMS && !self.streams.contains_key(&key) {
            self.streams.clear();
        }
        let ways = self.streams.entry(key).or_insert_with(|| {
            let first = Way { base: 1, next: 1, connection: None };
            [first, first]
        });
        let (own, other) = match record.side {
            Side::Initiator => (0, 1),
            Side::Target => (1, 0),
        };
        let (from, to) = match record.side {
            Side::Initiator => key,
            Side::Target => (key.1, key.0),
        };
        let acknowledged = ways[other].next;
        let way = &mut ways[own];
        // A login and the session that it leads to count their bytes each from 0, in the same stream.
        if way.connection != Some(connection.number) {
            way.base = way.next.wrapping_sub(record.offset as u32);
            way.connection = Some(connection.number);
        }
        let mut sequence = way.base.wrapping_add(record.offset as u32);
        way.next = sequence.wrapping_add(record.length);
        let total = record.length as usize;
        let nanoseconds = record.time_us * 1000;
        let mut at = 0;
        while at < total {
            let length = (total - at).min(SEGMENT_BYTES);
            let kept = record.bytes.len().saturating_sub(at).min(length);
            let payload = record.bytes.get(at..at + kept).unwrap_or_default();
            let last = at + length == total;
            let segment = Segment { from, to, sequence, acknowledged, push: last, payload, length };
            let (packet, original) = segment.packet();
            self.packet(nanoseconds, &packet, original)?;
            sequence = sequence.wrapping_add(length as u32);
            at += length;
        }
        Ok(())
    }

    /// An enhanced packet block.
    fn packet(&mut self, nanoseconds: u64, bytes: &[u8], original: usize) -> std::io::Result<()> {
        let mut body = Vec::with_capacity(20 + bytes.len() + 4);
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&((nanoseconds >> 32) as u32).to_le_bytes());
        body.extend_from_slice(&(nanoseconds as u32).to_le_bytes());
        body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        body.extend_from_slice(&(original as u32).to_le_bytes());
        body.extend_from_slice(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        block(&mut self.out, 6, &body)
    }

    /// What was written reaches the file.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> std::io::Result<()> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A TCP segment of so many bytes, of which the first are there.
struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    acknowledged: u32,
    push: bool,
    payload: &'a [u8],
    length: usize,
}

impl Segment<'_> {
    /// The packet's bytes as far as they are there, and how many it has had.
    fn packet(&self) -> (Vec<u8>, usize) {
        let mut tcp = Vec::with_capacity(20 + self.payload.len());
        tcp.extend_from_slice(&self.from.port().to_be_bytes());
        tcp.extend_from_slice(&self.to.port().to_be_bytes());
        tcp.extend_from_slice(&self.sequence.to_be_bytes());
        tcp.extend_from_slice(&self.acknowledged.to_be_bytes());
        // Five words of header; ACK, and PSH at a PDU's end; a window that is never shut.
        tcp.extend_from_slice(&[0x50, if self.push { 0x18 } else { 0x10 }, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend_from_slice(self.payload);
        let tcp_bytes = 20 + self.length;
        let mut packet = Vec::with_capacity(54 + 20 + self.payload.len());
        // Addresses that nobody has: locally administered, by side.
        packet.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        let mut pseudo = Vec::new();
        match (self.from.ip().to_canonical(), self.to.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                packet.extend_from_slice(&[0x08, 0x00]);
                let mut ip = vec![0x45, 0];
                ip.extend_from_slice(&((20 + tcp_bytes) as u16).to_be_bytes());
                // Not to be fragmented, 64 hops, TCP.
                ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
                ip.extend_from_slice(&from.octets());
                ip.extend_from_slice(&to.octets());
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                packet.extend_from_slice(&ip);
                pseudo.extend_from_slice(&from.octets());
                pseudo.extend_from_slice(&to.octets());
                pseudo.extend_from_slice(&[0, 6]);
                pseudo.extend_from_slice(&(tcp_bytes as u16).to_be_bytes());
            }
            (from, to) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                packet.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
                packet.extend_from_slice(&(tcp_bytes as u16).to_be_bytes());
                packet.extend_from_slice(&[6, 64]);
                packet.extend_from_slice(&octets(from));
                packet.extend_from_slice(&octets(to));
                pseudo.extend_from_slice(&octets(from));
                pseudo.extend_from_slice(&octets(to));
                pseudo.extend_from_slice(&(tcp_bytes as u32).to_be_bytes());
                pseudo.extend_from_slice(&[0, 0, 0, 6]);
            }
        }
        // Over what is not there nothing can be summed up; a sum of zeros says so.
        if self.payload.len() == self.length {
            let sum = checksum(&[&pseudo, &tcp]);
            tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        }
        let headers = packet.len();
        packet.extend_from_slice(&tcp);
        (packet, headers + tcp_bytes)
    }
}

/// The Internet's checksum (RFC 1071) of these bytes, one piece after the other; all but the last are even.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let sum: u64 = words.map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low))).sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::super::record::Connection;
    use super::*;
    use std::rc::Rc;

    fn connection(number: u64, peer: &str, local: &str) -> Rc<Connection> {
        Rc::new(Connection {
            number,
            login: false,
            initiator: None,
            target: None,
            session: Some(1),
            cid: Some(0),
            peer: peer.parse().unwrap(),
            local: local.parse().unwrap(),
            header_digest: false,
            data_digest: false,
        })
    }

    fn record(connection: &Rc<Connection>, side: Side, offset: u64, length: u32, kept: usize) -> Record {
        let connection = Rc::clone(connection);
        let bytes = vec![7; kept];
        Record { time_us: 1, connection, side, offset, length, bytes, header_digest: false, data_digest: false }
    }

    /// Sequence and acknowledgement numbers, payload bytes that are there and that were, of each packet.
    fn packets(file: &[u8]) -> Vec<(u32, u32, usize, usize)> {
        let mut rest = file;
        let mut found = Vec::new();
        while let Some((head, _)) = rest.split_first_chunk::<8>() {
            let kind = u32::from_le_bytes(*head.first_chunk().unwrap());
            let length = u32::from_le_bytes(*head.last_chunk().unwrap()) as usize;
            assert_eq!(&rest[length - 4..length], &head[4..], "a block ends with its length");
            if kind == 6 {
                let number = |at: usize| u32::from_le_bytes(*rest[at..].first_chunk().unwrap()) as usize;
                let (kept, original) = (number(20), number(24));
                let packet = &rest[28..28 + kept];
                let ip_bytes = if packet[12] == 8 { 20 } else { 40 };
                let tcp = &packet[14 + ip_bytes..];
                let word = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
                if ip_bytes == 20 {
                    assert_eq!(checksum(&[&packet[14..34]]), 0, "the header's sum is right");
                    let told = u16::from_be_bytes([packet[16], packet[17]]);
                    assert_eq!(usize::from(told), original - 14, "the length is that of the whole packet");
                }
                found.push((word(4), word(8), tcp.len() - 20, original - 34 - ip_bytes));
            }
            rest = &rest[length..];
        }
        found
    }

    #[test]
    fn both_directions_are_numbered_by_what_they_carried() {
        for (peer, local) in [("192.0.2.1:40000", "192.0.2.2:3260"), ("[2001:db8::1]:40000", "[2001:db8::2]:3260")] {
            let (login, session) = (connection(1, peer, local), connection(2, peer, local));
            let mut file = Vec::new();
            let mut writer = Writer::new(&mut file).unwrap();
            for record in [
                record(&login, Side::Initiator, 0, 100, 100),
                record(&login, Side::Target, 0, 60, 60),
                // The session counts anew, in the same stream.
                record(&session, Side::Initiator, 0, 48, 48),
                // Something between was not told.
                record(&session, Side::Initiator, 96, 48, 48),
                // Only its header was kept.
                record(&session, Side::Target, 0, 4144, 48),
                record(&session, Side::Initiator, 144, 48, 48),
                // More than a packet.
                record(&session, Side::Target, 4144, 130_000, 130_000),
            ] {
                writer.write(&record).unwrap();
            }
            let expected = [
                (1, 1, 100, 100),
                (1, 101, 60, 60),
                (101, 61, 48, 48),
                (197, 61, 48, 48),
                (61, 245, 48, 4144),
                (245, 4205, 48, 48),
                (4205, 293, 60_000, 60_000),
                (64_205, 293, 60_000, 60_000),
                (124_205, 293, 10_000, 10_000),
            ];
            assert_eq!(packets(&file), expected);
        }
    }
}
