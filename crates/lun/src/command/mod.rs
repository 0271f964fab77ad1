//! The one command table: what a row says is what is done, checked and reported.
//!
//! A row's CDB usage map rejects reserved bits (SPC-5 4.4.2.4.2, with a field pointer) and answers
//! REPORT SUPPORTED OPERATION CODES. A command that is not a row does not exist: 05h/20h/00h.

pub(crate) mod compare;
pub(crate) mod copy;
mod identity;
mod log;
mod medium;
mod mode;
mod persistent;
mod power;
pub(crate) mod provisioning;
mod report;
mod sanitize;
mod token;

use crate::lane::Execution;
use crate::mail::Extent;
use crate::operation::Long;
use block::Limits;
use scsi::{Condition, SenseKey, Status};

/// One command.
pub(crate) struct Row {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, in the low five bits of byte 1.
    pub service_action: Option<u8>,
    /// CDB usage map (SPC-5 6.35.3): ones where the device server looks. Its length is the CDB's.
    /// Byte 0 is the operation code itself.
    pub usage: &'static [u8],
    /// The bits of the CDB, as one big-endian number, that are refused; the usage map says which they are.
    reserved: u128,
    /// Runs with a unit attention pending, and leaves it pending.
    pub ignores_attention: bool,
    /// Changes the medium.
    pub writes: bool,
    /// Needs a medium that is there and a unit that was not stopped.
    pub needs_medium: bool,
    /// Makes sense for the controller at LUN 0, behind which there is no disk.
    pub for_controller: bool,
    /// Whether a unit of these limits has it.
    pub offered: fn(&Limits) -> bool,
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
    /// Another status.
    Status(Status),
    /// The extent is read and sent.
    Read(Extent),
    /// As [`Outcome::Read`], after everything that was written is on stable storage (FUA).
    ReadStable(Extent),
    /// Data-out is awaited and written to the extent.
    Write {
        extent: Extent,
        /// It is on stable storage before GOOD.
        durable: bool,
    },
    /// Everything that was written goes to stable storage.
    Flush,
    /// An operation of several steps.
    Long(Long),
}

impl Row {
    const fn of(opcode: u8, usage: &'static [u8], run: fn(&mut Execution<'_>) -> Outcome) -> Row {
        Row {
            opcode,
            service_action: None,
            usage,
            reserved: reserved(usage),
            ignores_attention: false,
            writes: false,
            needs_medium: false,
            for_controller: false,
            offered: |_| true,
            run,
        }
    }

    /// Reads the medium.
    const fn reading(self) -> Row {
        Row { needs_medium: true, ..self }
    }

    /// Changes the medium.
    const fn writing(self) -> Row {
        Row { needs_medium: true, writes: true, ..self }
    }

    /// Answered by every LUN, there or not, attention or not.
    const fn always(self) -> Row {
        Row { ignores_attention: true, for_controller: true, ..self }
    }

    const fn for_controller(self) -> Row {
        Row { for_controller: true, ..self }
    }

    const fn action(self, service_action: u8) -> Row {
        Row { service_action: Some(service_action), ..self }
    }

    const fn offered(self, offered: fn(&Limits) -> bool) -> Row {
        Row { offered, ..self }
    }
}

/// The bits that this usage map leaves no meaning; all of them where it is longer than 16 bytes, so that it is
/// looked at byte by byte.
const fn reserved(usage: &[u8]) -> u128 {
    if usage.len() > 16 {
        return u128::MAX;
    }
    let mut bits = 0;
    let mut at = 1;
    while at < usage.len() {
        let byte = refused_bits(usage, at);
        bits |= (byte as u128) << (120 - 8 * at);
        at += 1;
    }
    bits
}

/// The bits of one byte of a CDB that are refused.
const fn refused_bits(usage: &[u8], at: usize) -> u8 {
    // NACA is the one bit of CONTROL that would change what we do; ACA is not supported.
    if at + 1 == usage.len() { 0x04 } else { !usage[at] }
}

/// Where the first row of each operation code stands in [`COMMANDS`], their number where there is none.
static FIRST: [u8; 256] = {
    let mut first = [COMMANDS.len() as u8; 256];
    assert!(COMMANDS.len() < 256);
    let mut at = COMMANDS.len();
    while at > 0 {
        at -= 1;
        first[COMMANDS[at].opcode as usize] = at as u8;
    }
    first
};

fn thin(limits: &Limits) -> bool {
    limits.unmap.is_some()
}

fn thin_to_zeros(limits: &Limits) -> bool {
    limits.unmap.is_some_and(|unmap| unmap.reads_zeros)
}

