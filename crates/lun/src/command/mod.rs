//! The one command table: what a row says is what is done, checked and reported.
//!
//! A row's CDB usage map rejects reserved bits (SPC-5 4.4.2.4.2, with a field pointer) and answers
//! REPORT SUPPORTED OPERATION CODES. A command that is not a row does not exist: 05h/20h/00h.

pub(crate) mod compare;
pub(crate) mod copy;
mod diagnostic;
mod identifying;
mod identity;
mod log;
mod medium;
mod mode;
mod optical;
mod persistent;
mod port_groups;
mod power;
pub(crate) mod provisioning;
mod report;
mod sanitize;
mod timestamp;
mod token;

use crate::lane::{Execution, Uses};
use crate::mail::Extent;
use crate::operation::Long;
use block::Limits;
use scsi::inquiry::{DeviceType, TargetPortGroupSupport};
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
    /// Bits of byte 1 that have no meaning and are passed over.
    passed_over: u8,
    /// Runs with a unit attention pending, and leaves it pending.
    pub ignores_attention: bool,
    /// Changes the medium.
    pub writes: bool,
    /// Needs a medium that is there and a unit that was not stopped.
    pub needs_medium: bool,
    /// Served by a port in the state standby (SPC-5 5.16.2).
    pub in_standby: bool,
    /// Served by a port in the state unavailable (SPC-5 5.16.2).
    pub in_unavailable: bool,
    /// Makes sense for the controller at LUN 0, behind which there is no disk.
    pub for_controller: bool,
    /// Sets access states: absent where only the target does (TPGS 01b).
    pub sets_access_states: bool,
    /// Which kinds of units have it.
    pub devices: Devices,
    /// Whether a unit of these limits has it.
    pub offered: fn(&Limits) -> bool,
    /// What it does.
    pub run: fn(&mut Execution<'_>) -> Outcome,
}

