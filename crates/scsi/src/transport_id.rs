//! TransportIDs of iSCSI initiators (SPC-5 7.6.4.6): the name by which a reservation remembers an
//! initiator over its sessions.

use crate::field;

/// An initiator device or one of its ports. Equality is equality of the wire form made by
/// [`TransportId::encode`]: ASCII letters of the name are folded to lower case (RFC 3722).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportId {
    /// TPID FORMAT 00b: every port of the device of this iSCSI name.
    Device {
        /// The iSCSI name.
        name: String,
    },
    /// TPID FORMAT 01b: one port, which is the name and the ISID of its sessions.
    Port {
        /// The iSCSI name.
        name: String,
        /// The ISID.
        isid: [u8; 6],
    },
}

/// Why bytes are no TransportID that iSCSI knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportIdError {
    /// The protocol identifier is not iSCSI's or the format is reserved.
    #[error("the TransportID is of another transport or format")]
    OtherTransport,
    /// The additional length is below 20, no multiple of four, or beyond the data.
    #[error("the TransportID's length is impossible")]
    Length,
    /// The name or the ISID is not what it must be.
    #[error("the TransportID's name is malformed")]
    Name,
}

impl TransportId {
    /// The port of an iSCSI initiator.
    pub fn port(name: &str, isid: [u8; 6]) -> TransportId {
        TransportId::Port { name: name.to_ascii_lowercase(), isid }
    }

    /// The iSCSI name.
    pub fn name(&self) -> &str {
        match self {
            TransportId::Device { name } | TransportId::Port { name, .. } => name,
        }
    }

    /// Its wire form: null-terminated, null-padded to a multiple of four, at least 24 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (format, text) = match self {
            TransportId::Device { name } => (FORMAT_DEVICE, name.clone()),
            TransportId::Port { name, isid } => {
                let isid: String = isid.iter().map(|byte| format!("{byte:02x}")).collect();
                (FORMAT_PORT, format!("{name}{SEPARATOR}{isid}"))
            }
        };
        let mut out = vec![format << 6 | ISCSI, 0, 0, 0];
        field::push_padded_utf8(&mut out, &text);
        out.resize(out.len().max(4 + MINIMUM), 0);
        field::set_length16(&mut out, 2);
        out
    }

    /// Reads the TransportID at the start of `bytes`; also tells how many bytes it took.
    pub fn parse(bytes: &[u8]) -> Result<(TransportId, usize), TransportIdError> {
        let first = field::byte(bytes, 0).ok_or(TransportIdError::Length)?;
        if first & 0x0F != ISCSI {
            return Err(TransportIdError::OtherTransport);
        }
        let length = usize::from(field::be16(bytes, 2).ok_or(TransportIdError::Length)?);
        if length < MINIMUM || length % 4 != 0 {
            return Err(TransportIdError::Length);
        }
        let text = bytes.get(4..4 + length).ok_or(TransportIdError::Length)?;
        if !text.contains(&0) {
            return Err(TransportIdError::Name);
        }
        let text = field::padded_utf8(text).ok_or(TransportIdError::Name)?.to_ascii_lowercase();
        let id = match first >> 6 {
            FORMAT_DEVICE => TransportId::Device { name: text },
            FORMAT_PORT => {
                let (name, isid) = text.split_once(SEPARATOR).ok_or(TransportIdError::Name)?;
                TransportId::Port { name: name.to_owned(), isid: parse_isid(isid).ok_or(TransportIdError::Name)? }
            }
            _ => return Err(TransportIdError::OtherTransport),
        };
        if id.name().is_empty() || id.name().len() > MAXIMUM_NAME || id.name().contains(',') {
            return Err(TransportIdError::Name);
        }
        Ok((id, 4 + length))
    }

    /// Reads a list of TransportIDs that fills `bytes` exactly; at most as many as its length allows.
    pub fn parse_list(mut bytes: &[u8]) -> Result<Vec<TransportId>, TransportIdError> {
        let mut list = Vec::new();
        while !bytes.is_empty() {
            let (id, length) = TransportId::parse(bytes)?;
            list.push(id);
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(list)
    }
}

fn parse_isid(text: &str) -> Option<[u8; 6]> {
    if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(text, 16).ok()?;
    field::array(&value.to_be_bytes(), 2)
}

/// PROTOCOL IDENTIFIER (SPC-5 7.6.1).
const ISCSI: u8 = 5;
const FORMAT_DEVICE: u8 = 0;
const FORMAT_PORT: u8 = 1;
/// Between name and ISID (RFC 7143 §4.4.2).
const SEPARATOR: &str = ",i,0x";
/// Least ADDITIONAL LENGTH.
const MINIMUM: usize = 20;
/// Longest iSCSI name, in bytes (RFC 7143 §4.2.7.2).
const MAXIMUM_NAME: usize = 223;

#[cfg(test)]
mod tests {
    use super::*;

    const ISID: [u8; 6] = [0x00, 0x02, 0x3D, 0x00, 0x00, 0x0A];

    #[test]
    fn nam_06_a_port_is_name_and_isid_padded_to_four() {
        let bytes = TransportId::port("iqn.2026-01.org.example:a", ISID).encode();
        assert_eq!(bytes[..4], [0x45, 0, 0, 44]);
        assert_eq!(&bytes[4..46], b"iqn.2026-01.org.example:a,i,0x00023d00000a");
        assert_eq!((bytes.len(), bytes[46], bytes[47]), (48, 0, 0));
    }

    #[test]
    fn both_formats_come_back_and_short_names_are_padded_to_the_least_length() {
        for id in [TransportId::port("iqn.x", ISID), TransportId::Device { name: "iqn.x".into() }] {
            let bytes = id.encode();
            assert!(bytes.len() >= 24 && bytes.len() % 4 == 0);
            assert_eq!(TransportId::parse(&bytes), Ok((id, bytes.len())));
        }
    }

    #[test]
    fn prs_10_hostile_lengths_and_names_are_refused() {
        let good = TransportId::port("iqn.2026-01.org.example:a", ISID).encode();
        for length in 0..good.len() {
            assert_eq!(TransportId::parse(&good[..length]), Err(TransportIdError::Length), "{length}");
        }
        for (at, value, error) in [
            (0, 0x46, TransportIdError::OtherTransport), // SAS
            (0, 0x85, TransportIdError::OtherTransport), // reserved format
            (3, 45, TransportIdError::Length),
            (3, 16, TransportIdError::Length),
            (2, 0xFF, TransportIdError::Length),
            (45, b'g', TransportIdError::Name), // not a hexadecimal digit
            (45, 0, TransportIdError::Name),    // eleven digits
            (46, b'1', TransportIdError::Name), // thirteen
            (20, b',', TransportIdError::Name),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(TransportId::parse(&bad), Err(error), "{at} {value}");
        }
        assert_eq!(TransportId::parse(&[vec![0x05, 0, 0, 20], vec![b'a'; 20]].concat()), Err(TransportIdError::Name));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_harm_the_decoder(mut bytes in proptest::collection::vec(0u8.., 0..300)) {
            if let Some(first) = bytes.first_mut() { *first = *first & 0xC0 | 5; }
            let _ = TransportId::parse_list(&bytes);
        }
    }
}