/// Every command, by operation code and service action.
pub(crate) const COMMANDS: &[Row] = &[
    Row::of(0x00, &[0x00, 0, 0, 0, 0, 0x07], identity::test_unit_ready).reading().for_controller(),
    Row::of(0x03, &[0x03, 0x01, 0, 0, 0xff, 0x07], identity::request_sense).always(),
    Row::of(0x04, &[0x04, 0x3f, 0, 0, 0, 0x07], sanitize::format_unit).writing(),
    Row::of(0x08, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0x07], medium::read_6).reading(),
    Row::of(0x0a, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0x07], medium::write_6).writing(),
    Row::of(0x12, &[0x12, 0x01, 0xff, 0xff, 0xff, 0x07], identity::inquiry).always(),
    Row::of(0x15, &[0x15, 0x11, 0, 0, 0xff, 0x07], mode::mode_select_6),
    Row::of(0x16, &[0x16, 0, 0, 0, 0, 0x07], persistent::reserve),
    Row::of(0x17, &[0x17, 0, 0, 0, 0, 0x07], persistent::release),
    Row::of(0x1a, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0x07], mode::mode_sense_6),
    Row::of(0x1b, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0x07], power::start_stop_unit),
    Row::of(0x1e, &[0x1e, 0, 0, 0, 0x03, 0x07], power::prevent_allow),
    Row::of(0x25, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], report::read_capacity_10),
    Row::of(0x28, &[0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::read_10).reading(),
    Row::of(0x2a, &[0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::write_10).writing(),
    Row::of(0x2e, &[0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], compare::write_and_verify_10)
        .writing(),
    Row::of(0x2f, &[0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], compare::verify_10).reading(),
    Row::of(0x34, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::prefetch_10).reading(),
    Row::of(0x35, &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::synchronize_cache_10)
        .reading(),
    Row::of(0x37, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0x07], log::read_defect_data_10).reading(),
    Row::of(0x41, &[0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], provisioning::write_same_10).writing(),
    Row::of(0x42, &[0x42, 0x01, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0x07], provisioning::unmap).writing().offered(thin),
    Row::of(0x48, &[0x48, 0xbf, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07], sanitize::overwrite).action(0x01).writing(),
    Row::of(0x48, SANITIZE_WITHOUT_LIST, sanitize::block_erase).action(0x02).writing().offered(thin_to_zeros),
    Row::of(0x48, SANITIZE_WITHOUT_LIST, sanitize::exit_failure_mode).action(0x1f).writing(),
    Row::of(0x4d, &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x07], log::log_sense),
    Row::of(0x55, &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07], mode::mode_select_10),
    Row::of(0x56, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], persistent::reserve),
    Row::of(0x57, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], persistent::release),
    Row::of(0x5a, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x07], mode::mode_sense_10),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x00),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x01),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x02),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x03),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x00),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x01),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x02),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x03),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x04),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x05),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x06),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x07),
    Row::of(0x83, EXTENDED_COPY, copy::extended_copy).action(0x00).reading(),
    Row::of(0x83, EXTENDED_COPY, copy::extended_copy).action(0x01).reading(),
    Row::of(0x83, TOKEN_COPY, token::populate_token).action(0x10).reading(),
    Row::of(0x83, TOKEN_COPY, token::write_using_token).action(0x11).writing(),
    Row::of(0x84, &[0x84, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], copy::copy_status_lid1)
        .action(0x00),
    Row::of(0x84, &[0x84, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], copy::operating_parameters)
        .action(0x03),
    Row::of(0x84, COPY_RESULTS_LID4, copy::copy_status_lid4).action(0x05),
    Row::of(0x84, COPY_RESULTS_LID4, copy::rod_token_information).action(0x07),
    Row::of(0x88, &extent_16(0x88, 0xf8), medium::read_16).reading(),
    Row::of(
        0x89,
        &[0x89, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x3f, 0x07],
        compare::compare_and_write,
    )
    .writing(),
    Row::of(0x8a, &extent_16(0x8a, 0xf8), medium::write_16).writing(),
    Row::of(0x8b, &extent_16(0x8b, 0xf8), compare::orwrite).writing(),
    Row::of(0x8e, &extent_16(0x8e, 0xf6), compare::write_and_verify_16).writing(),
    Row::of(0x8f, &extent_16(0x8f, 0xf6), compare::verify_16).reading(),
    Row::of(0x90, &extent_16(0x90, 0x02), medium::prefetch_16).reading(),
    Row::of(0x91, &extent_16(0x91, 0x02), medium::synchronize_cache_16).reading(),
    Row::of(0x93, &extent_16(0x93, 0xf9), provisioning::write_same_16).writing(),
    Row::of(
        0x9c,
        &[0x9c, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07],
        compare::write_atomic,
    )
    .writing()
    .offered(|limits| limits.atomic.is_some()),
    Row::of(0x9e, &[0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], report::read_capacity_16)
        .action(0x10),
    Row::of(
        0x9e,
        &[0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
        provisioning::get_lba_status,
    )
    .action(0x12)
    .reading(),
    Row::of(0xa0, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], identity::report_luns).always(),
    Row::of(
        0xa3,
        &[0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
        report::supported_operation_codes,
    )
    .action(0x0c),
    Row::of(
        0xa3,
        &[0xa3, 0x1f, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
        report::supported_task_management_functions,
    )
    .action(0x0d),
    Row::of(0xa8, &[0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07], medium::read_12).reading(),
    Row::of(0xaa, &[0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07], medium::write_12)
        .writing(),
    Row::of(
        0xae,
        &[0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07],
        compare::write_and_verify_12,
    )
    .writing(),
    Row::of(0xaf, &[0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07], compare::verify_12)
        .reading(),
    Row::of(0xb7, &[0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07], log::read_defect_data_12)
        .reading(),
];

const EXTENDED_COPY: &[u8] = &[0x83, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07];
const TOKEN_COPY: &[u8] = &[0x83, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07];
const COPY_RESULTS_LID4: &[u8] = &[0x84, 0x1f, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07];
const SANITIZE_WITHOUT_LIST: &[u8] = &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0x07];
const PERSISTENT_RESERVE_IN: &[u8] = &[0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07];
const PERSISTENT_RESERVE_OUT: &[u8] = &[0x5f, 0x1f, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07];

