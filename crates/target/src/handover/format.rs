//! The form of what one process hands to another: records of numbered fields, which the next version can read
//! and the last one can refuse.
//!
//! ```text
//! record   ( number u16  length u32  bytes )*                            (big-endian)
//! list     ( length u32  bytes )*        of bytes: themselves
//! option   0, or 1 and the value         text: UTF-8        time: nanoseconds u64
//! ```
//!
//! A field whose number is below 8000h is part of what a process must know in order to go on: whoever reads a
//! record and does not know it, refuses, and so does whoever misses it. A field from 8000h on may be passed over by
//! those who do not know it, and is empty where it is not there. So a version that adds what may be lost uses a high
//! number and stays compatible; one that adds what may not be lost uses a low one, and the upgrade back is refused.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It comes from a program that knows more.
    #[error("it says something that this version does not know (field {0:#06x}); upgrade to a newer one")]
    Unknown(u16),
    /// It comes from a program that knows less.
    #[error("it does not say what this version must know (field {0:#06x})")]
    Missing(u16),
    /// It ends too soon, or says what cannot be.
    #[error("it is damaged")]
    Damaged,
}

/// What can be written and read.
pub trait Piece: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads it from bytes that are nothing else.
    fn take(bytes: &[u8]) -> Result<Self, Unreadable>;

    /// What stands for a field that is not there.
    fn absent() -> Option<Self> {
        None
    }

    /// Appends several.
    fn put_list(list: &[Self], out: &mut Vec<u8>) {
        for one in list {
            put_sized(one, out);
        }
    }

    /// Reads as many as there are.
    fn take_list(mut bytes: &[u8]) -> Result<Vec<Self>, Unreadable> {
        let mut list = Vec::new();
        while !bytes.is_empty() {
            list.push(Self::take(take_sized(&mut bytes)?)?);
        }
        Ok(list)
    }
}

fn put_sized(piece: &impl Piece, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    piece.put(out);
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn take_sized<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Unreadable> {
    let (length, rest) = bytes.split_first_chunk().ok_or(Unreadable::Damaged)?;
    let (own, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Unreadable::Damaged)?;
    *bytes = rest;
    Ok(own)
}

/// Appends a field of a record.
pub fn put_field(number: u16, piece: &impl Piece, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes());
    put_sized(piece, out);
}

/// The fields of a record that is being read.
pub struct Fields<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Fields<'a> {
    /// Those of a record of which these are known.
    pub fn of(mut bytes: &'a [u8], known: &[u16]) -> Result<Fields<'a>, Unreadable> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let (number, rest) = bytes.split_first_chunk().ok_or(Unreadable::Damaged)?;
            bytes = rest;
            let number = u16::from_be_bytes(*number);
            let own = take_sized(&mut bytes)?;
            if known.contains(&number) {
                fields.push((number, own));
            } else if number < MAY_BE_LOST {
                return Err(Unreadable::Unknown(number));
            }
        }
        Ok(Fields(fields))
    }

    /// One of them.
    pub fn take<T: Piece>(&self, number: u16) -> Result<T, Unreadable> {
        match self.0.iter().find(|(other, _)| *other == number) {
            Some((_, bytes)) => T::take(bytes),
            None if number < MAY_BE_LOST => Err(Unreadable::Missing(number)),
            None => T::absent().ok_or(Unreadable::Missing(number)),
        }
    }
}

/// From this number on a field may be passed over.
const MAY_BE_LOST: u16 = 0x8000;

/// Makes records of types: a number for each field.
macro_rules! records {
    ($($(#[$doc:meta])* $type:ty { $($number:literal $field:ident),* $(,)? })*) => { $(
        impl $crate::handover::format::Piece for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $( $crate::handover::format::put_field($number, &self.$field, out); )*
            }

            fn take(bytes: &[u8]) -> Result<Self, $crate::handover::format::Unreadable> {
                let fields = $crate::handover::format::Fields::of(bytes, &[$($number),*])?;
                Ok(Self { $( $field: fields.take($number)?, )* })
            }
        }
    )* };
}
pub(crate) use records;

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Piece for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
                Ok(<$type>::from_be_bytes(bytes.try_into().map_err(|_| Unreadable::Damaged)?))
            }

            fn absent() -> Option<Self> {
                Some(0)
            }
        }
    )* };
}
numbers!(u16, u32, u64);

impl Piece for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes {
            [byte] => Ok(*byte),
            _ => Err(Unreadable::Damaged),
        }
    }

    fn absent() -> Option<Self> {
        Some(0)
    }

    fn put_list(list: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(list);
    }

    fn take_list(bytes: &[u8]) -> Result<Vec<Self>, Unreadable> {
        Ok(bytes.to_vec())
    }
}

impl Piece for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Unreadable::Damaged),
        }
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl<T: Piece> Piece for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put_list(self, out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        T::take_list(bytes)
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: Piece, const N: usize> Piece for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        T::put_list(self, out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        T::take_list(bytes)?.try_into().map_err(|_| Unreadable::Damaged)
    }
}

impl<T: Piece> Piece for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes {
            [0] => Ok(None),
            [1, value @ ..] => T::take(value).map(Some),
            _ => Err(Unreadable::Damaged),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<A: Piece, B: Piece> Piece for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        put_sized(&self.0, out);
        put_sized(&self.1, out);
    }

    fn take(mut bytes: &[u8]) -> Result<Self, Unreadable> {
        let pair = (A::take(take_sized(&mut bytes)?)?, B::take(take_sized(&mut bytes)?)?);
        if bytes.is_empty() { Ok(pair) } else { Err(Unreadable::Damaged) }
    }
}

impl Piece for String {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        String::from_utf8(bytes.to_vec()).map_err(|_| Unreadable::Damaged)
    }

    fn absent() -> Option<Self> {
        Some(String::new())
    }
}

impl Piece for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).put(out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        u64::take(bytes).map(Duration::from_nanos)
    }
}

impl Piece for SystemTime {
    fn put(&self, out: &mut Vec<u8>) {
        self.duration_since(UNIX_EPOCH).unwrap_or_default().put(out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        UNIX_EPOCH.checked_add(Duration::take(bytes)?).ok_or(Unreadable::Damaged)
    }
}

impl Piece for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_string().put(out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        String::take(bytes)?.parse().map_err(|_| Unreadable::Damaged)
    }
}