/// Kinds of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// Disks: commands of SBC.
    Disks,
    /// CD/DVD drives: commands of MMC.
    Drives,
    /// All: commands of SPC, and those of SBC and MMC that are the same.
    All,
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
            passed_over: 0,
            ignores_attention: false,
            writes: false,
            needs_medium: false,
            in_standby: false,
            in_unavailable: false,
            for_controller: false,
            sets_access_states: false,
            devices: Devices::Disks,
            offered: |_| true,
            run,
        }
    }

    /// Reads the medium.
    const fn reading(self) -> Row {
        Row { needs_medium: true, ..self }
    }

    /// Passes over the LUN that SCSI-2 has in byte 1. Linux writes it into its first INQUIRY when it is told to look
    /// for one logical unit alone, as it takes a target for a SCSI-2 one until it has seen an answer.
    const fn with_old_lun(self) -> Row {
        const OLD_LUN: u8 = 0xe0;
        Row { passed_over: OLD_LUN, reserved: self.reserved & !((OLD_LUN as u128) << 112), ..self }
    }

    /// Changes the medium.
    const fn writing(self) -> Row {
        Row { needs_medium: true, writes: true, ..self }
    }

    /// Answered by every LUN, there or not, attention or not, in every access state.
    const fn always(self) -> Row {
        Row { ignores_attention: true, for_controller: true, ..self }.in_unavailable()
    }

    /// Served in standby. READ CAPACITY is, though not on the standard's list, which leaves others to the
    /// device server: an initiator that comes by a standby port first is to know the disk's size.
    const fn in_standby(self) -> Row {
        Row { in_standby: true, ..self }
    }

    /// Served in standby and in unavailable.
    const fn in_unavailable(self) -> Row {
        Row { in_unavailable: true, ..self }.in_standby()
    }

    const fn sets_access_states(self) -> Row {
        Row { sets_access_states: true, ..self }.in_unavailable()
    }

    const fn for_controller(self) -> Row {
        Row { for_controller: true, ..self }
    }

    const fn action(self, service_action: u8) -> Row {
        Row { service_action: Some(service_action), ..self }
    }

    /// Drives have it too.
    const fn everywhere(self) -> Row {
        Row { devices: Devices::All, ..self }
    }

    /// Only drives have it.
    const fn optical(self) -> Row {
        Row { devices: Devices::Drives, ..self }
    }

    /// Whether a unit of this kind and these limits has it, at a target whose access states are managed so.
    pub fn is_offered(&self, device: DeviceType, limits: &Limits, management: TargetPortGroupSupport) -> bool {
        let here = match self.devices {
            Devices::All => true,
            Devices::Disks => device == DeviceType::Disk,
            Devices::Drives => device == DeviceType::Optical,
        };
        let managed = !self.sets_access_states || management == TargetPortGroupSupport::Both;
        here && managed && (self.offered)(limits)
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
    Row::of(0x00, &[0x00, 0, 0, 0, 0, 0x07], identity::test_unit_ready).reading().for_controller().everywhere(),
    Row::of(0x03, &[0x03, 0x01, 0, 0, 0xff, 0x07], identity::request_sense).always().everywhere(),
    Row::of(0x04, &[0x04, 0x3f, 0, 0, 0, 0x07], sanitize::format_unit).writing(),
    Row::of(0x08, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0x07], medium::read_6).reading(),
    Row::of(0x0a, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0x07], medium::write_6).writing(),
    Row::of(0x12, &[0x12, 0x01, 0xff, 0xff, 0xff, 0x07], identity::inquiry).always().everywhere().with_old_lun(),
    Row::of(0x15, &[0x15, 0x11, 0, 0, 0xff, 0x07], mode::mode_select_6).everywhere().in_standby(),
    Row::of(0x16, &[0x16, 0, 0, 0, 0, 0x07], persistent::reserve).everywhere(),
    Row::of(0x17, &[0x17, 0, 0, 0, 0, 0x07], persistent::release).everywhere(),
    Row::of(0x1a, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0x07], mode::mode_sense_6).everywhere().in_standby(),
    Row::of(0x1b, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0x07], power::start_stop_unit),
    Row::of(0x1b, &[0x1b, 0x01, 0, 0, 0xf3, 0x07], power::start_stop_unit).optical(),
    Row::of(0x1c, &[0x1c, 0x01, 0xff, 0xff, 0xff, 0x07], diagnostic::receive_results).everywhere().in_standby(),
    Row::of(0x1d, &[0x1d, 0xf7, 0, 0xff, 0xff, 0x07], diagnostic::send).everywhere().in_standby(),
    Row::of(0x1e, &[0x1e, 0, 0, 0, 0x03, 0x07], power::prevent_allow).everywhere(),
    Row::of(0x25, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], report::read_capacity_10).everywhere().in_standby(),
    Row::of(0x28, &[0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::read_10).reading(),
    Row::of(0x28, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x07], medium::read_10).reading().optical(),
    Row::of(0x2a, &[0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::write_10).writing(),
    Row::of(0x2e, &[0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], compare::write_and_verify_10)
        .writing(),
    Row::of(0x2f, &[0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], compare::verify_10).reading(),
    Row::of(0x34, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::prefetch_10).reading(),
    // SYNC_NV is obsolete; what it asked for is done.
    Row::of(0x35, &[0x35, 0x06, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], medium::synchronize_cache_10)
        .reading(),
    Row::of(0x37, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0x07], log::read_defect_data_10).reading(),
    Row::of(0x41, &[0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x07], provisioning::write_same_10).writing(),
    Row::of(0x42, &[0x42, 0x01, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0x07], provisioning::unmap).writing().offered(thin),
    Row::of(0x43, &[0x43, 0x02, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0xc7], optical::read_toc).reading().optical(),
    Row { ignores_attention: true, ..Row::of(0x46, GET_CONFIGURATION, optical::get_configuration).optical() },
    Row::of(0x48, &[0x48, 0xbf, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07], sanitize::overwrite).action(0x01).writing(),
    Row::of(0x48, SANITIZE_WITHOUT_LIST, sanitize::block_erase).action(0x02).writing().offered(thin_to_zeros),
    Row::of(0x48, SANITIZE_WITHOUT_LIST, sanitize::cryptographic_erase)
        .action(0x03)
        .writing()
        .offered(|limits| limits.cryptographic_erase),
    Row::of(0x48, SANITIZE_WITHOUT_LIST, sanitize::exit_failure_mode).action(0x1f).writing(),
    Row { ignores_attention: true, ..Row::of(0x4a, GET_EVENT_STATUS, optical::get_event_status).optical() },
    Row::of(0x4c, &[0x4c, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x07], log::log_select).in_standby(),
    Row::of(0x4d, &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x07], log::log_sense).in_standby(),
    Row::of(0x51, &[0x51, 0x07, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07], optical::read_disc_information).reading().optical(),
    Row::of(0x52, &[0x52, 0x03, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x07], optical::read_track_information)
        .reading()
        .optical(),
    Row::of(0x55, &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07], mode::mode_select_10).everywhere().in_standby(),
    Row::of(0x56, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], persistent::reserve).everywhere(),
    Row::of(0x57, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0x07], persistent::release).everywhere(),
    Row::of(0x5a, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x07], mode::mode_sense_10).everywhere().in_standby(),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x00).everywhere().in_standby(),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x01).everywhere().in_standby(),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x02).everywhere().in_standby(),
    Row::of(0x5e, PERSISTENT_RESERVE_IN, persistent::reserve_in).action(0x03).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x00).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x01).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x02).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x03).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x04).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x05).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x06).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x07).everywhere().in_standby(),
    Row::of(0x5f, PERSISTENT_RESERVE_OUT, persistent::reserve_out).action(0x08).everywhere().in_standby(),
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
    Row::of(0x91, &extent_16(0x91, 0x06), medium::synchronize_cache_16).reading(),
    Row::of(0x93, &extent_16(0x93, 0xf9), provisioning::write_same_16).writing(),
    Row::of(
        0x9c,
        &[0x9c, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07],
        compare::write_atomic,
    )
    .writing()
    .offered(|limits| limits.atomic.is_some()),
    Row::of(0x9e, &[0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], report::read_capacity_16)
        .action(0x10)
        .in_standby(),
    Row::of(
        0x9e,
        &[0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
        provisioning::get_lba_status,
    )
    .action(0x12)
    .reading(),
    Row::of(0xa0, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], identity::report_luns)
        .always()
        .everywhere(),
    Row::of(0xa3, &[0xa3, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x07], identifying::report)
        .action(0x05)
        .everywhere(),
    Row::of(0xa3, &[0xa3, 0x3f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], port_groups::report)
        .action(0x0a)
        .in_unavailable()
        .everywhere(),
    Row::of(
        0xa3,
        &[0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
        report::supported_operation_codes,
    )
    .action(0x0c)
    .everywhere(),
    Row::of(
        0xa3,
        &[0xa3, 0x1f, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07],
        report::supported_task_management_functions,
    )
    .action(0x0d)
    .everywhere(),
    Row::of(0xa3, &[0xa3, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], timestamp::report)
        .action(0x0f)
        .everywhere(),
    Row::of(0xa4, &[0xa4, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x07], identifying::set)
        .action(0x06)
        .everywhere(),
    Row::of(0xa4, &[0xa4, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], port_groups::set)
        .action(0x0a)
        .sets_access_states()
        .everywhere(),
    Row::of(0xa4, &[0xa4, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07], timestamp::set).action(0x0f).everywhere(),
    Row::of(0xa8, &[0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07], medium::read_12).reading(),
    Row::of(0xa8, &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x07], medium::read_12)
        .reading()
        .optical(),
    Row::of(
        0xad,
        &[0xad, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0x07],
        optical::read_disc_structure,
    )
    .reading()
    .optical(),
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
    Row::of(0xb9, &[0xb9, 0x1c, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8, 0x07, 0x07], optical::read_cd_msf)
        .reading()
        .optical(),
    Row::of(0xbd, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0x07], optical::mechanism_status).optical(),
    Row::of(0xbe, &[0xbe, 0x1c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8, 0x07, 0x07], optical::read_cd)
        .reading()
        .optical(),
];

