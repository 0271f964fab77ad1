//! Commands of CD and DVD drives (MMC-6 clause 6). The medium is one data track of Mode 1 sectors.

use super::{Outcome, extent_of, field};
use crate::commons::flag;
use crate::lane::Execution;
use scsi::mmc::{self, Medium, configuration, disc, event, structure, toc};
use scsi::{Condition, SenseKey};

/// What lies in the drive.
fn medium(execution: &Execution<'_>) -> Option<Medium> {
    execution.missing_medium().is_none().then(|| Medium::of(execution.limits().blocks))
}

/// CANNOT READ MEDIUM - INCOMPATIBLE FORMAT.
const INCOMPATIBLE: Outcome = Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x30, 0x02));

/// READ TOC/PMA/ATIP.
pub(super) fn read_toc(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let (msf, number) = (field(cdb, 1, 1) & 2 != 0, field(cdb, 6, 1) as u8);
    // Before MMC-2 the format stood in the vendor's bits of CONTROL, where Linux still asks for the sessions.
    let code = match field(cdb, 2, 1) as u8 & 0x0f {
        0 => (field(cdb, 9, 1) >> 6) as u8,
        code => code,
    };
    let no_format = Outcome::Check(Condition::invalid_cdb_field(2, Some(3)));
    let Some(format) = toc::Format::of(code) else { return no_format };
    let blocks = execution.limits().blocks;
    match toc::encode(format, msf, number, blocks, execution.data) {
        Ok(()) => Outcome::Data(field(cdb, 7, 2) as usize),
        Err(toc::Refusal::Format) => no_format,
        Err(toc::Refusal::Number) => Outcome::Check(Condition::invalid_cdb_field(6, Some(7))),
    }
}

/// GET CONFIGURATION.
pub(super) fn get_configuration(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let Some(requested) = configuration::Requested::of(field(cdb, 1, 1) as u8 & 3) else {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(1)));
    };
    let medium = medium(execution);
    configuration::encode(requested, field(cdb, 2, 2) as u16, medium, execution.data);
    Outcome::Data(field(cdb, 7, 2) as usize)
}

fn drive(execution: &Execution<'_>) -> event::Drive {
    event::Drive { present: medium(execution).is_some(), open: execution.flags() & flag::EJECTED != 0 }
}

/// GET EVENT STATUS NOTIFICATION. Only polled: nothing is told that nobody waits for.
pub(super) fn get_event_status(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    if field(cdb, 1, 1) & 1 == 0 {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(0)));
    }
    let allocation = field(cdb, 7, 2) as usize;
    let (drive, pending) = (drive(execution), execution.media_event());
    let told = event::encode(field(cdb, 4, 1) as u8, pending, drive, execution.data);
    // Of who takes the header alone the event is not told (MMC-6 6.7.2).
    if told && allocation > 4 {
        execution.media_event_told();
    }
    Outcome::Data(allocation)
}

/// MECHANISM STATUS.
pub(super) fn mechanism_status(execution: &mut Execution<'_>) -> Outcome {
    let drive = drive(execution);
    event::encode_mechanism(drive, execution.data);
    Outcome::Data(field(execution.cdb, 8, 2) as usize)
}

/// READ DISC INFORMATION: the standard information; track and POW resources belong to what is written.
pub(super) fn read_disc_information(execution: &mut Execution<'_>) -> Outcome {
    if field(execution.cdb, 1, 1) & 7 != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(2)));
    }
    let blocks = execution.limits().blocks;
    disc::encode(blocks, execution.data);
    Outcome::Data(field(execution.cdb, 7, 2) as usize)
}

/// READ TRACK INFORMATION, by an address in the track, its number or that of its session.
pub(super) fn read_track_information(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let (kind, address, blocks) = (field(cdb, 1, 1) & 3, field(cdb, 2, 4), execution.limits().blocks);
    match kind {
        0 if address >= blocks => {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x21, 0x00).with_information(blocks));
        }
        0 => {}
        1 | 2 if address == 1 => {}
        1 | 2 => return Outcome::Check(Condition::invalid_cdb_field(2, Some(7))),
        _ => return Outcome::Check(Condition::invalid_cdb_field(1, Some(1))),
    }
    disc::encode_track(blocks, execution.data);
    Outcome::Data(field(cdb, 7, 2) as usize)
}

/// READ DISC STRUCTURE, of a DVD.
pub(super) fn read_disc_structure(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    // MEDIA TYPE: DVD. What is not in the drive has no structure.
    if field(cdb, 1, 1) & 0x0f != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(3)));
    }
    if medium(execution) != Some(Medium::Dvd) {
        return INCOMPATIBLE;
    }
    // LAYER NUMBER.
    if field(cdb, 6, 1) != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(6, Some(7)));
    }
    let blocks = execution.limits().blocks;
    match structure::encode(field(cdb, 7, 1) as u8, blocks, execution.data) {
        true => Outcome::Data(field(cdb, 8, 2) as usize),
        false => Outcome::Check(Condition::invalid_cdb_field(7, Some(7))),
    }
}

/// READ CD.
pub(super) fn read_cd(execution: &mut Execution<'_>) -> Outcome {
    let (block, blocks) = (field(execution.cdb, 2, 4), field(execution.cdb, 6, 3));
    read_sectors(execution, block, blocks, 6)
}

/// READ CD MSF: from one address up to, but without, another.
pub(super) fn read_cd_msf(execution: &mut Execution<'_>) -> Outcome {
    let address = |at| {
        let [.., minute, second, frame] = field(execution.cdb, at, 3).to_be_bytes();
        mmc::block_of([minute, second, frame])
    };
    let Some(block) = address(3) else { return Outcome::Check(Condition::invalid_cdb_field(3, Some(7))) };
    let blocks = address(6).and_then(|end| end.checked_sub(block));
    let Some(blocks) = blocks else { return Outcome::Check(Condition::invalid_cdb_field(6, Some(7))) };
    read_sectors(execution, block, blocks, 6)
}

/// The user data of sectors. Of sync, headers, EDC and ECC, error flags and sub-channels the image holds
/// nothing, and they are not made up.
fn read_sectors(execution: &mut Execution<'_>, block: u64, blocks: u64, length_field: u16) -> Outcome {
    if medium(execution) != Some(Medium::Cd) {
        return INCOMPATIBLE;
    }
    // EXPECTED SECTOR TYPE: any or Mode 1; else ILLEGAL MODE FOR THIS TRACK.
    if !matches!(field(execution.cdb, 1, 1) >> 2 & 7, 0 | 2) {
        return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x64, 0x00));
    }
    let (main, sub) = (field(execution.cdb, 9, 1) & 0xf8, field(execution.cdb, 10, 1) & 7);
    let unknown = main & !USER_DATA;
    if unknown != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(9, Some((7 - (unknown as u8).leading_zeros()) as u8)));
    }
    if sub != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(10, Some(2)));
    }
    let extent = match extent_of(execution.limits(), block, blocks) {
        Ok(extent) => extent,
        Err(condition) => return Outcome::Check(condition),
    };
    if blocks > execution.maximum_transfer() {
        return Outcome::Check(Condition::invalid_cdb_field(length_field, Some(7)));
    }
    if main == 0 || blocks == 0 { Outcome::Good } else { Outcome::Read(extent) }
}

/// MAIN CHANNEL SELECTION: user data.
const USER_DATA: u64 = 0x10;
