//! What RECEIVE COPY RESULTS answers: what copies may ask for, and how one stands (SPC-4 6.18 to 6.24).

use super::list;
use crate::Status;

/// How a copy stands (COPY OPERATION STATUS; LID1 has the first three only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It is over, and all went well.
    Completed = 0x01,
    /// It is over; the sense data say what went wrong.
    Failed = 0x02,
    /// Under way, its command with it.
    Foreground = 0x11,
    /// Under way, its command answered.
    Background = 0x12,
    /// It was cut off: its task was aborted, or its nexus is gone.
    Aborted = 0x60,
}

/// One copy as it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<'a> {
    /// SERVICE ACTION of the command that began it.
    pub service_action: u8,
    /// How it stands.
    pub state: State,
    /// What was written so far, in bytes.
    pub transferred: u64,
    /// Bytes of a block, for answers that count in blocks.
    pub block_length: u32,
    /// Requests that were done.
    pub operations: u16,
    /// SEGMENTS PROCESSED.
    pub segments: u16,
    /// Sense data of a failure.
    pub sense: &'a [u8],
    /// The token that was made.
    pub token: Option<&'a [u8]>,
}

/// TRANSFER COUNT UNITS.
const BYTES: u8 = 0x00;
const KIBIBYTES: u8 = 0x01;
const LOGICAL_BLOCKS: u8 = 0xF1;

/// OPERATING PARAMETERS (03h).
pub fn operating_parameters(out: &mut Vec<u8>) {
    let codes = list::DESCRIPTOR_TYPES;
    out.extend_from_slice(&(40 + codes.len() as u32).to_be_bytes());
    // SNLID: a list may be without an identifier.
    out.extend_from_slice(&[0x01, 0, 0, 0]);
    out.extend_from_slice(&list::MAXIMUM_CSCDS.to_be_bytes());
    out.extend_from_slice(&list::MAXIMUM_SEGMENTS.to_be_bytes());
    out.extend_from_slice(&list::MAXIMUM_DESCRIPTOR_BYTES.to_be_bytes());
    out.extend_from_slice(&list::MAXIMUM_SEGMENT_BYTES.to_be_bytes());
    out.extend_from_slice(&[0; 4]); // no inline data,
    out.extend_from_slice(&[0; 4]); // none held,
    out.extend_from_slice(&[0; 4]); // no streams
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&CONCURRENT.to_be_bytes());
    out.extend_from_slice(&[CONCURRENT as u8, 0, 0, 0, 0, 0, 0, codes.len() as u8]);
    out.extend_from_slice(codes);
}

/// Copies of which the state is remembered for a nexus and a unit, so many may be under way.
pub const CONCURRENT: u16 = 16;

/// COPY STATUS (LID1) (00h).
pub fn copy_status_lid1(report: &Report<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&8u32.to_be_bytes());
    out.push(match report.state {
        State::Completed => 0x01,
        State::Failed | State::Aborted => 0x02,
        State::Foreground | State::Background => 0x00,
    });
    out.extend_from_slice(&report.segments.to_be_bytes());
    // A count of bytes where it fits.
    let (units, count) = match u32::try_from(report.transferred) {
        Ok(bytes) => (BYTES, bytes),
        Err(_) => (KIBIBYTES, u32::try_from(report.transferred >> 10).unwrap_or(u32::MAX)),
    };
    out.push(units);
    out.extend_from_slice(&count.to_be_bytes());
}

/// COPY STATUS (LID4) (05h).
pub fn copy_status_lid4(report: &Report<'_>, out: &mut Vec<u8>) {
    status(report, (BYTES, report.transferred), 0, out);
    out.extend_from_slice(report.sense);
}

/// RECEIVE ROD TOKEN INFORMATION (07h): the same with the token, and counted in blocks.
pub fn rod_token_information(report: &Report<'_>, out: &mut Vec<u8>) {
    let token = report.token.unwrap_or_default();
    let descriptor = if token.is_empty() { 0 } else { token.len() + 2 };
    let blocks = report.transferred / u64::from(report.block_length.max(1));
    status(report, (LOGICAL_BLOCKS, blocks), 4 + descriptor, out);
    out.extend_from_slice(report.sense);
    out.extend_from_slice(&(descriptor as u32).to_be_bytes());
    if descriptor > 0 {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(token);
    }
}

fn status(report: &Report<'_>, (units, count): (u8, u64), behind: usize, out: &mut Vec<u8>) {
    let sense = report.sense.len() as u8;
    out.extend_from_slice(&((28 + report.sense.len() + behind) as u32).to_be_bytes());
    out.extend_from_slice(&[report.service_action & 0x1F, report.state as u8]);
    out.extend_from_slice(&report.operations.to_be_bytes());
    // ESTIMATED STATUS UPDATE DELAY: in milliseconds; nothing will change any more, or soon.
    let delay: u32 = match report.state {
        State::Completed | State::Failed | State::Aborted => u32::MAX - 1,
        State::Foreground | State::Background => 100,
    };
    out.extend_from_slice(&delay.to_be_bytes());
    // EXTENDED COPY COMPLETION STATUS: the SAM status of the copy's end.
    let completion = match report.state {
        State::Failed => Status::CheckCondition as u8,
        State::Aborted => Status::TaskAborted as u8,
        _ => Status::Good as u8,
    };
    out.extend_from_slice(&[completion, sense, sense, units]);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&report.segments.to_be_bytes());
    out.extend_from_slice(&[0; 6]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{be16, be32, be64};

    fn report() -> Report<'static> {
        Report {
            service_action: 0x10,
            state: State::Completed,
            transferred: 8192,
            block_length: 512,
            operations: 2,
            segments: 1,
            sense: &[],
            token: None,
        }
    }

    #[test]
    fn every_answer_says_its_whole_length() {
        let token = [7; 512];
        let with_token = Report { token: Some(&token), sense: &[0x70; 18], ..report() };
        for encode in [copy_status_lid4, rod_token_information, copy_status_lid1] {
            for report in [report(), with_token.clone()] {
                let mut out = Vec::new();
                encode(&report, &mut out);
                assert_eq!(be32(&out, 0).unwrap() as usize, out.len() - 4);
            }
        }
        let mut out = Vec::new();
        operating_parameters(&mut out);
        assert_eq!(be32(&out, 0).unwrap() as usize, out.len() - 4);
        assert_eq!(out[44..], *list::DESCRIPTOR_TYPES);
        assert_eq!(usize::from(out[43]), out.len() - 44);
    }

    #[test]
    fn a_token_stands_behind_the_sense_data_and_blocks_are_counted() {
        let token = [7; 512];
        let mut out = Vec::new();
        rod_token_information(&Report { token: Some(&token), sense: &[0x70; 18], ..report() }, &mut out);
        assert_eq!((out[4], out[5], out[13], out[15]), (0x10, 0x01, 18, 0xF1));
        assert_eq!((be64(&out, 16), be16(&out, 24)), (Some(16), Some(1)));
        assert_eq!(be32(&out, 32 + 18), Some(514));
        assert_eq!(out[32 + 18 + 6..], token);
    }

    #[test]
    fn a_count_that_does_not_fit_is_told_in_kibibytes() {
        let mut out = Vec::new();
        copy_status_lid1(&Report { transferred: 5 << 32, ..report() }, &mut out);
        assert_eq!((out[7], be32(&out, 8)), (0x01, Some(5 << 22)));
    }
}
