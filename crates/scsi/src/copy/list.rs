//! The parameter list of EXTENDED COPY, in its forms with list identifiers of one byte (LID1) and of four
//! (LID4): copy sources and destinations (CSCDs), and the segments to copy between them (SPC-4 6.4).

use super::{CSCD_BYTES, IDENTIFICATION, byte_at, invalid, u16_at, u32_at, u64_at};
use crate::{Condition, SenseKey};

/// SEGMENT DESCRIPTOR TYPE CODE, block device to block device (SPC-4 6.4.6.5).
pub const BLOCK_TO_BLOCK: u8 = 0x02;
/// The descriptor types that are understood, ascending.
pub const DESCRIPTOR_TYPES: &[u8] = &[BLOCK_TO_BLOCK, IDENTIFICATION];
/// CSCD DESCRIPTOR ID of the logical unit that was given the command (SPC-4 6.4.6.1).
pub const THIS_UNIT: u16 = 0xFFFF;

/// Most CSCD descriptors of one list.
pub const MAXIMUM_CSCDS: u16 = 64;
/// Most segment descriptors of one list.
pub const MAXIMUM_SEGMENTS: u16 = 256;
/// Most bytes of both.
pub const MAXIMUM_DESCRIPTOR_BYTES: u32 =
    MAXIMUM_CSCDS as u32 * CSCD_BYTES as u32 + MAXIMUM_SEGMENTS as u32 * SEGMENT_BYTES as u32;
/// Most bytes of one segment: 65,535 blocks of 4,096 bytes.
pub const MAXIMUM_SEGMENT_BYTES: u32 = 65_535 * 4096;

/// Bytes of a block to block segment descriptor, its header among them.
const SEGMENT_BYTES: usize = 28;

/// The form of a list, by the SERVICE ACTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// EXTENDED COPY (LID1), 00h.
    Lid1,
    /// EXTENDED COPY (LID4), 01h.
    Lid4,
}

/// A whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyList {
    /// LIST IDENTIFIER; absent where LIST ID USAGE says that there is none (11b).
    pub identifier: Option<u32>,
    /// IMMED: the status comes before the copy is done. Only in LID4.
    pub immediate: bool,
    /// Copy sources and destinations.
    pub cscds: Vec<Cscd>,
    /// What is copied, in this order.
    pub segments: Vec<Segment>,
}

/// A copy source or destination, named by a designation descriptor of a logical unit (VPD 83h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cscd {
    /// CODE SET.
    pub code_set: u8,
    /// DESIGNATOR TYPE.
    pub designator_type: u8,
    /// The designator.
    pub designator: Vec<u8>,
    /// DISK BLOCK LENGTH, in bytes.
    pub block_length: u32,
    /// NUL: nothing is meant, and nothing can be read or written there.
    pub null: bool,
    /// Where in the list the descriptor stands, for field pointers.
    pub at: usize,
}

/// Blocks to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// SOURCE CSCD DESCRIPTOR ID.
    pub source: u16,
    /// DESTINATION CSCD DESCRIPTOR ID.
    pub destination: u16,
    /// DC: `blocks` are the destination's, not the source's.
    pub counts_destination: bool,
    /// BLOCK DEVICE NUMBER OF BLOCKS.
    pub blocks: u16,
    /// SOURCE BLOCK DEVICE LOGICAL BLOCK ADDRESS.
    pub source_block: u64,
    /// DESTINATION BLOCK DEVICE LOGICAL BLOCK ADDRESS.
    pub destination_block: u64,
    /// Where in the list the descriptor stands.
    pub at: usize,
}

/// The lengths of the parts of a list, and where they begin.
struct Parts {
    cscds: usize,
    cscd_length_at: usize,
    segments: usize,
    segment_length_at: usize,
    start: usize,
}

