//! The one command table: what a row says is what is done, checked and reported.
//!
//! A row's CDB usage map rejects reserved bits (SPC-5 4.4.2.4.2, with a field pointer) and answers
//! REPORT SUPPORTED OPERATION CODES. A command that is not a row does not exist: 05h/20h/00h.

mod identity;
mod medium;
mod report;

use crate::lane::Execution;
use scsi::{Condition, SenseKey};

/// One command.
pub(crate) struct Row {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, in the low five bits of byte 1.
    pub service_action: Option<u8>,
    /// CDB usage map (SPC-5 6.35.3): ones where the device server looks. Its length is the CDB's.
    /// Byte 0 is the operation code itself.
    pub usage: &'static [u8],
    /// Runs with a unit attention pending, and leaves it pending.
    pub ignores_attention: bool,
    /// Changes the medium.
    pub writes: bool,
    /// Makes sense for the controller at LUN 0, behind which there is no disk.
    pub for_controller: bool,
    /// What it does.
    pub run: fn(&mut Execution<'_>) -> Outcome,
}

/// How a handler leaves a command.
pub(crate) enum Outcome {
    /// GOOD; the bytes that were appended to the parameter data, cut at this length, are its data.
    Data(usize),
    /// GOOD without data.
    Good,
    /// CHECK CONDITION.
    Check(Condition),
    /// A read of the medium was queued.
    Reading,
    /// Data-out of this many bytes is awaited, to be written.
    Writing,
    /// A flush was queued.
    Flushing,
}

const fn row(opcode: u8, usage: &'static [u8], run: fn(&mut Execution<'_>) -> Outcome) -> Row {
    Row { opcode, service_action: None, usage, ignores_attention: false, writes: false, for_controller: false, run }
}

const fn writing(row: Row) -> Row {
    Row { writes: true, ..row }
}

const fn always(row: Row) -> Row {
    Row { ignores_attention: true, for_controller: true, ..row }
}

const fn action(service_action: u8, row: Row) -> Row {
    Row { service_action: Some(service_action), ..row }
}

/// Every command, by operation code and service action.
pub(crate) const COMMANDS: &[Row] = &[
    Row { for_controller: true, ..row(0x00, &[0x00, 0, 0, 0, 0, 0x07], identity::test_unit_ready) },
    always(row(0x03, &[0x03, 0x01, 0, 0, 0xff, 0x07], identity::request_sense)),
    row(0x08, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0x07], medium::read_6),
    writing(row(0x0a, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0x07], medium::write_6)),
    always(row(0x12, &[0x12, 0x01, 0xff, 0xff, 0xff, 0x07], identity::inquiry)),
    row(0x1a, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0x07], report::mode_sense_6),
    row(0x25, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], report::read_capacity_10),
    row(0x28, &[0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::read_10),
    writing(row(0x2a, &[0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::write_10)),
    row(0x35, &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::synchronize_cache_10),
    row(0x5a, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x07], report::mode_sense_10),
    row(
        0x88,
        &[0x88, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07],
        medium::read_16,
    ),
    writing(row(
        0x8a,
        &[0x8a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07],
        medium::write_16,
    )),
    row(
        0x91,
        &[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07],
        medium::synchronize_cache_16,
    ),
    action(
        0x10,
        row(0x9e, &[0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], report::read_capacity_16),
    ),
    always(row(0xa0, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], identity::report_luns)),
    action(
        0x0c,
        row(
            0xa3,
            &[0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
            report::supported_operation_codes,
        ),
    ),
    row(0xa8, &[0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07], medium::read_12),
    writing(row(0xaa, &[0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07], medium::write_12)),
];

/// The row of a CDB, its reserved bits checked.
pub(crate) fn find(cdb: &[u8]) -> Result<&'static Row, Condition> {
    let opcode = cdb.first().copied().unwrap_or(0xff);
    let action = cdb.get(1).copied().unwrap_or(0) & 0x1f;
    let mut known = false;
    let found = COMMANDS.iter().find(|row| {
        known |= row.opcode == opcode;
        row.opcode == opcode && row.service_action.is_none_or(|wanted| wanted == action)
    });
    let Some(row) = found else {
        return Err(match known {
            true => Condition::invalid_cdb_field(1, Some(4)),
            false => Condition::new(SenseKey::IllegalRequest, 0x20, 0x00),
        });
    };
    for (at, mask) in row.usage.iter().enumerate().skip(1) {
        let byte = cdb.get(at).copied().unwrap_or(0);
        let control = at + 1 == row.usage.len();
        // NACA is the one bit of CONTROL that would change what we do; ACA is not supported.
        let refused = if control { byte & 0x04 } else { byte & !mask };
        if refused != 0 {
            return Err(Condition::invalid_cdb_field(at as u16, Some((7 - refused.leading_zeros()) as u8)));
        }
    }
    Ok(row)
}

/// A big-endian number of a CDB; bytes that are not there are zeros.
pub(super) fn field(cdb: &[u8], at: usize, length: usize) -> u64 {
    (at..at + length).fold(0, |number, at| number << 8 | u64::from(cdb.get(at).copied().unwrap_or(0)))
}
