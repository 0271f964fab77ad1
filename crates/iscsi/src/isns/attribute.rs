//! Attributes: a tag, a length, a value (RFC 4171 §5.3, §6).

use super::wire::FormatError;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of tag and length.
const PREFIX_BYTES: usize = 8;
/// The longest text with its NUL (RFC 4171 §6.2.1, §6.4.3).
const MAXIMUM_TEXT: usize = 256;
/// Bit 15 of a port says UDP (RFC 4171 §6.3.2).
const UDP: u32 = 1 << 16;

/// What an attribute is about (RFC 4171 §6.1). Tags that have no name here can be carried all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

#[rustfmt::skip]
impl Tag {
    /// Between the message key and the operating attributes.
    pub const DELIMITER: Tag = Tag(0);
    /// The name of a network entity; a key.
    pub const ENTITY_IDENTIFIER: Tag = Tag(1);
    /// 2 for iSCSI.
    pub const ENTITY_PROTOCOL: Tag = Tag(2);
    /// Seconds since 1970, 8 bytes.
    pub const TIMESTAMP: Tag = Tag(4);
    /// Seconds without a message after which a registration ends.
    pub const REGISTRATION_PERIOD: Tag = Tag(6);
    /// The address of a portal; a key together with its port.
    pub const PORTAL_ADDRESS: Tag = Tag(16);
    /// The port of a portal.
    pub const PORTAL_PORT: Tag = Tag(17);
    /// Seconds between two entity status inquiries.
    pub const ESI_INTERVAL: Tag = Tag(19);
    /// Where they are sent.
    pub const ESI_PORT: Tag = Tag(20);
    /// Where state change notifications are sent.
    pub const SCN_PORT: Tag = Tag(23);
    /// The name of a storage node; a key.
    pub const ISCSI_NAME: Tag = Tag(32);
    /// Target, initiator, control node: a bitmap.
    pub const ISCSI_NODE_TYPE: Tag = Tag(33);
    /// Its alias.
    pub const ISCSI_ALIAS: Tag = Tag(34);
    /// Of which changes it wants to hear; which have happened.
    pub const ISCSI_SCN_BITMAP: Tag = Tag(35);
    /// The node of a portal group.
    pub const GROUP_ISCSI_NAME: Tag = Tag(48);
    /// The portal of a portal group.
    pub const GROUP_PORTAL_ADDRESS: Tag = Tag(49);
    /// Its port.
    pub const GROUP_PORTAL_PORT: Tag = Tag(50);
    /// The portal group tag; empty where the portal does not lead to the node.
    pub const GROUP_TAG: Tag = Tag(51);
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What it is.
    pub tag: Tag,
    /// Its value with its padding; a multiple of four bytes.
    pub value: Vec<u8>,
}

impl Attribute {
    /// One without a value: what is asked for in a query, or NULL.
    pub fn empty(tag: Tag) -> Attribute {
        Attribute { tag, value: Vec::new() }
    }

    /// A number of four bytes.
    pub fn number(tag: Tag, number: u32) -> Attribute {
        Attribute { tag, value: number.to_be_bytes().to_vec() }
    }

    /// A number of eight bytes.
    pub fn timestamp(seconds: u64) -> Attribute {
        Attribute { tag: Tag::TIMESTAMP, value: seconds.to_be_bytes().to_vec() }
    }

    /// A text. What is longer than 255 bytes is cut.
    pub fn text(tag: Tag, text: &str) -> Attribute {
        let end = text.floor_char_boundary(MAXIMUM_TEXT - 1);
        let text = text.split('\0').next().unwrap_or("");
        let mut value = text.get(..end.min(text.len())).unwrap_or("").as_bytes().to_vec();
        value.push(0);
        value.resize(value.len().next_multiple_of(4), 0);
        Attribute { tag, value }
    }

    /// An address; IPv4 in its mapped form (RFC 4171 §6.3.1).
    pub fn address(tag: Tag, address: IpAddr) -> Attribute {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Attribute { tag, value: address.octets().to_vec() }
    }

    /// A TCP port (RFC 4171 §6.3.2).
    pub fn port(tag: Tag, port: u16) -> Attribute {
        Attribute::number(tag, port.into())
    }

