//! Additional header segments (RFC 7143 §11.2.2): the CDB's rest, the bidirectional read length.

/// One additional header segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdditionalHeader<'a> {
    /// The CDB's bytes from the seventeenth on (§11.2.2.3).
    ExtendedCdb(&'a [u8]),
    /// Bidirectional Read Expected Data Transfer Length (§11.2.2.4).
    BidirectionalReadLength(u32),
    /// A type that this document does not define.
    Unknown(u8),
}

/// A walk over the additional header segments of a PDU, which may lie about their lengths.
pub struct AdditionalHeaders<'a> {
    rest: &'a [u8],
}

impl<'a> AdditionalHeaders<'a> {
    /// A walk over these bytes: what follows the basic header segment, TotalAHSLength words of it.
    pub fn new(bytes: &'a [u8]) -> Self {
        AdditionalHeaders { rest: bytes }
    }
}

impl<'a> Iterator for AdditionalHeaders<'a> {
    /// A segment, or `Err` where the lengths do not add up; nothing follows an error.
    type Item = Result<AdditionalHeader<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = parse_one(self.rest);
        self.rest = parsed.map_or(&[], |(_, rest)| rest);
        Some(parsed.map(|(segment, _)| segment).ok_or(()))
    }
}

fn parse_one(bytes: &[u8]) -> Option<(AdditionalHeader<'_>, &[u8])> {
    let (head, _) = bytes.split_first_chunk::<3>()?;
    // AHSLength counts the bytes behind the type byte; at least the AHS-specific byte is there.
    let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let body = bytes.get(3..)?;
    let content = body.get(..length)?;
    let rest =
        body.get((length + 3).next_multiple_of(4) - 3..).or_else(|| (body.len() == length).then_some(&[][..]))?;
    let segment = match head[2] & 0x3f {
        1 if length > 1 => AdditionalHeader::ExtendedCdb(content.get(1..)?),
        2 if length == 5 => AdditionalHeader::BidirectionalReadLength(u32::from_be_bytes(*content.last_chunk::<4>()?)),
        1 | 2 => return None,
        _ if length == 0 => return None,
        other => AdditionalHeader::Unknown(other),
    };
    Some((segment, rest))
}

/// A CDB longer than 16 bytes: its start from the header and its rest from the extension.
pub fn extended_cdb(start: &[u8; 16], rest: &[u8]) -> Box<[u8]> {
    start.iter().chain(rest).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Result<AdditionalHeader<'_>, ()>> {
        AdditionalHeaders::new(bytes).collect()
    }

    #[test]
    fn pdu_10_extended_cdb_of_32_bytes() {
        // AHSLength is the CDB's length minus 15: a reserved byte and 16 bytes.
        let mut bytes = vec![0, 17, 1, 0];
        bytes.extend(16..32u8);
        assert_eq!(walk(&bytes), [Ok(AdditionalHeader::ExtendedCdb(&(16..32).collect::<Vec<u8>>()))]);
        assert_eq!(extended_cdb(&std::array::from_fn(|i| i as u8), &bytes[4..]).len(), 32);
    }

    #[test]
    fn pdu_11_bidirectional_read_length() {
        assert_eq!(walk(&[0, 5, 2, 0, 0, 0, 0x20, 0]), [Ok(AdditionalHeader::BidirectionalReadLength(8192))]);
        assert_eq!(walk(&[0, 6, 2, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]), [Err(())]);
    }

    #[test]
    fn pdu_12_lying_lengths_end_the_walk() {
        for bytes in
            [&[0xff, 0xff, 1, 0][..], &[0, 0, 1, 0], &[0, 1, 1, 0], &[0, 9, 1, 0, 1, 2, 3, 4], &[0, 0, 0, 0], &[0]]
        {
            assert_eq!(walk(bytes), [Err(())], "{bytes:02x?}");
        }
        assert_eq!(walk(&[0, 1, 9, 0]), [Ok(AdditionalHeader::Unknown(9))]);
    }
}
