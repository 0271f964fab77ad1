//! What a command is to reservations, for every command there is.

/// What a command does, as far as reservations care (SPC-5 table of 5.14.1, SBC-4 table of 4.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Never refused: INQUIRY, REPORT LUNS, REQUEST SENSE, LOG SENSE, READ CAPACITY, RELEASE (6, 10),
    /// PREVENT ALLOW MEDIUM REMOVAL that allows.
    Always,
    /// Refused only by another's RESERVE (6, 10): TEST UNIT READY, PERSISTENT RESERVE IN and OUT, REPORT
    /// TARGET PORT GROUPS, START STOP UNIT that starts, RESERVE itself. Persistent reservations let it
    /// come through, or it has rules of its own.
    Management,
    /// Refused by exclusive access: reads, VERIFY, PRE-FETCH, GET LBA STATUS, MODE SENSE, READ BUFFER,
    /// RECEIVE DIAGNOSTIC RESULTS.
    Read,
    /// Refused by every type: whatever changes the medium or how the unit behaves, and whatever is not
    /// known, so that a command that is added later protects before anybody has thought of it.
    Write,
}

impl Class {
    /// The class of a CDB. Looks at the operation code and, where it depends on them, the service action
    /// and the fields that decide; a CDB that is too short for these is a [`Class::Write`].
    pub fn of(cdb: &[u8]) -> Class {
        match *cdb {
            // GET CONFIGURATION, GET EVENT STATUS NOTIFICATION: what a drive is, as INQUIRY
            [0x46 | 0x4A, ..] => Class::Always,
            // REQUEST SENSE, INQUIRY, RELEASE (6), READ CAPACITY (10), LOG SENSE, RELEASE (10), REPORT LUNS
            [0x03 | 0x12 | 0x17 | 0x25 | 0x4D | 0x57 | 0xA0, ..] => Class::Always,
            // PREVENT ALLOW MEDIUM REMOVAL: PREVENT 00b allows.
            [0x1E, _, _, _, prevent, ..] if prevent & 0x03 == 0 => Class::Always,
            // READ CAPACITY (16); READ LONG (16) and GET LBA STATUS
            [0x9E, action, ..] => match action & 0x1F {
                0x10 => Class::Always,
                0x11 | 0x12 => Class::Read,
                _ => Class::Write,
            },
            // TEST UNIT READY, RESERVE (6), RESERVE (10), PERSISTENT RESERVE IN and OUT
            [0x00 | 0x16 | 0x56 | 0x5E | 0x5F, ..] => Class::Management,
            // START STOP UNIT: START 1 with no power condition
            [0x1B, _, _, _, start, ..] if start & 0xF1 == 0x01 => Class::Management,
            // MAINTENANCE IN: what it tells of ports, names and time comes through always, of commands
            // (0Ch) and task management functions (0Dh) as a read.
            [0xA3, action, ..] => match action & 0x1F {
                0x05 | 0x0A | 0x0B | 0x0E | 0x0F => Class::Management,
                0x0C | 0x0D => Class::Read,
                _ => Class::Write,
            },
            // READ (6), (10), (12), (16); VERIFY (10), (12), (16); PRE-FETCH (10), (16)
            [0x08 | 0x28 | 0xA8 | 0x88 | 0x2F | 0xAF | 0x8F | 0x34 | 0x90, ..] => Class::Read,
            // MODE SENSE (6), (10); RECEIVE DIAGNOSTIC RESULTS; READ BUFFER (10), (16); READ LONG (10);
            // READ DEFECT DATA (10), (12); READ ATTRIBUTE; SECURITY PROTOCOL IN
            [0x1A | 0x5A | 0x1C | 0x3C | 0x9B | 0x3E | 0x37 | 0xB7 | 0x8C | 0xA2, ..] => Class::Read,
            // READ TOC/PMA/ATIP, READ DISC INFORMATION, READ TRACK INFORMATION, READ DISC STRUCTURE, READ CD
            // MSF, MECHANISM STATUS, READ CD
            [0x43 | 0x51 | 0x52 | 0xAD | 0xB9 | 0xBD | 0xBE, ..] => Class::Read,
            // Variable length: READ (32) and VERIFY (32)
            [0x7F, _, _, _, _, _, _, _, 0x00, 0x09 | 0x0A, ..] => Class::Read,
            _ => Class::Write,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    fn cdb(bytes: &[u8]) -> Vec<u8> {
        let mut cdb = bytes.to_vec();
        cdb.resize(16, 0);
        cdb
    }

    #[test]
    fn prs_04_every_command_that_changes_the_medium_is_a_write() {
        let writes: &[(&str, &[u8])] = &[
            ("FORMAT UNIT", &[0x04]),
            ("REASSIGN BLOCKS", &[0x07]),
            ("WRITE (6)", &[0x0A]),
            ("WRITE (10)", &[0x2A]),
            ("WRITE (12)", &[0xAA]),
            ("WRITE (16)", &[0x8A]),
            ("WRITE (32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0x00, 0x0B]),
            ("WRITE AND VERIFY (10)", &[0x2E]),
            ("WRITE AND VERIFY (12)", &[0xAE]),
            ("WRITE AND VERIFY (16)", &[0x8E]),
            ("WRITE SAME (10)", &[0x41]),
            ("WRITE SAME (16)", &[0x93]),
            ("WRITE SAME (32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0x00, 0x0D]),
            ("WRITE LONG (10)", &[0x3F]),
            ("WRITE LONG (16)", &[0x9F, 0x11]),
            ("WRITE ATOMIC (16)", &[0x9C]),
            ("COMPARE AND WRITE", &[0x89]),
            ("ORWRITE (16)", &[0x8B]),
            ("UNMAP", &[0x42]),
            ("SANITIZE", &[0x48]),
            ("EXTENDED COPY", &[0x83, 0x00]),
            ("POPULATE TOKEN", &[0x83, 0x10]),
            ("WRITE USING TOKEN", &[0x83, 0x11]),
        ];
        let others: &[(&str, &[u8])] = &[
            ("SYNCHRONIZE CACHE (10)", &[0x35]),
            ("SYNCHRONIZE CACHE (16)", &[0x91]),
            ("MODE SELECT (6)", &[0x15]),
            ("MODE SELECT (10)", &[0x55]),
            ("LOG SELECT", &[0x4C]),
            ("WRITE BUFFER", &[0x3B]),
            ("SEND DIAGNOSTIC", &[0x1D]),
            ("SET TARGET PORT GROUPS", &[0xA4, 0x0A]),
            ("SET IDENTIFYING INFORMATION", &[0xA4, 0x06]),
            ("SET TIMESTAMP", &[0xA4, 0x0F]),
            ("PREVENT", &[0x1E, 0, 0, 0, 1]),
            ("STOP", &[0x1B, 0, 0, 0, 0]),
            ("START into a power condition", &[0x1B, 0, 0, 0, 0x21]),
        ];
        for (name, bytes) in writes.iter().chain(others) {
            assert_eq!(Class::of(&cdb(bytes)), Class::Write, "{name}");
        }
    }

    #[test]
    fn prs_04_reads_management_and_what_always_runs() {
        for code in [0x08, 0x28, 0xA8, 0x88, 0x2F, 0x8F, 0x34, 0x90, 0x1A, 0x5A, 0x3C] {
            assert_eq!(Class::of(&cdb(&[code])), Class::Read, "{code:02x}");
        }
        for bytes in [&[0x00][..], &[0x16], &[0x56], &[0x5E], &[0x5F], &[0xA3, 0x0A], &[0x1B, 0, 0, 0, 1]] {
            assert_eq!(Class::of(&cdb(bytes)), Class::Management, "{bytes:02x?}");
        }
        for bytes in [
            &[0x03][..],
            &[0x12],
            &[0x17],
            &[0x57],
            &[0xA0],
            &[0x4D],
            &[0x25],
            &[0x9E, 0x10],
            &[0x1E],
            &[0x46],
            &[0x4A],
        ] {
            assert_eq!(Class::of(&cdb(bytes)), Class::Always, "{bytes:02x?}");
        }
        for code in [0x43, 0x51, 0x52, 0xAD, 0xB9, 0xBD, 0xBE] {
            assert_eq!(Class::of(&cdb(&[code])), Class::Read, "{code:02x} of a drive");
        }
        for action in [0x05, 0x0F] {
            assert_eq!(Class::of(&cdb(&[0xA3, action])), Class::Management, "names and time");
        }
        assert_eq!(Class::of(&cdb(&[0x1C])), Class::Read, "RECEIVE DIAGNOSTIC RESULTS");
        assert_eq!(Class::of(&cdb(&[0x9E, 0x12])), Class::Read, "GET LBA STATUS");
        assert_eq!(Class::of(&cdb(&[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x09])), Class::Read, "READ (32)");
    }

    #[test]
    fn prs_04_unknown_and_short_commands_are_refused_to_strangers() {
        for code in 0xC0..=0xFF {
            assert_eq!(Class::of(&cdb(&[code])), Class::Write, "vendor specific {code:02x}");
        }
        for bytes in [&[][..], &[0x1E], &[0x9E], &[0xA3], &[0x7F, 0, 0]] {
            assert_eq!(Class::of(bytes), Class::Write);
        }
    }
}