/// The usage map of the commands with a 64-bit LBA and a 32-bit length.
const fn extent_16(opcode: u8, flags: u8) -> [u8; 16] {
    let all = 0xff;
    [opcode, flags, all, all, all, all, all, all, all, all, all, all, all, all, 0x3f, 0x07]
}

/// The row of a CDB, its reserved bits checked. Where the unit's limits rule a command out it does not
/// exist.
// One caller, before every command: 50 instructions less (docs/performance.md).
#[inline(always)]
pub(crate) fn find(cdb: &[u8], limits: &Limits) -> Result<&'static Row, Condition> {
    let opcode = cdb.first().copied().unwrap_or(0xff);
    let action = cdb.get(1).copied().unwrap_or(0) & 0x1f;
    let mut known = false;
    let rows = COMMANDS.get(usize::from(FIRST[usize::from(opcode)])..).unwrap_or_default();
    let found = rows.iter().find(|row| {
        let here = row.opcode == opcode && (row.offered)(limits);
        known |= here;
        here && row.service_action.is_none_or(|wanted| wanted == action)
    });
    let Some(row) = found else {
        return Err(match known {
            true => Condition::invalid_cdb_field(1, Some(4)),
            false => Condition::new(SenseKey::IllegalRequest, 0x20, 0x00),
        });
    };
    // All bytes at once; one by one only where one is wrong, to say which.
    if let Some(first) = cdb.first_chunk::<16>()
        && u128::from_be_bytes(*first) & row.reserved == 0
    {
        return Ok(row);
    }
    for at in 1..row.usage.len() {
        let refused = cdb.get(at).copied().unwrap_or(0) & refused_bits(row.usage, at);
        if refused != 0 {
            return Err(Condition::invalid_cdb_field(at as u16, Some((7 - refused.leading_zeros()) as u8)));
        }
    }
    Ok(row)
}

/// A big-endian number of a CDB or parameter list; bytes that are not there are zeros.
pub(super) fn field(cdb: &[u8], at: usize, length: usize) -> u64 {
    (at..at + length).fold(0, |number, at| number << 8 | u64::from(cdb.get(at).copied().unwrap_or(0)))
}

/// The extent of these blocks, where the unit has them; otherwise LOGICAL BLOCK ADDRESS OUT OF RANGE
/// (SBC-4 5.2), whatever the numbers are.
pub(super) fn extent_of(limits: &Limits, block: u64, blocks: u64) -> Result<Extent, Condition> {
    let length = u64::from(limits.block_length.max(1));
    match block.checked_add(blocks) {
        // Nothing may stand right behind the last block, and nothing may be asked for there.
        Some(end) if end <= limits.blocks && (block < limits.blocks || limits.blocks == 0) => {
            Ok(Extent { offset: block * length, length: blocks * length })
        }
        _ => {
            let out_of_range = Condition::new(SenseKey::IllegalRequest, 0x21, 0x00);
            Err(out_of_range.with_information(block.max(limits.blocks)))
        }
    }
}
