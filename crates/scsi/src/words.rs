//! Status, sense keys and additional sense codes in words (SAM-5 5.3.1, SPC-5 tables 48 and annex F).

/// The name of a status.
pub fn status(status: u8) -> String {
    let name = match status {
        0x00 => "GOOD",
        0x02 => "CHECK CONDITION",
        0x04 => "CONDITION MET",
        0x08 => "BUSY",
        0x18 => "RESERVATION CONFLICT",
        0x28 => "TASK SET FULL",
        0x30 => "ACA ACTIVE",
        0x40 => "TASK ABORTED",
        other => return format!("status {other:02x}h"),
    };
    name.to_owned()
}

/// The name of a sense key.
pub fn sense_key(key: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "NO SENSE",
        "RECOVERED ERROR",
        "NOT READY",
        "MEDIUM ERROR",
        "HARDWARE ERROR",
        "ILLEGAL REQUEST",
        "UNIT ATTENTION",
        "DATA PROTECT",
        "BLANK CHECK",
        "VENDOR SPECIFIC",
        "COPY ABORTED",
        "ABORTED COMMAND",
        "reserved sense key",
        "VOLUME OVERFLOW",
        "MISCOMPARE",
        "COMPLETED",
    ];
    NAMES[usize::from(key & 0x0f)]
}

/// The name of a reservation's type (SPC-5 table 62).
pub fn reservation_type(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "write exclusive",
        3 => "exclusive access",
        5 => "write exclusive, registrants only",
        6 => "exclusive access, registrants only",
        7 => "write exclusive, all registrants",
        8 => "exclusive access, all registrants",
        _ => return None,
    })
}

/// The words of an additional sense code with its qualifier, of those that disks and drives say.
pub fn additional(code: u8, qualifier: u8) -> Option<&'static str> {
    let at = ADDITIONAL.binary_search_by_key(&(code, qualifier), |(key, _)| *key).ok()?;
    Some(ADDITIONAL[at].1)
}

