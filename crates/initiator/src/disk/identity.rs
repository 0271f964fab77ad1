//! Which disk it is: its names, by which it is known again on another path and after a reconnection.

use scsi::vpd::designation::{Association, Designator};

/// Designator types (SPC-5 7.7.6), from the one that tells most to the one that tells least.
const WORTH: [u8; 4] = [NAA, EUI_64, NAME, T10];
const T10: u8 = 1;
const EUI_64: u8 = 2;
const NAA: u8 = 3;
const NAME: u8 = 8;

/// A disk's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor, from INQUIRY.
    pub vendor: String,
    /// Product, from INQUIRY.
    pub product: String,
    /// Revision, from INQUIRY.
    pub revision: String,
    /// Serial number (VPD page 80h), empty where there is none.
    pub serial: String,
    /// Designators of the logical unit (VPD page 83h): their type and value.
    designators: Vec<(u8, Vec<u8>)>,
}

impl Identity {
    /// The names in INQUIRY data, the serial number and the designators of page 83h, of which those of ports are
    /// left out.
    pub fn new(inquiry: &scsi::inquiry::Inquiry, serial: String, designators: Vec<Designator>) -> Identity {
        let own = |one: Designator| {
            let is_own = one.association == Association::LogicalUnit && WORTH.contains(&one.designator_type);
            // Without a value, or of zeros only, it names nothing.
            let says = one.value.iter().any(|byte| !matches!(byte, 0 | b' '));
            (is_own && says).then_some((one.designator_type, one.value))
        };
        Identity {
            vendor: inquiry.vendor.clone(),
            product: inquiry.product.clone(),
            revision: inquiry.revision.clone(),
            serial,
            designators: designators.into_iter().filter_map(own).collect(),
        }
    }

    fn of_type(&self, kind: u8) -> impl Iterator<Item = &[u8]> {
        self.designators.iter().filter(move |one| one.0 == kind).map(|one| one.1.as_slice())
    }

    /// Its best name: `naa.…`, `eui.…`, a SCSI name string, `t10.…`, or vendor, product and serial number; `None`
    /// for a disk that has none of them.
    pub fn name(&self) -> Option<String> {
        for kind in WORTH {
            if let Some(value) = self.of_type(kind).next() {
                return Some(written(kind, value));
            }
        }
        let serial = self.serial.trim();
        (!serial.is_empty()).then(|| format!("{} {} {serial}", self.vendor, self.product))
    }

    /// Whether both are the same disk, as far as their names tell; `None` where they have no kind of name in
    /// common.
    pub fn is_same(&self, other: &Identity) -> Option<bool> {
        for kind in WORTH {
            if self.of_type(kind).next().is_some() && other.of_type(kind).next().is_some() {
                return Some(self.of_type(kind).any(|one| other.of_type(kind).any(|another| one == another)));
            }
        }
        let [own, others] = [self, other].map(|one| (one.vendor.as_str(), one.product.as_str(), one.serial.trim()));
        (!own.2.is_empty() && !others.2.is_empty()).then_some(own == others)
    }

    /// Whether a person who writes this means this disk: `naa.` or `eui.` with its digits (`0x…`, `wwn-0x…` and
    /// the digits alone are taken too), a name string, or the serial number.
    pub fn answers_to(&self, wanted: &str) -> bool {
        let wanted = wanted.trim();
        let digits = wanted.strip_prefix("wwn-").unwrap_or(wanted);
        let digits = ["0x", "naa.", "eui."].iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
        let is_named = self.designators.iter().any(|(kind, value)| match *kind {
            NAA | EUI_64 => hex(value).eq_ignore_ascii_case(digits),
            _ => written(*kind, value).eq_ignore_ascii_case(wanted),
        });
        !wanted.is_empty() && (is_named || self.serial.trim() == wanted)
    }
}

fn written(kind: u8, value: &[u8]) -> String {
    let text = || String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned();
    match kind {
        NAA => format!("naa.{}", hex(value)),
        EUI_64 => format!("eui.{}", hex(value)),
        NAME => text(),
        _ => format!("t10.{}", text()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(designators: &[(u8, &[u8])], serial: &str) -> Identity {
        Identity {
            vendor: "V".into(),
            product: "P".into(),
            serial: serial.into(),
            designators: designators.iter().map(|(kind, value)| (*kind, value.to_vec())).collect(),
            ..Identity::default()
        }
    }

    #[test]
    fn the_best_kind_of_name_that_both_have_decides() {
        let one = identity(&[(NAA, &[0x60, 1]), (T10, b"V same")], "S1");
        let same = identity(&[(EUI_64, &[9]), (NAA, &[0x60, 1])], "S2");
        let other = identity(&[(NAA, &[0x60, 2]), (T10, b"V same")], "S1");
        let serial_only = identity(&[], "S1");
        assert_eq!((one.is_same(&same), one.is_same(&other)), (Some(true), Some(false)));
        assert_eq!(one.is_same(&serial_only), Some(true), "the serial number is all that both have");
        assert_eq!(one.is_same(&identity(&[], "")), None);
        assert_eq!(serial_only.is_same(&Identity { product: "Q".into(), ..serial_only.clone() }), Some(false));
    }

    #[test]
    fn a_person_may_write_a_name_as_it_is_seen_elsewhere() {
        let one = identity(&[(NAA, &[0x60, 0x0A]), (NAME, b"iqn.a,L,0x1\0\0")], "S-42 ");
        for wanted in ["naa.600a", "0x600A", "wwn-0x600a", "600A", "S-42", "iqn.a,L,0x1"] {
            assert!(one.answers_to(wanted), "{wanted}");
        }
        for wanted in ["", "naa.600b", "S-4", "s-42"] {
            assert!(!one.answers_to(wanted), "{wanted}");
        }
        assert_eq!(one.name().unwrap(), "naa.600a");
        assert_eq!(identity(&[], " S ").name().unwrap(), "V P S");
        assert_eq!(identity(&[], "").name(), None);
    }
}
