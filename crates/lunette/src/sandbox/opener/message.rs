//! What the daemon asks its opener, and what it hears: a packet of fields with a zero byte between them, since no
//! path has one, and beside it open files.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::path::PathBuf;
use stores::host::How;

/// Bytes of a packet: two paths of the longest, and some.
const PACKET: usize = 16 << 10;
/// Files beside a packet: the one that is meant, and the socket for the answer.
const FILES: usize = 2;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// As [`stores::host::Host::open`].
    Open(PathBuf, How),
    /// As [`stores::host::Host::reopen`]; the file comes beside it.
    Reopen(How),
    /// As [`stores::host::Host::remove`].
    Remove(PathBuf),
    /// As [`stores::host::Host::rename`].
    Rename(PathBuf, PathBuf),
    /// As [`stores::host::Host::sync_directory`].
    SyncDirectory(PathBuf),
    /// As [`stores::host::Host::attribute`]; the file comes beside it.
    Attribute(String),
    /// As [`stores::host::Host::set_attribute`]; the file comes beside it.
    SetAttribute(String, Option<Vec<u8>>, bool),
    /// As [`stores::host::Host::create_like`].
    CreateLike(PathBuf, PathBuf),
}

/// What came of it: bytes, and an open file where one was asked for.
pub type Answer = std::result::Result<Vec<u8>, Refusal>;

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The system refused it with this number.
    System(i32),
    /// The opener did, and says why.
    Opener(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        error.raw_os_error().map_or_else(|| Refusal::Opener(error.to_string()), Refusal::System)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::System(number) => Error::from_raw_os_error(number),
            Refusal::Opener(why) => Error::other(why),
        }
    }
}

const READ: u8 = b'r';
const WRITE: u8 = b'w';
const CREATE: u8 = b'c';
const EXCLUSIVE: u8 = b'x';
const DIRECT: u8 = b'd';

fn letters(how: How) -> Vec<u8> {
    let all =
        [(how.read, READ), (how.write, WRITE), (how.create, CREATE), (how.exclusive, EXCLUSIVE), (how.direct, DIRECT)];
    all.into_iter().filter(|(said, _)| *said).map(|(_, letter)| letter).collect()
}

fn how(letters: &[u8]) -> How {
    let has = |letter| letters.contains(&letter);
    How { read: has(READ), write: has(WRITE), create: has(CREATE), exclusive: has(EXCLUSIVE), direct: has(DIRECT) }
}

impl Request {
    /// As a packet.
    pub fn encode(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        fn bytes(path: &std::path::Path) -> Vec<u8> {
            path.as_os_str().as_bytes().to_vec()
        }
        let fields: Vec<Vec<u8>> = match self {
            Request::Open(path, how) => vec![b"open".to_vec(), letters(*how), bytes(path)],
            Request::Reopen(how) => vec![b"reopen".to_vec(), letters(*how)],
            Request::Remove(path) => vec![b"remove".to_vec(), bytes(path)],
            Request::Rename(from, to) => vec![b"rename".to_vec(), bytes(from), bytes(to)],
            Request::SyncDirectory(path) => vec![b"sync".to_vec(), bytes(path)],
            Request::Attribute(name) => vec![b"attribute".to_vec(), name.clone().into_bytes()],
            Request::SetAttribute(name, value, new) => {
                let what = if *new { b"new".to_vec() } else { Vec::new() };
                let mut fields = vec![b"set".to_vec(), name.clone().into_bytes(), what];
                fields.extend(value.clone());
                fields
            }
            Request::CreateLike(path, other) => vec![b"like".to_vec(), bytes(path), bytes(other)],
        };
        fields.join(&0)
    }