/// In the order of their numbers.
const ADDITIONAL: &[((u8, u8), &str)] = &[
    ((0x00, 0x06), "I/O PROCESS TERMINATED"),
    ((0x00, 0x16), "OPERATION IN PROGRESS"),
    ((0x02, 0x00), "NO SEEK COMPLETE"),
    ((0x03, 0x00), "PERIPHERAL DEVICE WRITE FAULT"),
    ((0x04, 0x00), "LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE"),
    ((0x04, 0x01), "LOGICAL UNIT IS IN PROCESS OF BECOMING READY"),
    ((0x04, 0x02), "LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED"),
    ((0x04, 0x03), "LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED"),
    ((0x04, 0x04), "LOGICAL UNIT NOT READY, FORMAT IN PROGRESS"),
    ((0x04, 0x07), "LOGICAL UNIT NOT READY, OPERATION IN PROGRESS"),
    ((0x04, 0x09), "LOGICAL UNIT NOT READY, SELF-TEST IN PROGRESS"),
    ((0x04, 0x0a), "LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION"),
    ((0x04, 0x0b), "LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE"),
    ((0x04, 0x0c), "LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE"),
    ((0x04, 0x1b), "LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS"),
    ((0x05, 0x00), "LOGICAL UNIT DOES NOT RESPOND TO SELECTION"),
    ((0x08, 0x00), "LOGICAL UNIT COMMUNICATION FAILURE"),
    ((0x08, 0x01), "LOGICAL UNIT COMMUNICATION TIME-OUT"),
    ((0x08, 0x04), "UNREACHABLE COPY TARGET"),
    ((0x0b, 0x00), "WARNING"),
    ((0x0c, 0x00), "WRITE ERROR"),
    ((0x0c, 0x0c), "WRITE ERROR, UNEXPECTED UNSOLICITED DATA"),
    ((0x0c, 0x0d), "WRITE ERROR, NOT ENOUGH UNSOLICITED DATA"),
    ((0x0d, 0x01), "THIRD PARTY DEVICE FAILURE"),
    ((0x0d, 0x02), "COPY TARGET DEVICE NOT REACHABLE"),
    ((0x10, 0x00), "ID CRC OR ECC ERROR"),
    ((0x10, 0x01), "LOGICAL BLOCK GUARD CHECK FAILED"),
    ((0x11, 0x00), "UNRECOVERED READ ERROR"),
    ((0x14, 0x00), "RECORDED ENTITY NOT FOUND"),
    ((0x1a, 0x00), "PARAMETER LIST LENGTH ERROR"),
    ((0x1d, 0x00), "MISCOMPARE DURING VERIFY OPERATION"),
    ((0x20, 0x00), "INVALID COMMAND OPERATION CODE"),
    ((0x20, 0x02), "ACCESS DENIED - NO ACCESS RIGHTS"),
    ((0x21, 0x00), "LOGICAL BLOCK ADDRESS OUT OF RANGE"),
    ((0x22, 0x00), "ILLEGAL FUNCTION"),
    ((0x23, 0x00), "INVALID TOKEN OPERATION, CAUSE NOT REPORTABLE"),
    ((0x23, 0x04), "INVALID TOKEN OPERATION, TOKEN UNKNOWN"),
    ((0x23, 0x07), "INVALID TOKEN OPERATION, TOKEN EXPIRED"),
    ((0x24, 0x00), "INVALID FIELD IN CDB"),
    ((0x25, 0x00), "LOGICAL UNIT NOT SUPPORTED"),
    ((0x26, 0x00), "INVALID FIELD IN PARAMETER LIST"),
    ((0x26, 0x04), "INVALID RELEASE OF PERSISTENT RESERVATION"),
    ((0x26, 0x06), "TOO MANY TARGET DESCRIPTORS"),
    ((0x26, 0x08), "TOO MANY SEGMENT DESCRIPTORS"),
    ((0x27, 0x00), "WRITE PROTECTED"),
    ((0x27, 0x01), "HARDWARE WRITE PROTECTED"),
    ((0x27, 0x02), "LOGICAL UNIT SOFTWARE WRITE PROTECTED"),
    ((0x27, 0x07), "SPACE ALLOCATION FAILED WRITE PROTECT"),
    ((0x28, 0x00), "NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED"),
    ((0x29, 0x00), "POWER ON, RESET, OR BUS DEVICE RESET OCCURRED"),
    ((0x29, 0x01), "POWER ON OCCURRED"),
    ((0x29, 0x02), "SCSI BUS RESET OCCURRED"),
    ((0x29, 0x03), "BUS DEVICE RESET FUNCTION OCCURRED"),
    ((0x29, 0x04), "DEVICE INTERNAL RESET"),
    ((0x29, 0x07), "I_T NEXUS LOSS OCCURRED"),
    ((0x2a, 0x00), "PARAMETERS CHANGED"),
    ((0x2a, 0x01), "MODE PARAMETERS CHANGED"),
    ((0x2a, 0x02), "LOG PARAMETERS CHANGED"),
    ((0x2a, 0x03), "RESERVATIONS PREEMPTED"),
    ((0x2a, 0x04), "RESERVATIONS RELEASED"),
    ((0x2a, 0x05), "REGISTRATIONS PREEMPTED"),
    ((0x2a, 0x06), "ASYMMETRIC ACCESS STATE CHANGED"),
    ((0x2a, 0x07), "IMPLICIT ASYMMETRIC ACCESS STATE TRANSITION FAILED"),
    ((0x2a, 0x09), "CAPACITY DATA HAS CHANGED"),
    ((0x2a, 0x10), "TIMESTAMP CHANGED"),
    ((0x2c, 0x00), "COMMAND SEQUENCE ERROR"),
    ((0x2f, 0x00), "COMMANDS CLEARED BY ANOTHER INITIATOR"),
    ((0x2f, 0x02), "COMMANDS CLEARED BY DEVICE SERVER"),
    ((0x30, 0x00), "INCOMPATIBLE MEDIUM INSTALLED"),
    ((0x31, 0x00), "MEDIUM FORMAT CORRUPTED"),
    ((0x31, 0x01), "FORMAT COMMAND FAILED"),
    ((0x31, 0x03), "SANITIZE COMMAND FAILED"),
    ((0x38, 0x07), "THIN PROVISIONING SOFT THRESHOLD REACHED"),
    ((0x39, 0x00), "SAVING PARAMETERS NOT SUPPORTED"),
    ((0x3a, 0x00), "MEDIUM NOT PRESENT"),
    ((0x3a, 0x01), "MEDIUM NOT PRESENT - TRAY CLOSED"),
    ((0x3a, 0x02), "MEDIUM NOT PRESENT - TRAY OPEN"),
    ((0x3e, 0x00), "LOGICAL UNIT HAS NOT SELF-CONFIGURED YET"),
    ((0x3e, 0x01), "LOGICAL UNIT FAILURE"),
    ((0x3e, 0x02), "TIMEOUT ON LOGICAL UNIT"),
    ((0x3f, 0x00), "TARGET OPERATING CONDITIONS HAVE CHANGED"),
    ((0x3f, 0x01), "MICROCODE HAS BEEN CHANGED"),
    ((0x3f, 0x03), "INQUIRY DATA HAS CHANGED"),
    ((0x3f, 0x0e), "REPORTED LUNS DATA HAS CHANGED"),
    ((0x44, 0x00), "INTERNAL TARGET FAILURE"),
    ((0x47, 0x05), "PROTOCOL SERVICE CRC ERROR"),
    ((0x47, 0x7f), "SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT"),
    ((0x49, 0x00), "INVALID MESSAGE ERROR"),
    ((0x4b, 0x00), "DATA PHASE ERROR"),
    ((0x4e, 0x00), "OVERLAPPED COMMANDS ATTEMPTED"),
    ((0x53, 0x00), "MEDIA LOAD OR EJECT FAILED"),
    ((0x53, 0x02), "MEDIUM REMOVAL PREVENTED"),
    ((0x55, 0x03), "INSUFFICIENT RESOURCES"),
    ((0x55, 0x04), "INSUFFICIENT REGISTRATION RESOURCES"),
    ((0x5a, 0x01), "OPERATOR MEDIUM REMOVAL REQUEST"),
    ((0x5d, 0x00), "FAILURE PREDICTION THRESHOLD EXCEEDED"),
    ((0x64, 0x00), "ILLEGAL MODE FOR THIS TRACK"),
    ((0x72, 0x00), "SESSION FIXATION ERROR"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_known_codes_have_words() {
        assert!(ADDITIONAL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(additional(0x2a, 0x09), Some("CAPACITY DATA HAS CHANGED"));
        assert_eq!(additional(0x2a, 0xff), None);
        assert_eq!((sense_key(6), &*status(0x18)), ("UNIT ATTENTION", "RESERVATION CONFLICT"));
    }
}
