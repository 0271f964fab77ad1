//! 88h, SCSI ports (SPC-5 7.7.15): every target port of the device.

use super::{ParseError, body, designation};
use crate::{field, inquiry::Facts};

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    for port in facts.ports {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&port.relative_identifier.to_be_bytes());
        // No initiator port lives here: a TransportID of no length.
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0]);
        let length_at = out.len() - 2;
        designation::push_port_name(port, out);
        field::set_length16(out, length_at);
    }
}

/// A port as an initiator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedPort {
    /// Relative identifier.
    pub relative_identifier: u16,
    /// Its names.
    pub designators: Vec<designation::Designator>,
}

/// The ports of a page.
pub fn parse(bytes: &[u8]) -> Result<Vec<ReportedPort>, ParseError> {
    let mut rest = body(0x88, bytes)?;
    let mut list = Vec::new();
    while !rest.is_empty() {
        let relative_identifier = field::be16(rest, 2).ok_or(ParseError::Truncated)?;
        let initiator = usize::from(field::be16(rest, 6).ok_or(ParseError::Truncated)?);
        let names_at = 8 + initiator + 4;
        let names = usize::from(field::be16(rest, names_at - 2).ok_or(ParseError::Truncated)?);
        let descriptors = rest.get(names_at..names_at + names).ok_or(ParseError::Truncated)?;
        list.push(ReportedPort { relative_identifier, designators: designation::parse_list(descriptors)? });
        rest = rest.get(names_at + names..).unwrap_or_default();
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn every_port_of_the_target_is_listed_with_its_name() {
        let list = parse(&page(0x88, &facts())).unwrap();
        let names: Vec<_> = list.iter().map(|port| (port.relative_identifier, port.designators[0].name())).collect();
        assert_eq!(
            names,
            [(1, Some("iqn.2026-01.org.example:disk,t,0x0001")), (2, Some("iqn.2026-01.org.example:disk,t,0x0002"))]
        );
    }
}
