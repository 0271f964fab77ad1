//! Big-endian fields of parameter data whose length nobody vouches for: every access asks first.

/// The byte at this offset.
pub(crate) fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// Two bytes at this offset.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Four bytes at this offset.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Eight bytes at this offset.
pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// `N` bytes at this offset.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Writes the length of what follows `at + 2` into the two bytes at `at`. Our own pages are far
/// shorter than 64 KiB; one that is not says the largest length, which the reader then sees as cut.
pub(crate) fn set_length16(out: &mut [u8], at: usize) {
    let length = u16::try_from(out.len().saturating_sub(at + 2)).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// An ASCII field of fixed width, left aligned and padded with spaces (SPC-5 4.3.1). What is not
/// printable ASCII becomes a space.
pub(crate) fn push_ascii(out: &mut Vec<u8>, text: &str, width: usize) {
    let printable = text.bytes().map(|byte| if (0x20..0x7F).contains(&byte) { byte } else { b' ' });
    out.extend(printable.chain(std::iter::repeat(b' ')).take(width));
}

/// An ASCII field as text, without the padding.
pub(crate) fn ascii(bytes: &[u8]) -> String {
    let text: String =
        bytes.iter().map(|&byte| if (0x20..0x7F).contains(&byte) { char::from(byte) } else { ' ' }).collect();
    text.trim().to_owned()
}

/// A UTF-8 string, null-terminated and null-padded to a multiple of four (SPC-5 4.3.2).
pub(crate) fn push_padded_utf8(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out.extend(std::iter::repeat_n(0, (text.len() + 1).next_multiple_of(4) - text.len() - 1));
}

/// The text before the first null.
pub(crate) fn padded_utf8(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_terminated_and_padded_to_four() {
        for (text, length) in [("", 4), ("abc", 4), ("abcd", 8), ("abcdefg", 8)] {
            let mut out = Vec::new();
            push_padded_utf8(&mut out, text);
            assert_eq!(out.len(), length, "{text}");
            assert_eq!(padded_utf8(&out), Some(text));
        }
    }

    #[test]
    fn fields_beyond_the_end_are_absent() {
        assert_eq!(be32(&[1, 2, 3], 0), None);
        assert_eq!(be16(&[1, 2, 3], usize::MAX), None);
        assert_eq!(be16(&[1, 2, 3], 1), Some(0x0203));
    }
}
