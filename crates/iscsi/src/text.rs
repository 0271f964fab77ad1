//! Text: `key=value` pairs, each closed by a null byte (RFC 7143 §6.1).
//!
//! Every decoder here is total: a value or a typed error for any bytes, without allocation beyond
//! what came in.

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The last pair is not closed.
    #[error("a pair without its closing null byte")]
    Unterminated,
    /// A pair without `=`.
    #[error("a pair without '='")]
    NoEquals,
    /// A key that §6.1 does not allow.
    #[error("a key that is empty, longer than 63 bytes, or holds a forbidden character")]
    BadKey,
    /// A value that is no UTF-8.
    #[error("a value that is not UTF-8")]
    NotUtf8,
}

/// The pairs of a whole text, in order.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = Result<(&str, &str), TextError>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        // Null bytes between pairs are padding that some initiators send.
        while let [0, behind @ ..] = rest {
            rest = behind;
        }
        if rest.is_empty() {
            return None;
        }
        let Some(end) = rest.iter().position(|byte| *byte == 0) else {
            rest = &[];
            return Some(Err(TextError::Unterminated));
        };
        let (pair, behind) = rest.split_at(end);
        rest = behind;
        let parsed = split(pair);
        if parsed.is_err() {
            rest = &[];
        }
        Some(parsed)
    })
}

fn split(pair: &[u8]) -> Result<(&str, &str), TextError> {
    let equals = pair.iter().position(|byte| *byte == b'=').ok_or(TextError::NoEquals)?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+@_#".contains(byte);
    if key.is_empty() || key.len() > 63 || !key.iter().all(legal) {
        return Err(TextError::BadKey);
    }
    let key = std::str::from_utf8(key).map_err(|_| TextError::BadKey)?;
    let value = std::str::from_utf8(value).map_err(|_| TextError::NotUtf8)?;
    Ok((key, value))
}

/// Appends a pair.
pub fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// A number, decimal or hexadecimal, below 2^64 (§6.1): digits only, at least one.
pub fn number(value: &str) -> Option<u64> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn txt_01_each_pair_is_closed_by_a_null_byte() {
        let mut text = Vec::new();
        push(&mut text, "InitiatorName", "iqn.2026-01.org.example:a=b");
        push(&mut text, "SessionType", "");
        let parsed: Vec<_> = pairs(&text).collect();
        assert_eq!(parsed, [Ok(("InitiatorName", "iqn.2026-01.org.example:a=b")), Ok(("SessionType", ""))]);
        text.pop();
        assert_eq!(pairs(&text).last(), Some(Err(TextError::Unterminated)));
    }

    #[test]
    fn txt_02_keys_that_are_none_are_refused() {
        let long = [&[b'k'; 64][..], b"=1\0"].concat();
        for (text, error) in [
            (&b"=1\0"[..], TextError::BadKey),
            (b"a key=1\0", TextError::BadKey),
            (b"nothing\0", TextError::NoEquals),
            (b"Key=\xff\0", TextError::NotUtf8),
            (&long, TextError::BadKey),
        ] {
            assert_eq!(pairs(text).collect::<Vec<_>>(), [Err(error)], "{text:?}");
        }
    }

    #[test]
    fn txt_03_numbers() {
        assert_eq!(number("0007"), Some(7));
        assert_eq!(number("0xFf"), Some(255));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        for bad in ["", "0x", "-1", "+1", " 1", "1 ", "18446744073709551616", "ff", "1e3"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
