//! CDBs as an initiator sends them: an operation code and its fields, and nothing of what they mean.

use crate::mode::PageControl;
use crate::persistent::{InAction, OutAction, ReservationType};

/// TEST UNIT READY (SPC-5 6.49).
pub const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// INQUIRY (SPC-5 6.7): standard data, or a VPD page.
pub fn inquiry(page: Option<u8>, allocation: u16) -> [u8; 6] {
    let [high, low] = allocation.to_be_bytes();
    [0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0]
}

/// REPORT LUNS (SPC-5 6.34) with SELECT REPORT 00h: the units that are addressed as disks are.
pub fn report_luns(allocation: u32) -> [u8; 12] {
    let [a, b, c, d] = allocation.to_be_bytes();
    [0xa0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

/// READ CAPACITY (16) (SBC-4 5.21).
pub fn read_capacity_16(allocation: u32) -> [u8; 16] {
    with_lba(0x9e, 0x10, 0, allocation)
}

/// READ CAPACITY (10) (SBC-4 5.20), for units that lack the long one.
pub const READ_CAPACITY_10: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// GET LBA STATUS (16) (SBC-4 5.7) from this block on.
pub fn get_lba_status(lba: u64, allocation: u32) -> [u8; 16] {
    with_lba(0x9e, 0x12, lba, allocation)
}

/// UNMAP (SBC-4 5.43) with a parameter list of so many bytes.
pub fn unmap(anchor: bool, list_bytes: u16) -> [u8; 10] {
    let [high, low] = list_bytes.to_be_bytes();
    [0x42, u8::from(anchor), 0, 0, 0, 0, 0, high, low, 0]
}

/// What WRITE SAME does besides writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteSame {
    /// UNMAP: blocks may be unmapped where they then read the same.
    pub unmap: bool,
    /// ANCHOR.
    pub anchor: bool,
    /// NDOB: there is no data-out, and zeros are written.
    pub no_data: bool,
}

/// WRITE SAME (16) (SBC-4 5.53).
pub fn write_same_16(lba: u64, blocks: u32, how: WriteSame) -> [u8; 16] {
    let flags = u8::from(how.anchor) << 4 | u8::from(how.unmap) << 3 | u8::from(how.no_data);
    with_lba(0x93, flags, lba, blocks)
}

/// COMPARE AND WRITE (SBC-4 5.3); the data-out is what is compared and then what is written.
pub fn compare_and_write(lba: u64, blocks: u8, force_unit_access: bool) -> [u8; 16] {
    let mut cdb = with_lba(0x89, u8::from(force_unit_access) << 3, lba, 0);
    cdb[13] = blocks;
    cdb
}

/// PERSISTENT RESERVE IN (SPC-5 6.16).
pub fn persistent_reserve_in(action: InAction, allocation: u16) -> [u8; 10] {
    let [high, low] = allocation.to_be_bytes();
    [0x5e, action as u8, 0, 0, 0, 0, 0, high, low, 0]
}

/// PERSISTENT RESERVE OUT (SPC-5 6.17); the scope is the logical unit.
pub fn persistent_reserve_out(action: OutAction, kind: Option<ReservationType>, list_bytes: u32) -> [u8; 10] {
    let [a, b, c, d] = list_bytes.to_be_bytes();
    [0x5f, action as u8, kind.map_or(0, |kind| kind as u8), 0, 0, a, b, c, d, 0]
}

/// MODE SENSE (10) (SPC-5 6.15), without block descriptors where `pages_only`.
pub fn mode_sense_10(page: u8, subpage: u8, control: PageControl, pages_only: bool, allocation: u16) -> [u8; 10] {
    let control = match control {
        PageControl::Current => 0x00,
        PageControl::Changeable => 0x40,
        PageControl::Default => 0x80,
        PageControl::Saved => 0xc0,
    };
    let [high, low] = allocation.to_be_bytes();
    [0x5a, u8::from(pages_only) << 3, control | page & 0x3f, subpage, 0, 0, 0, high, low, 0]
}

/// LOG SENSE (SPC-5 6.9), cumulative values.
pub fn log_sense(page: u8, subpage: u8, allocation: u16) -> [u8; 10] {
    let [high, low] = allocation.to_be_bytes();
    [0x4d, 0, 0x40 | page & 0x3f, subpage, 0, 0, 0, high, low, 0]
}

/// REPORT TARGET PORT GROUPS (SPC-5 6.37), with the header of the length alone.
pub fn report_target_port_groups(allocation: u32) -> [u8; 12] {
    let [a, b, c, d] = allocation.to_be_bytes();
    [0xa3, 0x0a, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

/// SET TARGET PORT GROUPS (SPC-5 6.45).
pub fn set_target_port_groups(list_bytes: u32) -> [u8; 12] {
    let [a, b, c, d] = list_bytes.to_be_bytes();
    [0xa4, 0x0a, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

/// The many commands of 16 bytes with an LBA at byte 2 and a count at byte 10.
fn with_lba(opcode: u8, flags: u8, lba: u64, count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_standards_have_them() {
        assert_eq!(inquiry(None, 96), [0x12, 0, 0, 0, 96, 0]);
        assert_eq!(inquiry(Some(0x83), 0x1234), [0x12, 1, 0x83, 0x12, 0x34, 0]);
        assert_eq!(report_luns(0x01020304)[6..10], [1, 2, 3, 4]);
        assert_eq!(read_capacity_16(32), [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
        assert_eq!(get_lba_status(0x0102030405060708, 9)[..10], [0x9e, 0x12, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(unmap(true, 24), [0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0]);
        let how = WriteSame { unmap: true, anchor: true, no_data: true };
        assert_eq!(write_same_16(1, 2, how), [0x93, 0x19, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
        assert_eq!(compare_and_write(5, 3, true), [0x89, 0x08, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0]);
        assert_eq!(persistent_reserve_in(InAction::ReadFullStatus, 8), [0x5e, 3, 0, 0, 0, 0, 0, 0, 8, 0]);
        let out = persistent_reserve_out(OutAction::Preempt, Some(ReservationType::ExclusiveAccess), 24);
        assert_eq!(out, [0x5f, 4, 3, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(mode_sense_10(0x08, 0, PageControl::Saved, true, 255), [0x5a, 8, 0xc8, 0, 0, 0, 0, 0, 255, 0]);
        assert_eq!(log_sense(0x19, 0, 256), [0x4d, 0, 0x59, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(report_target_port_groups(7)[..2], [0xa3, 0x0a]);
        assert_eq!(set_target_port_groups(8)[6..10], [0, 0, 0, 8]);
    }
}