const EXTENDED_COPY: &[u8] = &[0x83, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07];
const TOKEN_COPY: &[u8] = &[0x83, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x07];
const COPY_RESULTS_LID4: &[u8] = &[0x84, 0x1f, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x07];
const GET_CONFIGURATION: &[u8] = &[0x46, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x07];
const GET_EVENT_STATUS: &[u8] = &[0x4a, 0x01, 0, 0, 0xff, 0, 0, 0xff, 0xff, 0x07];
const SANITIZE_WITHOUT_LIST: &[u8] = &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0x07];
const PERSISTENT_RESERVE_IN: &[u8] = &[0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0x07];
const PERSISTENT_RESERVE_OUT: &[u8] = &[0x5f, 0x1f, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07];

/// The usage map of the commands with a 64-bit LBA and a 32-bit length.
const fn extent_16(opcode: u8, flags: u8) -> [u8; 16] {
    let all = 0xff;
    [opcode, flags, all, all, all, all, all, all, all, all, all, all, all, all, 0x3f, 0x07]
}

/// The row of a CDB, its reserved bits checked. Where the unit's kind or limits rule a command out it does
/// not exist, nor where it would set what only the target does.
// One caller, before every command: 50 instructions less (docs/performance.md).
#[inline(always)]
pub(crate) fn find(
    cdb: &[u8],
    device: DeviceType,
    limits: &Limits,
    management: TargetPortGroupSupport,
) -> Result<&'static Row, Condition> {
    let opcode = cdb.first().copied().unwrap_or(0xff);
    let action = cdb.get(1).copied().unwrap_or(0) & 0x1f;
    let mut known = false;
    let rows = COMMANDS.get(usize::from(FIRST[usize::from(opcode)])..).unwrap_or_default();
    let found = rows.iter().find(|row| {
        let here = row.opcode == opcode && row.is_offered(device, limits, management);
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
        let passed_over = if at == 1 { row.passed_over } else { 0 };
        let refused = cdb.get(at).copied().unwrap_or(0) & refused_bits(row.usage, at) & !passed_over;
        if refused != 0 {
            return Err(Condition::invalid_cdb_field(at as u16, Some((7 - refused.leading_zeros()) as u8)));
        }
    }
    Ok(row)
}

/// What the command of this CDB does with the medium.
pub(crate) fn uses(cdb: &[u8]) -> Uses {
    let (opcode, action) = (cdb.first().copied().unwrap_or(0xff), cdb.get(1).copied().unwrap_or(0) & 0x1f);
    let is = |row: &&Row| row.opcode == opcode && row.service_action.is_none_or(|wanted| wanted == action);
    match COMMANDS.iter().find(is) {
        Some(row) if row.writes => Uses::Writes,
        Some(row) if row.needs_medium => Uses::Medium,
        _ => Uses::Nothing,
    }
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
