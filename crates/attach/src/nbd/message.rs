//! The transmission phase of the NBD protocol: requests as they are on the wire, and the heads of replies.

use crate::channel;
use block::Limits;

/// Bytes of a request without its data.
pub(super) const REQUEST_BYTES: usize = 28;
/// Bytes of a simple reply without its data.
pub(super) const REPLY_BYTES: usize = 16;
/// The longest read or write that is served: what the kernel may put into one request.
pub(super) const TRANSFER_BYTES_MAX: u32 = 32 << 20;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Transmission flags: what the server can.
mod can {
    pub const HAS_FLAGS: u64 = 1 << 0;
    pub const READ_ONLY: u64 = 1 << 1;
    pub const FLUSH: u64 = 1 << 2;
    pub const FUA: u64 = 1 << 3;
    pub const ROTATIONAL: u64 = 1 << 4;
    pub const TRIM: u64 = 1 << 5;
    pub const WRITE_ZEROES: u64 = 1 << 6;
    pub const MULTI_CONN: u64 = 1 << 8;
}

const FLAG_FUA: u16 = 1 << 0;
const FLAG_NO_HOLE: u16 = 1 << 1;

pub(super) const EPERM: u32 = 1;
pub(super) const EIO: u32 = 5;
pub(super) const EINVAL: u32 = 22;
pub(super) const ENOSPC: u32 = 28;
const ENOTSUP: u32 = 95;

/// The transmission flags of a store. All connections see each other's completed writes, and a flush on one
/// covers all.
pub(super) fn flags(limits: &Limits, read_only: bool) -> u64 {
    let mut flags = can::HAS_FLAGS | can::FLUSH | can::MULTI_CONN;
    if read_only {
        flags |= can::READ_ONLY;
    } else {
        flags |= can::FUA | can::WRITE_ZEROES;
        flags |= if limits.unmap.is_some() { can::TRIM } else { 0 };
    }
    flags | if matches!(limits.rotation, block::Rotation::Rate(_)) { can::ROTATIONAL } else { 0 }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Read the extent.
    Read,
    /// Write the data that follow.
    Write { durable: bool },
    /// No more requests; has no reply.
    Disconnect,
    /// What was written is to be stable.
    Flush,
    /// The extent's content is no longer wanted.
    Trim,
    /// The extent reads as zeros afterwards.
    WriteZeroes { durable: bool, unmap: bool },
    /// Something that was not offered; no data follow.
    Unknown,
}

/// A request without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// What it wants.
    pub command: Command,
    /// Its name, for the reply.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

impl Head {
    /// Reads a request's head. The error says what stands there instead; nothing behind it can be understood.
    pub(super) fn parse(bytes: &[u8; REQUEST_BYTES]) -> Result<Head, String> {
        let (magic, rest) = take::<4>(bytes);
        let (flags, rest) = take::<2>(rest);
        let (kind, rest) = take::<2>(rest);
        let (cookie, rest) = take::<8>(rest);
        let (offset, rest) = take::<8>(rest);
        let (length, _) = take::<4>(rest);
        let magic = u32::from_be_bytes(magic);
        if magic != REQUEST_MAGIC {
            return Err(format!("an NBD request begins with {magic:#x}"));
        }
        let (flags, length) = (u16::from_be_bytes(flags), u32::from_be_bytes(length));
        let durable = flags & FLAG_FUA != 0;
        let command = match u16::from_be_bytes(kind) {
            // Its data follow whatever its flags are: they must be passed over, so they count as a write.
            1 if length > TRANSFER_BYTES_MAX => return Err(format!("an NBD write of {length} bytes")),
            1 => Command::Write { durable },
            2 => Command::Disconnect,
            _ if flags & !(FLAG_FUA | FLAG_NO_HOLE) != 0 => Command::Unknown,
            0 if length <= TRANSFER_BYTES_MAX => Command::Read,
            3 => Command::Flush,
            4 => Command::Trim,
            6 => Command::WriteZeroes { durable, unmap: flags & FLAG_NO_HOLE == 0 },
            _ => Command::Unknown,
        };
        Ok(Head { command, cookie: u64::from_be_bytes(cookie), offset: u64::from_be_bytes(offset), length })
    }
}

/// The first bytes, and those behind them. There are as many.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    match bytes.split_first_chunk::<N>() {
        Some((first, rest)) => (*first, rest),
        None => ([0; N], &[]),
    }
}

/// The head of a reply. Data follow only where the error is 0 and it was a read.
pub(super) fn reply(cookie: u64, error: u32) -> [u8; REPLY_BYTES] {
    let mut bytes = [0; REPLY_BYTES];
    let fields = REPLY_MAGIC.to_be_bytes().into_iter().chain(error.to_be_bytes()).chain(cookie.to_be_bytes());
    for (to, from) in bytes.iter_mut().zip(fields) {
        *to = from;
    }
    bytes
}

/// The protocol's number for a store's failure.
pub(super) fn error(error: &block::Error, writes: bool) -> u32 {
    match channel::errno(error) {
        28 => ENOSPC,
        30 => EPERM,
        6 if writes => ENOSPC,
        6 => EINVAL,
        95 => ENOTSUP,
        _ => EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u16, flags: u16, length: u32) -> [u8; REQUEST_BYTES] {
        let mut all = Vec::from(REQUEST_MAGIC.to_be_bytes());
        all.extend(flags.to_be_bytes());
        all.extend(kind.to_be_bytes());
        all.extend(7u64.to_be_bytes());
        all.extend(4096u64.to_be_bytes());
        all.extend(length.to_be_bytes());
        all.try_into().unwrap()
    }

    #[test]
    fn requests_are_what_the_protocol_says() {
        let head = Head::parse(&bytes(6, 0, 512)).unwrap();
        let command = Command::WriteZeroes { durable: false, unmap: true };
        assert_eq!(head, Head { command, cookie: 7, offset: 4096, length: 512 });
        let command = |kind, flags| Head::parse(&bytes(kind, flags, 512)).unwrap().command;
        assert_eq!(command(1, 1), Command::Write { durable: true });
        assert_eq!(command(6, 2), Command::WriteZeroes { durable: false, unmap: false });
        assert_eq!(command(5, 0), Command::Unknown);
        assert_eq!(command(0, 0x8000), Command::Unknown);
        assert_eq!(reply(0x0102, 5), [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn what_cannot_be_passed_over_ends_the_connection_and_the_rest_is_refused() {
        let mut other = bytes(0, 0, 512);
        other[0] = 0;
        assert!(Head::parse(&other).is_err());
        assert!(Head::parse(&bytes(1, 0, u32::MAX)).is_err());
        assert_eq!(Head::parse(&bytes(0, 0, u32::MAX)).unwrap().command, Command::Unknown);
        assert_eq!(Head::parse(&bytes(4, 0, u32::MAX)).unwrap().command, Command::Trim);
    }
}
