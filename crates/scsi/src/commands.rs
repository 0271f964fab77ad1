//! CDBs in words, for whoever reads a trace or a log: the command's name and what it is about. Whether it is legal
//! or supported is not asked; any bytes have an answer.

use crate::words;
use std::fmt::Write;

/// What else a command's words say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The name alone.
    Bare,
    /// LBA and blocks of the commands with 6 bytes (SBC-4 5.15).
    Extent6,
    /// LBA at byte 2, blocks at byte 7.
    Extent10,
    /// LBA at byte 2, blocks at byte 6.
    Extent12,
    /// LBA at byte 2, blocks at byte 10.
    Extent16,
    /// LBA at byte 12, blocks at byte 28: commands of 32 bytes.
    Extent32,
    /// LBA at byte 2, blocks at byte 13.
    Compare,
    /// LBA at byte 2 alone.
    Lba16,
    /// A VPD page.
    Inquiry,
    /// A mode page and its subpage.
    ModeSense,
    /// A log page and its subpage.
    LogSense,
    /// The type of a reservation.
    Reserve,
    /// START and LOEJ.
    StartStop,
    /// PREVENT.
    Prevent,
}

/// A command: operation code, service action, name, form.
type Row = (u8, Option<u8>, &'static str, Form);

/// The name of a CDB's command, as its standard writes it; the numbers where it has none here.
pub fn name(cdb: &[u8]) -> String {
    match row(cdb) {
        Some((_, _, name, _)) => (*name).to_owned(),
        None => match cdb {
            [] => "no CDB".to_owned(),
            [opcode, ..] => format!("operation code {opcode:02X}h"),
        },
    }
}

/// The first block and how many, of a command that is about an extent.
pub fn extent(cdb: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize, length: usize| {
        (at..at + length).fold(0u64, |number, at| number << 8 | u64::from(cdb.get(at).copied().unwrap_or(0)))
    };
    Some(match row(cdb)?.3 {
        Form::Extent6 => {
            let blocks = number(4, 1);
            // SBC-4 5.15: zero stands for 256.
            (number(1, 3) & 0x1f_ffff, if blocks == 0 { 256 } else { blocks })
        }
        Form::Extent10 => (number(2, 4), number(7, 2)),
        Form::Extent12 => (number(2, 4), number(6, 4)),
        Form::Extent16 => (number(2, 8), number(10, 4)),
        Form::Extent32 => (number(12, 8), number(28, 4)),
        Form::Compare => (number(2, 8), number(13, 1)),
        _ => return None,
    })
}

/// A CDB in a few words: the name, the blocks, the page.
pub fn describe(cdb: &[u8]) -> String {
    let mut words = name(cdb);
    let at = |index: usize| cdb.get(index).copied().unwrap_or(0);
    let Some((opcode, _, _, form)) = row(cdb) else { return words };
    if let Some((lba, blocks)) = extent(cdb) {
        let _ = write!(words, " LBA {lba}, {blocks} {}", if blocks == 1 { "block" } else { "blocks" });
    }
    let add = |words: &mut String, text: &str| {
        words.push_str(", ");
        words.push_str(text);
    };
    // Which bits byte 1 has, by command (SBC-4 5.16, 5.34, 5.53).
    let moves = matches!(opcode, 0x28 | 0x2a | 0x88 | 0x89 | 0x8a | 0x8b | 0x9c | 0xa8 | 0xaa);
    if moves && at(1) & 0x08 != 0 {
        add(&mut words, "FUA");
    }
    if moves && at(1) & 0x10 != 0 {
        add(&mut words, "DPO");
    }
    if matches!(opcode, 0x41 | 0x93) {
        for (bit, name) in [(0x08, "UNMAP"), (0x10, "ANCHOR"), (0x01, "NDOB")] {
            if at(1) & bit != 0 {
                add(&mut words, name);
            }
        }
    }
    if matches!(opcode, 0x2e | 0x2f | 0x8e | 0x8f | 0xae | 0xaf) {
        let _ = write!(words, ", BYTCHK {}", at(1) >> 1 & 3);
    }
    match form {
        Form::Lba16 => {
            let lba = (2..10).fold(0u64, |number, index| number << 8 | u64::from(at(index)));
            let _ = write!(words, " LBA {lba}");
        }
        Form::Inquiry if at(1) & 1 != 0 => {
            let _ = write!(words, " VPD page {:02X}h", at(2));
        }
        Form::Inquiry => words.push_str(" standard data"),
        Form::ModeSense => {
            let control = ["current", "changeable", "default", "saved"][usize::from(at(2) >> 6)];
            let _ = write!(words, " page {:02X}h/{:02X}h, {control} values", at(2) & 0x3f, at(3));
        }
        Form::LogSense => {
            let _ = write!(words, " page {:02X}h/{:02X}h", at(2) & 0x3f, at(3));
        }
        Form::Reserve if !matches!(at(1) & 0x1f, 0x03 | 0x06) => {
            if let Some(kind) = words::reservation_type(at(2) & 0x0f) {
                let _ = write!(words, ", {kind}");
            }
        }
        Form::StartStop => {
            let what = match (at(4) >> 4, at(4) & 3) {
                (0, 0) => "stop",
                (0, 1) => "start",
                (0, 2) => "eject",
                (0, _) => "load",
                (1, _) => "active",
                (2, _) => "idle",
                (3, _) => "standby",
                _ => "power condition",
            };
            let _ = write!(words, ", {what}");
        }
        Form::Prevent => words.push_str(if at(4) & 3 == 0 { ", allow" } else { ", prevent" }),
        _ => {}
    }
    words
}

fn row(cdb: &[u8]) -> Option<&'static Row> {
    let opcode = *cdb.first()?;
    // Commands of variable length have their service action in bytes 8 and 9 (SPC-5 4.2.3).
    let action = match opcode {
        0x7f => *cdb.get(9)?,
        _ => cdb.get(1).copied().unwrap_or(0) & 0x1f,
    };
    ROWS.iter().find(|(code, service, ..)| *code == opcode && service.is_none_or(|service| service == action))
}