/// Takes a list apart. Nothing of it is done where anything in it is wrong.
pub fn parse(form: Form, bytes: &[u8]) -> Result<CopyList, Condition> {
    let usage = byte_at(bytes, 1)? >> 3 & 3;
    if usage == 1 {
        return Err(invalid(1, Some(4)));
    }
    let (number, number_at, immediate, parts) = match form {
        Form::Lid1 => (u32::from(byte_at(bytes, 0)?), 0, false, lid1(bytes)?),
        Form::Lid4 => (u32_at(bytes, 20)?, 20, byte_at(bytes, 15)? & 1 != 0, lid4(bytes)?),
    };
    if usage == 3 && number != 0 {
        return Err(invalid(number_at, Some(7)));
    }
    let (cscds, segments) = descriptors(bytes, &parts)?;
    let identifier = (usage != 3).then_some(number);
    if immediate && identifier.is_none() {
        // Nobody could ask how it ended.
        return Err(invalid(15, Some(0)));
    }
    Ok(CopyList { identifier, immediate, cscds, segments })
}

fn lid1(bytes: &[u8]) -> Result<Parts, Condition> {
    no_inline(u32_at(bytes, 12)?)?;
    Ok(Parts {
        cscds: u16_at(bytes, 2)?.into(),
        cscd_length_at: 2,
        segments: u32_at(bytes, 8)? as usize,
        segment_length_at: 8,
        start: 16,
    })
}

fn lid4(bytes: &[u8]) -> Result<Parts, Condition> {
    if byte_at(bytes, 0)? != 0x01 {
        return Err(invalid(0, Some(7)));
    }
    if u16_at(bytes, 2)? != 0x20 {
        return Err(invalid(2, Some(7)));
    }
    if byte_at(bytes, 15)? & 0xFC != 0 {
        return Err(invalid(15, Some(7)));
    }
    if byte_at(bytes, 16)? != 0xFF {
        return Err(invalid(16, Some(7)));
    }
    no_inline(u16_at(bytes, 46)?.into())?;
    Ok(Parts {
        cscds: u16_at(bytes, 42)?.into(),
        cscd_length_at: 42,
        segments: u16_at(bytes, 44)?.into(),
        segment_length_at: 44,
        start: 48,
    })
}

fn no_inline(length: u32) -> Result<(), Condition> {
    match length {
        0 => Ok(()),
        // INLINE DATA LENGTH EXCEEDED.
        _ => Err(Condition::new(SenseKey::IllegalRequest, 0x26, 0x0B)),
    }
}

fn descriptors(bytes: &[u8], parts: &Parts) -> Result<(Vec<Cscd>, Vec<Segment>), Condition> {
    if !parts.cscds.is_multiple_of(CSCD_BYTES) {
        return Err(invalid(parts.cscd_length_at, Some(7)));
    }
    if parts.cscds + parts.segments > MAXIMUM_DESCRIPTOR_BYTES as usize {
        return Err(Condition::PARAMETER_LIST_LENGTH_ERROR);
    }
    if parts.cscds > usize::from(MAXIMUM_CSCDS) * CSCD_BYTES {
        // TOO MANY TARGET DESCRIPTORS.
        return Err(Condition::new(SenseKey::IllegalRequest, 0x26, 0x06));
    }
    if parts.segments > usize::from(MAXIMUM_SEGMENTS) * SEGMENT_BYTES {
        // TOO MANY SEGMENT DESCRIPTORS.
        return Err(Condition::new(SenseKey::IllegalRequest, 0x26, 0x08));
    }
    let segments_at = parts.start + parts.cscds;
    let end = segments_at + parts.segments;
    // What was sent ends in the midst of a descriptor.
    let bytes = bytes.get(..end).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)?;
    let cscds = (parts.start..segments_at).step_by(CSCD_BYTES).map(|at| cscd(bytes, at)).collect::<Result<_, _>>()?;
    let mut segments = Vec::new();
    let mut at = segments_at;
    while at < end {
        if byte_at(bytes, at)? != BLOCK_TO_BLOCK {
            // UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
            return Err(Condition::new(SenseKey::IllegalRequest, 0x26, 0x09));
        }
        if end - at < SEGMENT_BYTES {
            return Err(invalid(parts.segment_length_at, Some(7)));
        }
        segments.push(segment(bytes, at)?);
        at += SEGMENT_BYTES;
    }
    Ok((cscds, segments))
}

