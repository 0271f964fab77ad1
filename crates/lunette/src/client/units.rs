//! What is said of a logical unit in a line: its kind, size, maker and names.

use super::size;
use initiator::{Error, Unit};
use scsi::blocks::Capacity;
use scsi::inquiry::Inquiry;
use scsi::vpd::designation::{Association, Designator};

/// A logical unit as `lunette ls` shows it.
pub struct Description {
    /// INQUIRY.
    pub inquiry: Inquiry,
    /// READ CAPACITY, or why there is none.
    pub capacity: Result<Capacity, Error>,
    /// Its serial number, where it has one.
    pub serial: Option<String>,
    /// Its best name (83h).
    pub name: Option<String>,
    /// WP of the mode parameter header.
    pub read_only: Option<bool>,
}

/// Asks a unit for all of it. What a unit does not have is left out; what is lost with the session is an error.
pub async fn describe(unit: &Unit) -> Result<Description, Error> {
    let inquiry = unit.inquiry().await?;
    let serial = optional(unit.serial_number().await)?.filter(|serial| !serial.is_empty());
    let name = optional(unit.designators().await)?.and_then(|designators| best_name(&designators));
    let capacity = match unit.capacity().await {
        Err(error) if error.is_transport() => return Err(error),
        other => other,
    };
    let header = optional(unit.mode_sense(0x3f, 0, scsi::mode::PageControl::Current).await)?;
    Ok(Description { inquiry, capacity, serial, name, read_only: header.map(|header| header.device.write_protected) })
}

/// What a unit refuses or says in a way that nobody understands is not there.
fn optional<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Scsi(_) | Error::Protocol { .. } | Error::Short { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name by which a unit is told from every other, the best kind first: NAA and EUI-64 of a maker, then others,
/// then text.
pub fn best_name(designators: &[Designator]) -> Option<String> {
    let of_unit = || designators.iter().filter(|one| one.association == Association::LogicalUnit);
    let first = |kind| of_unit().find(|one| one.designator_type == kind);
    unique_name(designators).or_else(|| [3, 2, 8, 1].into_iter().find_map(first).map(designator))
}

/// The name of a unit that no other unit in the world has, if it has one. A number without a maker in it, such as
/// tgt gives, is the same on many machines.
pub fn unique_name(designators: &[Designator]) -> Option<String> {
    let of_unit = || designators.iter().filter(|one| one.association == Association::LogicalUnit);
    let is_makers = |one: &&Designator| match (one.designator_type, &*one.value) {
        // IEEE registered, and extended: the company identifier follows the first half byte.
        (3, [first @ 0x50..0x70, a, b, c, ..]) => [first & 0x0f, *a, *b, c & 0xf0] != [0; 4],
        (2, [_, _, _, _, _, _, _, _, a, b, c, ..]) if one.value.len() == 16 => [*a, *b, *c] != [0; 3],
        (2, [a, b, c, ..]) => [*a, *b, *c] != [0; 3],
        _ => false,
    };
    let found = |kind| of_unit().filter(is_makers).find(|one| one.designator_type == kind);
    [3, 2].into_iter().find_map(found).map(designator)
}

/// A designator as text: `naa.…`, `eui.…`, `t10.…` or what stands in it.
pub fn designator(designator: &Designator) -> String {
    let hex = || designator.value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = || {
        let bytes = designator.value.split(|byte| *byte == 0).next().unwrap_or_default();
        let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
        bytes.iter().map(printable).collect::<String>().trim_end().to_owned()
    };
    match designator.designator_type {
        1 => format!("t10.{}", text()),
        2 => format!("eui.{}", hex()),
        3 => format!("naa.{}", hex()),
        4 | 5 => match *designator.value {
            [_, _, high, low] => u16::from_be_bytes([high, low]).to_string(),
            _ => hex(),
        },
        8 => designator.name().map_or_else(text, str::to_owned),
        _ if designator.code_set == 1 => hex(),
        _ => text(),
    }
}

/// The name of a peripheral device type (SPC-5 6.7.2).
pub fn device_type(code: u8) -> &'static str {
    match code {
        0x00 => "disk",
        0x01 => "tape",
        0x03 => "processor",
        0x04 => "write once",
        0x05 => "cd/dvd",
        0x07 => "optical memory",
        0x08 => "changer",
        0x0c => "controller",
        0x0d => "enclosure",
        0x0e => "simple disk",
        0x11 => "object storage",
        0x14 => "zoned disk",
        0x1f => "none",
        _ => "other",
    }
}

impl Description {
    /// Its size for people, or why there is none.
    pub fn size(&self) -> String {
        match &self.capacity {
            Ok(capacity) => size(capacity.bytes()),
            Err(error) => match error.scsi().and_then(|scsi| scsi.condition()) {
                Some((2, 0x3a, _)) => "no medium".to_owned(),
                _ => "-".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_unit(designator_type: u8, value: &[u8]) -> Designator {
        Designator {
            association: Association::LogicalUnit,
            protocol: None,
            code_set: 1,
            designator_type,
            value: value.to_vec(),
        }
    }

    #[test]
    fn a_number_without_a_maker_is_no_name_in_the_world() {
        let tgt = [
            of_unit(3, &[0x30, 0, 0, 0, 1, 0, 0, 1]),
            of_unit(3, &[0x60, 0, 0, 0, 0, 0, 0, 0, 0x0e, 0, 0, 0, 0, 1, 0, 1]),
        ];
        assert_eq!(unique_name(&tgt), None);
        assert_eq!(best_name(&tgt).as_deref(), Some("naa.3000000001000001"));
        let makers = [of_unit(2, &[0x00, 0x25, 0x38, 1, 2, 3, 4, 5]), of_unit(3, &[0x5f, 0, 0, 0x10, 0, 0, 0, 1])];
        assert_eq!(unique_name(&makers).as_deref(), Some("naa.5f00001000000001"));
        assert_eq!(unique_name(&makers[..1]).as_deref(), Some("eui.0025380102030405"));
        assert_eq!(best_name(&[of_unit(1, b"VENDOR x")]).as_deref(), Some("t10.VENDOR x"));
    }
}