const ROWS: &[Row] = &[
    (0x00, None, "TEST UNIT READY", Form::Bare),
    (0x03, None, "REQUEST SENSE", Form::Bare),
    (0x04, None, "FORMAT UNIT", Form::Bare),
    (0x08, None, "READ(6)", Form::Extent6),
    (0x0a, None, "WRITE(6)", Form::Extent6),
    (0x12, None, "INQUIRY", Form::Inquiry),
    (0x15, None, "MODE SELECT(6)", Form::Bare),
    (0x16, None, "RESERVE(6)", Form::Bare),
    (0x17, None, "RELEASE(6)", Form::Bare),
    (0x1a, None, "MODE SENSE(6)", Form::ModeSense),
    (0x1b, None, "START STOP UNIT", Form::StartStop),
    (0x1c, None, "RECEIVE DIAGNOSTIC RESULTS", Form::Bare),
    (0x1d, None, "SEND DIAGNOSTIC", Form::Bare),
    (0x1e, None, "PREVENT ALLOW MEDIUM REMOVAL", Form::Prevent),
    (0x25, None, "READ CAPACITY(10)", Form::Bare),
    (0x28, None, "READ(10)", Form::Extent10),
    (0x2a, None, "WRITE(10)", Form::Extent10),
    (0x2b, None, "SEEK(10)", Form::Bare),
    (0x2e, None, "WRITE AND VERIFY(10)", Form::Extent10),
    (0x2f, None, "VERIFY(10)", Form::Extent10),
    (0x34, None, "PRE-FETCH(10)", Form::Extent10),
    (0x35, None, "SYNCHRONIZE CACHE(10)", Form::Extent10),
    (0x37, None, "READ DEFECT DATA(10)", Form::Bare),
    (0x3b, None, "WRITE BUFFER", Form::Bare),
    (0x3c, None, "READ BUFFER(10)", Form::Bare),
    (0x41, None, "WRITE SAME(10)", Form::Extent10),
    (0x42, None, "UNMAP", Form::Bare),
    (0x43, None, "READ TOC/PMA/ATIP", Form::Bare),
    (0x46, None, "GET CONFIGURATION", Form::Bare),
    (0x48, Some(0x01), "SANITIZE, OVERWRITE", Form::Bare),
    (0x48, Some(0x02), "SANITIZE, BLOCK ERASE", Form::Bare),
    (0x48, Some(0x03), "SANITIZE, CRYPTOGRAPHIC ERASE", Form::Bare),
    (0x48, Some(0x1f), "SANITIZE, EXIT FAILURE MODE", Form::Bare),
    (0x48, None, "SANITIZE", Form::Bare),
    (0x4a, None, "GET EVENT STATUS NOTIFICATION", Form::Bare),
    (0x4c, None, "LOG SELECT", Form::Bare),
    (0x4d, None, "LOG SENSE", Form::LogSense),
    (0x51, None, "READ DISC INFORMATION", Form::Bare),
    (0x52, None, "READ TRACK INFORMATION", Form::Bare),
    (0x55, None, "MODE SELECT(10)", Form::Bare),
    (0x56, None, "RESERVE(10)", Form::Bare),
    (0x57, None, "RELEASE(10)", Form::Bare),
    (0x5a, None, "MODE SENSE(10)", Form::ModeSense),
    (0x5e, Some(0x00), "PERSISTENT RESERVE IN, READ KEYS", Form::Bare),
    (0x5e, Some(0x01), "PERSISTENT RESERVE IN, READ RESERVATION", Form::Bare),
    (0x5e, Some(0x02), "PERSISTENT RESERVE IN, REPORT CAPABILITIES", Form::Bare),
    (0x5e, Some(0x03), "PERSISTENT RESERVE IN, READ FULL STATUS", Form::Bare),
    (0x5e, None, "PERSISTENT RESERVE IN", Form::Bare),
    (0x5f, Some(0x00), "PERSISTENT RESERVE OUT, REGISTER", Form::Bare),
    (0x5f, Some(0x01), "PERSISTENT RESERVE OUT, RESERVE", Form::Reserve),
    (0x5f, Some(0x02), "PERSISTENT RESERVE OUT, RELEASE", Form::Reserve),
    (0x5f, Some(0x03), "PERSISTENT RESERVE OUT, CLEAR", Form::Bare),
    (0x5f, Some(0x04), "PERSISTENT RESERVE OUT, PREEMPT", Form::Reserve),
    (0x5f, Some(0x05), "PERSISTENT RESERVE OUT, PREEMPT AND ABORT", Form::Reserve),
    (0x5f, Some(0x06), "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", Form::Bare),
    (0x5f, Some(0x07), "PERSISTENT RESERVE OUT, REGISTER AND MOVE", Form::Bare),
    (0x5f, Some(0x08), "PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION", Form::Bare),
    (0x5f, None, "PERSISTENT RESERVE OUT", Form::Bare),
    (0x7f, Some(0x09), "READ(32)", Form::Extent32),
    (0x7f, Some(0x0b), "WRITE(32)", Form::Extent32),
    (0x7f, Some(0x0a), "VERIFY(32)", Form::Extent32),
    (0x7f, Some(0x0d), "WRITE SAME(32)", Form::Extent32),
    (0x7f, None, "command of variable length", Form::Bare),
    (0x83, Some(0x00), "EXTENDED COPY(LID1)", Form::Bare),
    (0x83, Some(0x01), "EXTENDED COPY(LID4)", Form::Bare),
    (0x83, Some(0x10), "POPULATE TOKEN", Form::Bare),
    (0x83, Some(0x11), "WRITE USING TOKEN", Form::Bare),
    (0x83, Some(0x1c), "COPY OPERATION ABORT", Form::Bare),
    (0x84, Some(0x00), "RECEIVE COPY STATUS(LID1)", Form::Bare),
    (0x84, Some(0x03), "RECEIVE COPY OPERATING PARAMETERS", Form::Bare),
    (0x84, Some(0x05), "RECEIVE COPY STATUS(LID4)", Form::Bare),
    (0x84, Some(0x07), "RECEIVE ROD TOKEN INFORMATION", Form::Bare),
    (0x85, None, "ATA PASS-THROUGH(16)", Form::Bare),
    (0x88, None, "READ(16)", Form::Extent16),
    (0x89, None, "COMPARE AND WRITE", Form::Compare),
    (0x8a, None, "WRITE(16)", Form::Extent16),
    (0x8b, None, "ORWRITE(16)", Form::Extent16),
    (0x8e, None, "WRITE AND VERIFY(16)", Form::Extent16),
    (0x8f, None, "VERIFY(16)", Form::Extent16),
    (0x90, None, "PRE-FETCH(16)", Form::Extent16),
    (0x91, None, "SYNCHRONIZE CACHE(16)", Form::Extent16),
    (0x93, None, "WRITE SAME(16)", Form::Extent16),
    (0x9c, None, "WRITE ATOMIC(16)", Form::Extent16),
    (0x9e, Some(0x10), "READ CAPACITY(16)", Form::Bare),
    (0x9e, Some(0x12), "GET LBA STATUS", Form::Lba16),
    (0xa0, None, "REPORT LUNS", Form::Bare),
    (0xa1, None, "ATA PASS-THROUGH(12)", Form::Bare),
    (0xa2, None, "SECURITY PROTOCOL IN", Form::Bare),
    (0xa3, Some(0x05), "REPORT IDENTIFYING INFORMATION", Form::Bare),
    (0xa3, Some(0x0a), "REPORT TARGET PORT GROUPS", Form::Bare),
    (0xa3, Some(0x0c), "REPORT SUPPORTED OPERATION CODES", Form::Bare),
    (0xa3, Some(0x0d), "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", Form::Bare),
    (0xa3, Some(0x0f), "REPORT TIMESTAMP", Form::Bare),
    (0xa4, Some(0x06), "SET IDENTIFYING INFORMATION", Form::Bare),
    (0xa4, Some(0x0a), "SET TARGET PORT GROUPS", Form::Bare),
    (0xa4, Some(0x0f), "SET TIMESTAMP", Form::Bare),
    (0xa8, None, "READ(12)", Form::Extent12),
    (0xaa, None, "WRITE(12)", Form::Extent12),
    (0xad, None, "READ DISC STRUCTURE", Form::Bare),
    (0xae, None, "WRITE AND VERIFY(12)", Form::Extent12),
    (0xaf, None, "VERIFY(12)", Form::Extent12),
    (0xb5, None, "SECURITY PROTOCOL OUT", Form::Bare),
    (0xb7, None, "READ DEFECT DATA(12)", Form::Bare),
    (0xb9, None, "READ CD MSF", Form::Bare),
    (0xbd, None, "MECHANISM STATUS", Form::Bare),
    (0xbe, None, "READ CD", Form::Bare),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdb;

    #[test]
    fn cdbs_are_told_in_the_words_of_their_standards() {
        let mut read = [0; 16];
        (read[0], read[1]) = (0x88, 0x08);
        read[2..10].copy_from_slice(&0x1_0000_0001u64.to_be_bytes());
        read[10..14].copy_from_slice(&8u32.to_be_bytes());
        for (cdb, words) in [
            (&read[..], "READ(16) LBA 4294967297, 8 blocks, FUA"),
            (&[0x08, 0x1f, 0xff, 0xff, 0, 0], "READ(6) LBA 2097151, 256 blocks"),
            (&[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0], "WRITE(10) LBA 9, 1 block"),
            (&cdb::inquiry(Some(0x83), 255), "INQUIRY VPD page 83h"),
            (&cdb::inquiry(None, 36), "INQUIRY standard data"),
            (&cdb::TEST_UNIT_READY, "TEST UNIT READY"),
            (&cdb::read_capacity_16(32), "READ CAPACITY(16)"),
            (&cdb::get_lba_status(7, 32), "GET LBA STATUS LBA 7"),
            (&[0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0], "PERSISTENT RESERVE OUT, RESERVE, write exclusive, registrants only"),
            (&[0x1b, 0, 0, 0, 2, 0], "START STOP UNIT, eject"),
            (&[0xee, 0], "operation code EEh"),
            (&[], "no CDB"),
            (&[0x7f], "operation code 7Fh"),
        ] {
            assert_eq!(describe(cdb), words);
        }
        let same = cdb::write_same_16(1, 2, cdb::WriteSame { unmap: true, anchor: false, no_data: true });
        assert_eq!(describe(&same), "WRITE SAME(16) LBA 1, 2 blocks, UNMAP, NDOB");
        assert_eq!(extent(&cdb::compare_and_write(5, 3, false)), Some((5, 3)));
    }

    #[test]
    fn any_bytes_have_words() {
        for opcode in 0..=255u8 {
            for length in 0..40 {
                let cdb: Vec<u8> = std::iter::once(opcode).chain((1..length).map(|at| at ^ 0x5a)).collect();
                assert!(!describe(&cdb).is_empty());
            }
        }
    }
}