fn cscd(bytes: &[u8], at: usize) -> Result<Cscd, Condition> {
    if byte_at(bytes, at)? != IDENTIFICATION {
        // UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
        return Err(Condition::new(SenseKey::IllegalRequest, 0x26, 0x07));
    }
    let kind = byte_at(bytes, at + 1)?;
    // LU ID TYPE is about an LU IDENTIFIER, which this descriptor has not.
    if kind & 0x1F != 0 {
        // INCORRECT COPY TARGET DEVICE TYPE.
        return Err(Condition::new(SenseKey::CopyAborted, 0x0D, 0x03));
    }
    // ASSOCIATION: the logical unit.
    if byte_at(bytes, at + 5)? & 0x30 != 0 {
        return Err(invalid(at + 5, Some(5)));
    }
    let length = usize::from(byte_at(bytes, at + 7)?);
    if length > 20 {
        return Err(invalid(at + 7, Some(7)));
    }
    let designator = bytes.get(at + 8..at + 8 + length).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)?.to_vec();
    Ok(Cscd {
        code_set: byte_at(bytes, at + 4)? & 0x0F,
        designator_type: byte_at(bytes, at + 5)? & 0x0F,
        designator,
        block_length: u32_at(bytes, at + 28)? & 0x00FF_FFFF,
        null: kind & 0x20 != 0,
        at,
    })
}

fn segment(bytes: &[u8], at: usize) -> Result<Segment, Condition> {
    if usize::from(u16_at(bytes, at + 2)?) != SEGMENT_BYTES - 4 {
        return Err(invalid(at + 2, Some(7)));
    }
    Ok(Segment {
        source: u16_at(bytes, at + 4)?,
        destination: u16_at(bytes, at + 6)?,
        counts_destination: byte_at(bytes, at + 1)? & 2 != 0,
        blocks: u16_at(bytes, at + 10)?,
        source_block: u64_at(bytes, at + 12)?,
        destination_block: u64_at(bytes, at + 20)?,
        at,
    })
}

impl CopyList {
    /// The list as an initiator sends it.
    pub fn encode(&self, form: Form) -> Vec<u8> {
        let usage = if self.identifier.is_some() { 0 } else { 3 << 3 };
        let number = self.identifier.unwrap_or(0).to_be_bytes();
        let cscds = (self.cscds.len() * CSCD_BYTES) as u16;
        let segments = (self.segments.len() * SEGMENT_BYTES) as u16;
        let mut out = Vec::new();
        match form {
            Form::Lid1 => {
                out.extend_from_slice(&[number[3], usage]);
                out.extend_from_slice(&cscds.to_be_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&u32::from(segments).to_be_bytes());
                out.extend_from_slice(&[0; 4]);
            }
            Form::Lid4 => {
                out.extend_from_slice(&[0x01, usage, 0x00, 0x20]);
                out.extend_from_slice(&[0; 11]);
                out.extend_from_slice(&[u8::from(self.immediate), 0xFF, 0, 0, 0]);
                out.extend_from_slice(&number);
                out.extend_from_slice(&[0; 18]);
                out.extend_from_slice(&cscds.to_be_bytes());
                out.extend_from_slice(&segments.to_be_bytes());
                out.extend_from_slice(&[0; 2]);
            }
        }
        for cscd in &self.cscds {
            cscd.encode(&mut out);
        }
        for segment in &self.segments {
            out.extend_from_slice(&[BLOCK_TO_BLOCK, u8::from(segment.counts_destination) << 1, 0, 24]);
            out.extend_from_slice(&segment.source.to_be_bytes());
            out.extend_from_slice(&segment.destination.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&segment.blocks.to_be_bytes());
            out.extend_from_slice(&segment.source_block.to_be_bytes());
            out.extend_from_slice(&segment.destination_block.to_be_bytes());
        }
        out
    }
}

