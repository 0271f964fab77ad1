//! Commands that every LUN answers: who are you, are you there, which LUNs are there.

use super::{Outcome, field};
use crate::commons::flag;
use crate::lane::Execution;
use scsi::{Condition, Sense, SenseKey, inquiry, vpd};

/// Vendor and product of what is not a disk.
const CONTROLLER: (&str, &str, &str) = ("LUNETTE", "Controller", "0001");
/// A storage array controller device.
const CONTROLLER_TYPE: u8 = 0x0c;

/// TEST UNIT READY (SPC-5 6.47).
pub(super) fn test_unit_ready(_: &mut Execution<'_>) -> Outcome {
    Outcome::Good
}

/// REQUEST SENSE (SPC-5 6.39): a pending unit attention, why the unit is not ready, or no sense; never a
/// CHECK CONDITION of its own.
pub(super) fn request_sense(execution: &mut Execution<'_>) -> Outcome {
    let condition = execution.take_attention().unwrap_or(match execution.is_absent() {
        true => Condition::new(SenseKey::IllegalRequest, 0x25, 0x00),
        false => execution.not_ready().unwrap_or(power_condition(execution.flags())),
    });
    let sense = Sense::encode(&condition, field(execution.cdb, 1, 1) & 1 != 0);
    execution.data.extend_from_slice(sense.as_bytes());
    Outcome::Data(field(execution.cdb, 4, 1) as usize)
}

/// No sense, with the power condition where it is not active (SBC-4 5.31, SPC-5 6.39).
fn power_condition(flags: u32) -> Condition {
    let (code, qualifier) = match flags {
        // IDLE CONDITION ACTIVATED BY COMMAND; STANDBY CONDITION ACTIVATED BY COMMAND.
        flags if flags & flag::IDLE != 0 => (0x5e, 0x03),
        flags if flags & flag::STANDBY != 0 => (0x5e, 0x04),
        _ => (0x00, 0x00),
    };
    Condition::new(SenseKey::NoSense, code, qualifier)
}

/// INQUIRY (SPC-5 6.7).
pub(super) fn inquiry(execution: &mut Execution<'_>) -> Outcome {
    let (evpd, page) = (field(execution.cdb, 1, 1) & 1 != 0, field(execution.cdb, 2, 1) as u8);
    let allocation = field(execution.cdb, 3, 2) as usize;
    if !evpd && page != 0 {
        return Outcome::Check(Condition::invalid_cdb_field(2, Some(7)));
    }
    let (vendor, product, revision) = CONTROLLER;
    let mut data = std::mem::take(execution.data);
    let known = execution.with_facts(|facts| match evpd {
        true => vpd::encode(page, facts, &mut data).is_ok(),
        false => {
            inquiry::encode(facts, &mut data);
            true
        }
    });
    let known = known.unwrap_or_else(|| {
        if evpd && execution.is_controller() {
            return controller_page(page, execution, &mut data);
        }
        inquiry::encode_absent(vendor, product, revision, &mut data);
        if execution.is_controller()
            && let Some(first) = data.first_mut()
        {
            // A storage array controller device, connected (SAM-5 4.7.2: LUN 0 always answers).
            *first = CONTROLLER_TYPE;
        }
        !evpd
    });
    *execution.data = data;
    if known { Outcome::Data(allocation) } else { Outcome::Check(Condition::invalid_cdb_field(2, Some(7))) }
}

/// The vital product data of the controller at LUN 0: which port and device it belongs to.
fn controller_page(page: u8, execution: &Execution<'_>, out: &mut Vec<u8>) -> bool {
    match page {
        0x00 => out.extend_from_slice(&[CONTROLLER_TYPE, 0, 0, 2, 0x00, 0x83]),
        0x83 => {
            out.extend_from_slice(&[CONTROLLER_TYPE, 0x83, 0, 0]);
            vpd::designation::encode_port(&execution.port(), out);
            let length = u16::try_from(out.len() - 4).unwrap_or(u16::MAX);
            out[2..4].copy_from_slice(&length.to_be_bytes());
        }
        _ => return false,
    }
    true
}

/// REPORT LUNS (SPC-5 6.33).
pub(super) fn report_luns(execution: &mut Execution<'_>) -> Outcome {
    let (select, allocation) = (field(execution.cdb, 2, 1), field(execution.cdb, 6, 4) as usize);
    // No well-known logical units, and no conglomerates with their administrative and subsidiary units.
    let plain = match select {
        0x00 | 0x02 => true,
        0x01 => false,
        // Of the whole target, and so a question for LUN 0 alone.
        0x10 if execution.is_lun_0() => false,
        0x11 if execution.is_lun_0() => true,
        // Of the unit that is asked.
        0x12 => false,
        _ => return Outcome::Check(Condition::invalid_cdb_field(2, Some(7))),
    };
    let mut numbers = Vec::new();
    if plain {
        numbers.extend(execution.units().entries.iter().map(|entry| entry.number));
        if numbers.first() != Some(&0) {
            numbers.insert(0, 0);
        }
    }
    execution.data.extend_from_slice(&(numbers.len() as u32 * 8).to_be_bytes());
    execution.data.extend_from_slice(&[0; 4]);
    for number in numbers {
        // Peripheral device addressing below 256, flat space addressing above (SAM-5 4.7.7).
        let [high, low] = if number < 256 { number } else { number | 0x4000 }.to_be_bytes();
        execution.data.extend_from_slice(&[high, low, 0, 0, 0, 0, 0, 0]);
    }
    if !execution.is_absent() {
        execution.inventory_told();
    }
    Outcome::Data(allocation)
}