    /// What a packet asks; nothing where it makes no sense.
    pub fn decode(packet: &[u8]) -> Option<Request> {
        use std::os::unix::ffi::OsStringExt;
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let fields: Vec<&[u8]> = packet.split(|byte| *byte == 0).collect();
        Some(match fields[..] {
            [b"open", letters, place] => Request::Open(path(place), how(letters)),
            [b"reopen", letters] => Request::Reopen(how(letters)),
            [b"remove", place] => Request::Remove(path(place)),
            [b"rename", from, to] => Request::Rename(path(from), path(to)),
            [b"sync", place] => Request::SyncDirectory(path(place)),
            [b"attribute", name] => Request::Attribute(text(name)?),
            [b"set", name, new] => Request::SetAttribute(text(name)?, None, new == b"new"),
            [b"set", name, new, value] => Request::SetAttribute(text(name)?, Some(value.to_vec()), new == b"new"),
            [b"like", place, other] => Request::CreateLike(path(place), path(other)),
            _ => return None,
        })
    }
}

/// An answer as a packet.
pub fn encode(answer: &Answer) -> Vec<u8> {
    match answer {
        Ok(bytes) => [b"done\0", &bytes[..]].concat(),
        Err(Refusal::System(number)) => format!("errno\0{number}").into_bytes(),
        Err(Refusal::Opener(why)) => format!("refused\0{why}").into_bytes(),
    }
}

/// The answer in a packet.
pub fn decode(packet: &[u8]) -> Answer {
    let garbled = || Refusal::Opener("the opener's answer makes no sense".to_owned());
    let end = packet.iter().position(|byte| *byte == 0).ok_or_else(garbled)?;
    let (kind, rest) = (packet.get(..end).unwrap_or_default(), packet.get(end + 1..).unwrap_or_default());
    let text = || String::from_utf8_lossy(rest).into_owned();
    match kind {
        b"done" => Ok(rest.to_vec()),
        b"errno" => Err(Refusal::System(text().parse().map_err(|_| garbled())?)),
        b"refused" => Err(Refusal::Opener(text())),
        _ => Err(garbled()),
    }
}

/// Sends a packet with these files beside it.
pub fn send(socket: impl AsFd, packet: &[u8], files: &[BorrowedFd<'_>]) -> Result<()> {
    if packet.len() > PACKET {
        return Err(Error::new(ErrorKind::InvalidInput, "the path is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(Error::other("too many files"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a packet and the files beside it; nothing when the other end is closed.
pub fn receive(socket: impl AsFd) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut packet = vec![0; PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let into = &mut [IoSliceMut::new(&mut packet)];
        match rustix::net::recvmsg(&socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let files = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files: Vec<OwnedFd> = files.flatten().collect();
    if received.bytes == 0 && files.is_empty() {
        return Ok(None);
    }
    packet.truncate(received.bytes);
    Ok(Some((packet, files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_understood() {
        let path = || PathBuf::from("/srv/a disk,ü.img");
        let direct = How { direct: true, ..How::READ };
        for request in [
            Request::Open(path(), How::LOOK),
            Request::Open(path(), How { create: true, ..How::WRITE }),
            Request::Open(path(), How { exclusive: true, ..How::WRITE }),
            Request::Reopen(direct),
            Request::Remove(path()),
            Request::Rename(path(), PathBuf::from("b")),
            Request::SyncDirectory(path()),
            Request::Attribute("user.lunette.uuid".into()),
            Request::SetAttribute("user.lunette.uuid".into(), Some(b"abc".to_vec()), true),
            Request::SetAttribute("user.lunette.uuid".into(), None, false),
            Request::CreateLike(path(), PathBuf::from("b")),
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for nonsense in [&b""[..], b"open", b"open\0r\0a\0b", b"attribute\0\xff", b"shut"] {
            assert_eq!(Request::decode(nonsense), None);
        }
        for answer in [Ok(b"a\0b".to_vec()), Err(Refusal::System(13)), Err(Refusal::Opener("no".into()))] {
            assert_eq!(decode(&encode(&answer)), answer);
        }
        assert!(matches!(decode(b"errno\0x"), Err(Refusal::Opener(_))));
    }
}
