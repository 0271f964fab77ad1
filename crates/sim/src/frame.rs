//! PDUs as bytes: cutting a stream into frames and back, with padding and digests (RFC 7143 §11.1).
//!
//! CRC32C is computed here once more, the slow way, so that it can judge the fast one.

use iscsi::wire::{BHS_BYTES, Header, Pdu, padding};
use zerocopy::FromBytes;

/// Which digests a connection uses (RFC 7143 §13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// HeaderDigest=CRC32C.
    pub header: bool,
    /// DataDigest=CRC32C.
    pub data: bool,
}

/// One PDU: its header segments and its data segment, without padding and digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The basic header segment and any additional ones.
    pub header: Vec<u8>,
    /// The data segment.
    pub data: Vec<u8>,
}

impl Frame {
    /// A PDU with this data; DataSegmentLength follows from it.
    pub fn new<P: Pdu>(mut header: P, data: &[u8]) -> Frame {
        header.set_data_segment_bytes(data.len() as u32);
        Frame { header: header.as_bytes().to_vec(), data: data.to_vec() }
    }

    /// The same with additional header segments; TotalAHSLength follows from them.
    pub fn with_additional(mut self, additional: &[u8]) -> Frame {
        assert!(additional.len().is_multiple_of(4), "additional header segments are whole words");
        self.header[4] = (additional.len() / 4) as u8;
        self.header.extend_from_slice(additional);
        self
    }

    /// The fields that all PDUs have.
    pub fn basic(&self) -> &Header {
        Header::ref_from_prefix(&self.header).expect("48 bytes").0
    }

    /// The opcode.
    pub fn opcode(&self) -> u8 {
        self.basic().opcode()
    }

    /// As a PDU of this kind, when it is one.
    pub fn view<P: Pdu>(&self) -> Option<&P> {
        (self.opcode() == P::OPCODE as u8).then(|| P::view(self.basic()))
    }

    /// Its bytes on a connection with these digests.
    pub fn encode(&self, digests: Digests) -> Vec<u8> {
        let mut bytes = self.header.clone();
        if digests.header {
            bytes.extend_from_slice(&crc32c(&self.header).to_le_bytes());
        }
        if !self.data.is_empty() {
            let from = bytes.len();
            bytes.extend_from_slice(&self.data);
            bytes.resize(bytes.len() + padding(self.data.len() as u32) as usize, 0);
            if digests.data {
                let digest = crc32c(&bytes[from..]);
                bytes.extend_from_slice(&digest.to_le_bytes());
            }
        }
        bytes
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        let basic = self.basic();
        let name = iscsi::wire::Opcode::from_number(basic.opcode())
            .map_or_else(|| format!("opcode {:02x}h", basic.opcode()), |opcode| format!("{opcode:?}"));
        let words: Vec<String> = self.header[20..48]
            .chunks(4)
            .map(|word| format!("{:x}", u32::from_be_bytes([word[0], word[1], word[2], word[3]])))
            .collect();
        format!(
            "{name}{} flags {:02x} {:02x}{:02x} tag {:x} | {} | {} bytes",
            if basic.immediate() && basic.opcode() < 0x20 { " (immediate)" } else { "" },
            basic.flags,
            basic.specific[0],
            basic.specific[1],
            basic.initiator_task_tag.get(),
            words.join(" "),
            self.data.len()
        )
    }
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub struct Assembler {
    /// What the stream carries from the next frame on.
    pub digests: Digests,
    buffer: Vec<u8>,
}

impl Assembler {
    /// Bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, with what is wrong about its padding and digests.
    pub fn take(&mut self) -> Option<(Frame, Vec<&'static str>)> {
        let (basic, _) = Header::ref_from_prefix(&self.buffer).ok()?;
        let header_end = BHS_BYTES + basic.additional_bytes();
        let data_length = basic.data_segment_bytes() as usize;
        let pad = padding(data_length as u32) as usize;
        let data_start = header_end + if self.digests.header { 4 } else { 0 };
        let data_digest = self.digests.data && data_length > 0;
        let pad_end = data_start + data_length + pad;
        let end = pad_end + if data_digest { 4 } else { 0 };
        if self.buffer.len() < end {
            return None;
        }
        let mut complaints = Vec::new();
        let bytes: Vec<u8> = self.buffer.drain(..end).collect();
        if self.digests.header && bytes[header_end..data_start] != crc32c(&bytes[..header_end]).to_le_bytes() {
            complaints.push("its header digest does not match");
        }
        if bytes[data_start + data_length..pad_end].iter().any(|byte| *byte != 0) {
            complaints.push("its padding is not zero");
        }
        if data_digest && bytes[pad_end..end] != crc32c(&bytes[data_start..pad_end]).to_le_bytes() {
            complaints.push("its data digest does not match");
        }
        let frame =
            Frame { header: bytes[..header_end].to_vec(), data: bytes[data_start..data_start + data_length].to_vec() };
        Some((frame, complaints))
    }

    /// Bytes of a frame that is not whole.
    pub fn rest(&self) -> usize {
        self.buffer.len()
    }
}

/// CRC32C (RFC 7143 §13.1, reflected polynomial 82F63B78h), bit by bit through a table of bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = value >> 1 ^ if value & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iscsi::wire::NopOut;

    #[test]
    fn dig_01_the_vectors_of_the_standard() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(crc32c(&up).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(crc32c(&down).to_le_bytes(), [0x5c, 0xdb, 0x3f, 0x11]);
    }

    #[test]
    fn frames_survive_any_cut_and_damage_is_told() {
        let frame = Frame::new(NopOut::empty(), b"hello");
        for digests in [Digests::default(), Digests { header: true, data: true }] {
            let bytes = frame.encode(digests);
            for cut in 0..bytes.len() {
                let mut assembler = Assembler { digests, ..Assembler::default() };
                assembler.push(&bytes[..cut]);
                assert!(assembler.take().is_none());
                assembler.push(&bytes[cut..]);
                assert_eq!(assembler.take(), Some((frame.clone(), vec![])));
                assert_eq!(assembler.rest(), 0);
            }
        }
        let digests = Digests { header: true, data: true };
        let mut bytes = frame.encode(digests);
        bytes[20] ^= 1;
        bytes[58] ^= 1;
        let mut assembler = Assembler { digests, ..Assembler::default() };
        assembler.push(&bytes);
        let (_, complaints) = assembler.take().unwrap();
        assert_eq!(
            complaints,
            ["its header digest does not match", "its padding is not zero", "its data digest does not match"]
        );
    }
}
