//! What initiators call a unit: its identifying information (SPC-5 5.6), kept over everything but another
//! SET IDENTIFYING INFORMATION.
//!
//! ```text
//! version u8  length u16  bytes  length u16  text           (big-endian; `target` adds the checksum)
//! ```

use crate::{StateError, StateKind, StateStore};
use std::sync::{Arc, Mutex, PoisonError};

/// A kind of identifying information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// INFORMATION TYPE 0000000b: bytes that mean nothing to us.
    Bytes,
    /// INFORMATION TYPE 0000010b: a null-terminated UTF-8 string.
    Text,
}

impl Kind {
    /// All kinds, by ascending INFORMATION TYPE.
    pub const ALL: [Kind; 2] = [Kind::Bytes, Kind::Text];

    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// INFORMATION TYPE.
    pub fn code(self) -> u8 {
        match self {
            Kind::Bytes => 0,
            Kind::Text => 2,
        }
    }

    /// Bytes that are kept at most, the text's null among them.
    pub fn maximum(self) -> usize {
        match self {
            Kind::Bytes => 512,
            Kind::Text => 256,
        }
    }

    /// Whether these bytes are such information; none at all always are.
    pub fn accepts(self, bytes: &[u8]) -> bool {
        bytes.len() <= self.maximum()
            && match (self, bytes.split_last()) {
                (Kind::Bytes, _) | (_, None) => true,
                // Null-terminated: one null, where the text ends; padding behind it is no part of it.
                (Kind::Text, Some((last, _))) => {
                    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                    *last == 0 && std::str::from_utf8(text).is_ok()
                }
            }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    text: Vec<u8>,
}

impl Names {
    fn of(&mut self, kind: Kind) -> &mut Vec<u8> {
        match kind {
            Kind::Bytes => &mut self.bytes,
            Kind::Text => &mut self.text,
        }
    }

    pub fn to_stored(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for one in [&self.bytes, &self.text] {
            out.extend_from_slice(&u16::try_from(one.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(one);
        }
        out
    }

    /// Whole or not at all.
    fn from_stored(stored: &[u8]) -> Option<Names> {
        let (version, mut rest) = stored.split_first()?;
        let mut names = Names::default();
        for kind in Kind::ALL {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (bytes, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = after;
            if !kind.accepts(bytes) {
                return None;
            }
            *names.of(kind) = bytes.to_vec();
        }
        (*version == VERSION && rest.is_empty()).then_some(names)
    }
}

const VERSION: u8 = 1;

/// The identifying information of one unit, shared by all lanes.
pub(crate) struct Naming {
    names: Mutex<Names>,
    kept: Option<Arc<dyn StateStore>>,
}

impl Naming {
    /// As it was kept. Damaged bytes are an error: a disk that others know by a name must not lose it silently.
    pub fn open(unit: [u8; 16], kept: Option<Arc<dyn StateStore>>) -> Result<Naming, StateError> {
        let stored = match &kept {
            Some(kept) => kept.load(unit, StateKind::Identification)?,
            None => None,
        };
        let names = match stored {
            Some(bytes) => Names::from_stored(&bytes)
                .ok_or(StateError::Failed("stored identifying information is damaged".to_owned()))?,
            None => Names::default(),
        };
        Ok(Naming { names: Mutex::new(names), kept })
    }

    /// As [`Naming::open`] without a state store.
    pub fn volatile() -> Naming {
        Naming { names: Mutex::default(), kept: None }
    }

    /// All of it, for a process that goes on with it.
    pub fn at_rest(&self) -> Vec<u8> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).to_stored()
    }

    /// The inverse; false where it cannot be read.
    pub fn revive(&self, stored: &[u8]) -> bool {
        let names = Names::from_stored(stored);
        let whole = names.is_some();
        names.into_iter().for_each(|names| self.commit(names));
        whole
    }

    /// Whether there is such a thing at all: what is not kept over a power cycle is none (SPC-5 5.6).
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// What was set last; empty where nothing is.
    pub fn get(&self, kind: Kind) -> Vec<u8> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).of(kind).clone()
    }

    /// Where it is kept.
    pub fn store(&self) -> Option<Arc<dyn StateStore>> {
        self.kept.clone()
    }

    /// What is to be kept with this information in it. Changes are one after the other.
    pub fn with(&self, kind: Kind, bytes: Vec<u8>) -> Names {
        let mut next = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *next.of(kind) = bytes;
        next
    }

    /// This is kept now.
    pub fn commit(&self, names: Names) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_believed_whole_or_not_at_all() {
        let names = Names { bytes: vec![7; 512], text: b"Kirchturm \xc3\xbc\0".to_vec() };
        let stored = names.to_stored();
        assert_eq!(Names::from_stored(&stored), Some(names));
        for cut in 0..stored.len() {
            assert_eq!(Names::from_stored(&stored[..cut]), None, "{cut}");
        }
        let longer: Vec<u8> = stored.iter().copied().chain([0]).collect();
        assert_eq!(Names::from_stored(&longer), None);
        assert_eq!(Names::from_stored(&[2, 0, 0, 0, 0]), None, "a later version");
        assert_eq!(Names::from_stored(&[1, 0, 0, 0, 1, b'a']), None, "a text without its end");
    }

    #[test]
    fn a_text_is_utf_8_and_ends_with_a_null() {
        for good in [&b""[..], b"\0", b"disk\0", b"disk\0\0\0", "Fjörd\0".as_bytes()] {
            assert!(Kind::Text.accepts(good), "{good:02x?}");
        }
        for bad in [&b"disk"[..], b"\xff\0", b"dis\xc3\0", &[b'a'; 256], &[0; 257]] {
            assert!(!Kind::Text.accepts(bad), "{bad:02x?}");
        }
        assert!(Kind::Bytes.accepts(&[0xff; 512]) && !Kind::Bytes.accepts(&[0; 513]));
    }
}