    /// The value as a number.
    pub fn as_number(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.as_slice().try_into().ok()?))
    }

    /// The value as a text: UTF-8 that ends with a NUL, with nothing but NULs behind it.
    pub fn as_text(&self) -> Option<&str> {
        if self.value.len() > MAXIMUM_TEXT {
            return None;
        }
        let end = self.value.iter().position(|byte| *byte == 0)?;
        let (text, padding) = self.value.split_at_checked(end)?;
        match padding.iter().all(|byte| *byte == 0) {
            true => std::str::from_utf8(text).ok(),
            false => None,
        }
    }

    /// The value as an address.
    pub fn as_address(&self) -> Option<IpAddr> {
        let octets: [u8; 16] = self.value.as_slice().try_into().ok()?;
        Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
    }

    /// The value as a TCP port.
    pub fn as_port(&self) -> Option<u16> {
        let number = self.as_number()?;
        match number & UDP {
            0 => u16::try_from(number & 0xffff).ok(),
            _ => None,
        }
    }

    /// Writes it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.value.len()).unwrap_or(u32::MAX);
        out.extend(self.tag.0.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(&self.value);
    }

    /// All attributes of a payload, which has to be used up by them.
    pub fn decode_all(mut payload: &[u8]) -> Result<Vec<Attribute>, FormatError> {
        let mut attributes = Vec::new();
        while !payload.is_empty() {
            let (prefix, rest) = payload.split_first_chunk::<PREFIX_BYTES>().ok_or(FormatError::Attribute)?;
            let [a, b, c, d, e, f, g, h] = *prefix;
            let length = u32::from_be_bytes([e, f, g, h]);
            let bytes =
                usize::try_from(length).ok().filter(|length| length.is_multiple_of(4)).ok_or(FormatError::Attribute)?;
            let (value, rest) = rest.split_at_checked(bytes).ok_or(FormatError::Attribute)?;
            attributes.push(Attribute { tag: Tag(u32::from_be_bytes([a, b, c, d])), value: value.to_vec() });
            payload = rest;
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_padded_and_read_back() {
        let name = Attribute::text(Tag::ISCSI_NAME, "iqn.2026-11.com.example:a");
        assert_eq!((name.value.len(), name.as_text()), (28, Some("iqn.2026-11.com.example:a")));
        // Three characters and a NUL are four bytes; four need eight.
        assert_eq!(Attribute::text(Tag::ISCSI_ALIAS, "abc").value, b"abc\0");
        assert_eq!(Attribute::text(Tag::ISCSI_ALIAS, "abcd").value, b"abcd\0\0\0\0");
        let four = Attribute::address(Tag::PORTAL_ADDRESS, "192.0.2.7".parse().unwrap());
        assert_eq!(four.value, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]);
        assert_eq!(four.as_address(), "192.0.2.7".parse().ok());
        assert_eq!(Attribute::port(Tag::PORTAL_PORT, 3260).as_port(), Some(3260));
        assert_eq!(Attribute::number(Tag::PORTAL_PORT, 0x1_0cbc).as_port(), None, "that is UDP");
    }

    #[test]
    fn names_of_all_lengths_up_to_224_bytes_with_their_nul() {
        for length in 1..=223 {
            let name = "n".repeat(length);
            let attribute = Attribute::text(Tag::ISCSI_NAME, &name);
            assert!(attribute.value.len() <= 224 && attribute.value.len().is_multiple_of(4));
            assert_eq!(attribute.as_text(), Some(name.as_str()));
        }
        // What is too long is cut where a character ends.
        assert_eq!(Attribute::text(Tag::ISCSI_ALIAS, &"ż".repeat(200)).as_text().map(str::len), Some(254));
    }

    #[test]
    fn texts_that_lie_are_none() {
        let of = |value: &[u8]| Attribute { tag: Tag::ISCSI_NAME, value: value.to_vec() };
        assert_eq!(of(b"abcd").as_text(), None, "no NUL");
        assert_eq!(of(b"ab\0d").as_text(), None, "something behind the NUL");
        assert_eq!(of(b"\xff\xfe\0\0").as_text(), None, "no UTF-8");
        assert_eq!(of(&[0; 260]).as_text(), None, "too long");
        assert_eq!(of(b"").as_text(), None);
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        for payload in [
            &b"\0\0\0\x20\0\0\0\x08abcd"[..],
            b"\0\0\0\x20\xff\xff\xff\xfc",
            b"\0\0\0\x20\xff\xff\xff\xff",
            b"\0\0\0\x20\0\0\0\x03abc",
            b"\0\0\0\x20\0\0\0",
            b"\0",
        ] {
            assert_eq!(Attribute::decode_all(payload), Err(FormatError::Attribute), "{payload:x?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_was_written_is_read_back(
            all in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<[u8; 4]>(), 0..60)), 0..12),
        ) {
            let all: Vec<_> =
                all.into_iter().map(|(tag, words)| Attribute { tag: Tag(tag), value: words.concat() }).collect();
            let mut bytes = Vec::new();
            all.iter().for_each(|attribute| attribute.encode(&mut bytes));
            prop_assert_eq!(Attribute::decode_all(&bytes), Ok(all));
        }

        #[test]
        fn any_bytes_are_attributes_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for attribute in Attribute::decode_all(&bytes).unwrap_or_default() {
                let _ = (attribute.as_number(), attribute.as_text(), attribute.as_address(), attribute.as_port());
            }
        }
    }
}
