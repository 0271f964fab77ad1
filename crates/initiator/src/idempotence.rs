//! Which commands may be sent twice, and which blocks a command writes: what decides how a session that was
//! lost goes on without losing or reordering anything.

use crate::Cdb;

/// Whether executing the command twice in a row is the same as executing it once, so that it may be sent again
/// where nobody knows whether it was executed. What is not listed is not sent again.
pub(crate) fn is_repeatable(cdb: &Cdb) -> bool {
    let service_action = cdb.first()[1] & 0x1f;
    match cdb.opcode() {
        // TEST UNIT READY, REQUEST SENSE, INQUIRY, mode and log pages, START STOP UNIT, PREVENT ALLOW.
        0x00 | 0x03 | 0x12 | 0x15 | 0x1a | 0x55 | 0x5a | 0x4d | 0x1b | 0x1e => true,
        // READ, WRITE, WRITE AND VERIFY, VERIFY, ORWRITE, of each length.
        0x08 | 0x28 | 0xa8 | 0x88 | 0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e | 0x2f | 0xaf | 0x8f | 0x8b => true,
        // READ CAPACITY, SYNCHRONIZE CACHE, PRE-FETCH, WRITE SAME, UNMAP, READ DEFECT DATA, READ BUFFER.
        0x25 | 0x35 | 0x91 | 0x34 | 0x90 | 0x41 | 0x93 | 0x42 | 0x37 | 0xb7 | 0x3c => true,
        // REPORT LUNS, PERSISTENT RESERVE IN, MAINTENANCE IN, RECEIVE COPY RESULTS, SERVICE ACTION IN.
        0xa0 | 0x5e | 0xa3 | 0x84 | 0x9e => true,
        // 32-byte READ, VERIFY, WRITE, WRITE AND VERIFY, WRITE SAME.
        0x7f => matches!(u16::from_be_bytes([cdb.first()[8], cdb.first()[9]]), 0x09..=0x0d),
        // Of a drive: tables, configuration, events, what the disc is.
        0x43 | 0x46 | 0x4a | 0x51 | 0x52 | 0xad | 0xac => true,
        // RESERVE and RELEASE by the one nexus that both are sent on.
        0x16 | 0x17 | 0x56 | 0x57 => true,
        0xab => service_action == 0x01,
        _ => false,
    }
}

/// The blocks that a command writes, first and behind the last: `None` where it writes none or is not known to.
pub(crate) fn written(cdb: &Cdb, data_out: &[u8]) -> Option<(u64, u64)> {
    let first = cdb.first();
    let long = |at: usize| first.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map(u64::from_be_bytes);
    let word = |at: usize| {
        let four = first.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        four.map(u64::from)
    };
    let half = |at: usize| Some(u64::from(u16::from_be_bytes([*first.get(at)?, *first.get(at + 1)?])));
    let (start, blocks) = match cdb.opcode() {
        0x0a => {
            let lba = u64::from(u32::from_be_bytes([0, first[1] & 0x1f, first[2], first[3]]));
            (lba, if first[4] == 0 { 256 } else { u64::from(first[4]) })
        }
        0x2a | 0x2e => (word(2)?, half(7)?),
        0xaa | 0xae => (word(2)?, word(6)?),
        0x8a | 0x8e | 0x8b => (long(2)?, word(10)?),
        0x89 => (long(2)?, u64::from(first[13])),
        // WRITE SAME of no blocks is of all to the end.
        0x41 => (word(2)?, half(7).filter(|blocks| *blocks > 0).unwrap_or(u64::MAX)),
        0x93 => (long(2)?, word(10).filter(|blocks| *blocks > 0).unwrap_or(u64::MAX)),
        0x42 => {
            let descriptors = data_out.get(8..)?.chunks_exact(16);
            let extents = descriptors.filter_map(|one| {
                let start = u64::from_be_bytes(one.get(..8)?.try_into().ok()?);
                let blocks = u32::from_be_bytes(one.get(8..12)?.try_into().ok()?);
                Some((start, start.saturating_add(blocks.into())))
            });
            return extents.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
        }
        // What is not known in detail may write anywhere.
        0x7f | 0x83 | 0x04 | 0x48 => (0, u64::MAX),
        _ => return None,
    };
    Some((start, start.saturating_add(blocks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_a_second_time_is_not_sent_a_second_time() {
        let repeatable = |opcode: u8| is_repeatable(&Cdb::new(&[opcode; 16]));
        for opcode in [0x28, 0x2a, 0x88, 0x8a, 0x35, 0x42, 0x93] {
            assert!(repeatable(opcode), "{opcode:02x}h");
        }
        // COMPARE AND WRITE, PERSISTENT RESERVE OUT, EXTENDED COPY, FORMAT UNIT, SANITIZE, of a vendor.
        for opcode in [0x89, 0x5f, 0x83, 0x04, 0x48, 0xc1] {
            assert!(!repeatable(opcode), "{opcode:02x}h");
        }
    }

    #[test]
    fn the_blocks_of_a_write_are_told() {
        let of = |cdb: &[u8]| written(&Cdb::new(cdb), &[]);
        assert_eq!(of(&[0x2a, 0, 0, 0, 1, 0, 0, 0, 8, 0]), Some((256, 264)));
        assert_eq!(of(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0]), Some((9, 11)));
        assert_eq!(of(&[0x0a, 0, 0, 5, 0, 0]), Some((5, 261)));
        assert_eq!(of(&[0x28, 0, 0, 0, 1, 0, 0, 0, 8, 0]), None);
        let mut list = vec![0; 40];
        (list[15], list[19], list[31], list[35]) = (10, 2, 4, 1);
        assert_eq!(written(&Cdb::new(&[0x42; 10]), &list), Some((4, 12)));
        assert_eq!(written(&Cdb::new(&[0x42; 10]), &[0; 3]), None);
    }
}