impl Cscd {
    /// Appends the descriptor; a designator of more than 20 bytes is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let designator = self.designator.get(..self.designator.len().min(20)).unwrap_or_default();
        let length = designator.len() as u8;
        out.extend_from_slice(&[
            IDENTIFICATION,
            u8::from(self.null) << 5,
            0,
            0,
            self.code_set,
            self.designator_type,
            0,
            length,
        ]);
        out.extend_from_slice(designator);
        out.resize(start + 28, 0);
        out.extend_from_slice(&(self.block_length & 0x00FF_FFFF).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> CopyList {
        let cscd = |designator: u8, at| Cscd {
            code_set: 1,
            designator_type: 3,
            designator: vec![designator; 16],
            block_length: 512,
            null: false,
            at,
        };
        let segment = |at| Segment {
            source: 0,
            destination: 1,
            counts_destination: false,
            blocks: 8,
            source_block: 1 << 40,
            destination_block: 7,
            at,
        };
        CopyList {
            identifier: Some(9),
            immediate: false,
            cscds: vec![cscd(1, 16), cscd(2, 48)],
            segments: vec![segment(80), segment(108)],
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        assert_eq!(parse(Form::Lid1, &list().encode(Form::Lid1)), Ok(list()));
        let long = parse(Form::Lid4, &list().encode(Form::Lid4)).unwrap();
        assert_eq!((long.identifier, long.cscds.len(), long.segments.len()), (Some(9), 2, 2));
        assert_eq!((long.cscds[0].at, long.segments[1].at), (48, 140));
    }

    #[test]
    fn spc_12_a_list_that_is_cut_anywhere_is_refused() {
        for form in [Form::Lid1, Form::Lid4] {
            let whole = list().encode(form);
            for length in 0..whole.len() {
                assert_eq!(parse(form, &whole[..length]).unwrap_err().code, (0x1A, 0x00), "{form:?} of {length}");
            }
        }
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = list().encode(Form::Lid1);
            change(&mut bytes);
            let condition = parse(Form::Lid1, &bytes).unwrap_err();
            (condition.key as u8, condition.code, condition.specific.map(|[_, high, low]| [high, low]))
        };
        assert_eq!(refused(&|bytes| bytes[16] = 0xE5), (5, (0x26, 0x07), None));
        assert_eq!(refused(&|bytes| bytes[80] = 0x0A), (5, (0x26, 0x09), None));
        assert_eq!(refused(&|bytes| bytes[15] = 1), (5, (0x26, 0x0B), None));
        assert_eq!(refused(&|bytes| bytes[2..4].copy_from_slice(&(65u16 * 32).to_be_bytes())), (5, (0x26, 0x06), None));
        assert_eq!(refused(&|bytes| bytes[8..12].copy_from_slice(&[0, 0, 0x1C, 1])), (5, (0x26, 0x08), None));
        assert_eq!(refused(&|bytes| bytes[1] = 0x08), (5, (0x26, 0x00), Some([0, 1])));
        assert_eq!(refused(&|bytes| bytes[1] = 0x18), (5, (0x26, 0x00), Some([0, 0])));
        assert_eq!(refused(&|bytes| bytes[17] = 0x05), (0xA, (0x0D, 0x03), None));
        assert_eq!(refused(&|bytes| bytes[21] |= 0x10), (5, (0x26, 0x00), Some([0, 21])));
        assert_eq!(refused(&|bytes| bytes[23] = 21), (5, (0x26, 0x00), Some([0, 23])));
        assert_eq!(refused(&|bytes| bytes[83] = 25), (5, (0x26, 0x00), Some([0, 82])));
    }

    proptest::proptest! {
        #[test]
        fn no_list_harms_the_decoder(bytes in proptest::collection::vec(0u8.., 0..300), short in proptest::bool::ANY) {
            let _ = parse(if short { Form::Lid1 } else { Form::Lid4 }, &bytes);
        }
    }
}
