//! What can go wrong in a store, in words that `lun` alone turns into sense data.

/// The kind of a store's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The medium could not be read or written (EIO, a checksum that does not hold).
    Medium,
    /// There is no room for the write (ENOSPC, EDQUOT); reads and the data already there are whole.
    NoSpace,
    /// The store cannot be written (EROFS, EPERM, EFBIG).
    ReadOnly,
    /// The extent lies past the end of what the store has now (a file that shrank).
    OutOfRange,
    /// The store went away (ENXIO, ENODEV, ESTALE): it may come back.
    Gone,
    /// The store cannot do this operation at all; its [`crate::Limits`] said so.
    Unsupported,
    /// The request was given up before it reached the medium.
    Aborted,
    /// Memory or descriptors ran out for a moment; the same request may succeed later.
    Busy,
}

/// A store's failure: its kind, the first bad byte where it is known, and the system's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} error of the store{}{}", at(.offset), os_text(.os))]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Byte offset of the first bad byte in the store, where known.
    pub offset: Option<u64>,
    /// The operating system's error number, where there was one.
    pub os: Option<i32>,
}

fn at(offset: &Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at byte {offset}"))
}

fn os_text(os: &Option<i32>) -> String {
    os.map_or_else(String::new, |os| format!(" ({})", std::io::Error::from_raw_os_error(os)))
}

impl Error {
    /// An error of this kind about which nothing more is known.
    pub const fn new(kind: ErrorKind) -> Self {
        Error { kind, offset: None, os: None }
    }

    /// What an operating system's error number (Linux) means for a store.
    ///
    /// Numbers without a meaning of their own are [`ErrorKind::Medium`]: the data did not come or go.
    pub const fn from_os(number: i32) -> Self {
        let kind = match number {
            // ENOSPC, EDQUOT
            28 | 122 => ErrorKind::NoSpace,
            // EPERM, EFBIG, EROFS
            1 | 27 | 30 => ErrorKind::ReadOnly,
            // ENXIO, ENODEV, ESTALE
            6 | 19 | 116 => ErrorKind::Gone,
            // ENOSYS, EOPNOTSUPP
            38 | 95 => ErrorKind::Unsupported,
            // ECANCELED
            125 => ErrorKind::Aborted,
            // EAGAIN, ENOMEM, ENFILE, EMFILE
            11 | 12 | 23 | 24 => ErrorKind::Busy,
            _ => ErrorKind::Medium,
        };
        Error { kind, offset: None, os: Some(number) }
    }

    /// The same error at a byte offset of the store.
    pub const fn at(self, offset: u64) -> Self {
        Error { offset: Some(offset), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_error_numbers_keep_their_meaning() {
        for (number, kind) in [
            (28, ErrorKind::NoSpace),
            (122, ErrorKind::NoSpace),
            (30, ErrorKind::ReadOnly),
            (27, ErrorKind::ReadOnly),
            (116, ErrorKind::Gone),
            (6, ErrorKind::Gone),
            (5, ErrorKind::Medium),
            (61, ErrorKind::Medium),
        ] {
            assert_eq!(Error::from_os(number).kind, kind, "error number {number}");
        }
        assert!(Error::from_os(5).at(512).to_string().contains("at byte 512"));
    }
}
