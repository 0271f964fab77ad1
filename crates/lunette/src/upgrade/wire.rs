//! Messages with open descriptors between two processes on one machine.
//!
//! ```text
//! kind u8  0 0 0  descriptors u32  length u64  then a byte for each 128 descriptors, which brings them, then the body
//! ```

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use target::handover::Piece;

/// Descriptors in one system call; Linux takes 253.
const DESCRIPTORS: usize = 128;
/// The most bytes of a message, and the most descriptors: beyond that it is not one of ours.
const BYTES: u64 = 8 << 30;
const MOST_DESCRIPTORS: u32 = 1 << 20;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`target::handover::message::Ask`].
    Ask = 1,
    /// [`target::handover::message::Started`].
    Started = 2,
    /// [`target::handover::message::Offer`].
    Offer = 3,
    /// All that can be opened is open.
    Ready = 4,
    /// [`target::handover::message::MemoryPiece`]s.
    Memory = 5,
    /// [`target::handover::DoorAtRest`].
    State = 6,
    /// The sessions are ready to go on.
    Prepared = 7,
    /// They are the other's; how long they have rested.
    Commit = 8,
    /// They go on.
    Serving = 9,
    /// It cannot be, and why.
    Refused = 10,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Ask,
        Kind::Started,
        Kind::Offer,
        Kind::Ready,
        Kind::Memory,
        Kind::State,
        Kind::Prepared,
        Kind::Commit,
        Kind::Serving,
        Kind::Refused,
    ];
}

/// A message.
pub struct Message {
    /// What it is about.
    pub kind: Kind,
    /// Its body.
    pub body: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Message {
    /// Its body, where it is of this kind; else what it says of itself, or that it was not expected.
    pub fn expect<T: Piece>(&self, kind: Kind) -> std::result::Result<T, String> {
        match self.kind {
            found if found == kind => T::take(&self.body).map_err(|error| error.to_string()),
            Kind::Refused => Err(String::from_utf8_lossy(&self.body).into_owned()),
            other => Err(format!("it answers {other:?} where {kind:?} was expected")),
        }
    }
}

/// Who has the sessions, as the system decides it: one byte in a pipe that both can read, and that one of them gets.
/// Nobody writes to it any more, so that whoever comes second hears that at once.
pub struct Decision(OwnedFd);

impl Decision {
    /// One that is not made.
    pub fn new() -> Result<Decision> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(&[1])?;
        Ok(Decision(reader.into()))
    }

    /// The one that the other process has made.
    pub fn from(descriptor: OwnedFd) -> Decision {
        Decision(descriptor)
    }

    /// Whether whoever asks has the sessions from now on: true once, for one of the two.
    pub fn is_ours(&self) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut [0; 1]) {
                Ok(length) => return length == 1,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for Decision {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One end of a conversation.
pub struct Wire(UnixStream);

impl Wire {
    /// Over this stream; neither end waits longer than this for the other.
    pub fn new(stream: UnixStream, patience: Duration) -> Result<Wire> {
        let wire = Wire(stream);
        wire.wait_at_most(patience)?;
        Ok(wire)
    }

    /// Waits no longer than this from now on.
    pub fn wait_at_most(&self, patience: Duration) -> Result<()> {
        self.0.set_read_timeout(Some(patience))?;
        self.0.set_write_timeout(Some(patience))
    }

    /// Sends a message.
    pub fn send(&self, kind: Kind, body: &impl Piece, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let mut bytes = Vec::new();
        body.put(&mut bytes);
        self.send_bytes(kind, &bytes, descriptors)
    }

    /// Sends a message whose body is written already.
    pub fn send_bytes(&self, kind: Kind, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let count = u32::try_from(descriptors.len()).unwrap_or(u32::MAX);
        let mut head = [0; 16];
        head[0] = kind as u8;
        head[4..8].copy_from_slice(&count.to_be_bytes());
        head[8..].copy_from_slice(&(body.len() as u64).to_be_bytes());
        (&self.0).write_all(&head)?;
        for some in descriptors.chunks(DESCRIPTORS) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(Error::other("descriptors do not fit"));
            }
            sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        }
        (&self.0).write_all(body)
    }

    /// The next message. `UnexpectedEof` where the other end has gone.
    pub fn receive(&self) -> Result<Message> {
        let mut head = [0; 16];
        (&self.0).read_exact(&mut head)?;
        let foreign = || Error::new(ErrorKind::InvalidData, "it says nothing that is known");
        let [kind, _, _, _, a, b, c, d, length @ ..] = head;
        let kind = Kind::ALL.into_iter().find(|one| *one as u8 == kind).ok_or_else(foreign)?;
        let (count, length) = (u32::from_be_bytes([a, b, c, d]), u64::from_be_bytes(length));
        if count > MOST_DESCRIPTORS || length > BYTES {
            return Err(foreign());
        }
        let mut descriptors = Vec::new();
        while descriptors.len() < count as usize {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
            let before = descriptors.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    descriptors.extend(some);
                }
            }
            if received.bytes == 0 || descriptors.len() == before {
                return Err(Error::new(ErrorKind::UnexpectedEof, "descriptors are missing"));
            }
        }
        let mut body = Vec::new();
        // Memory grows with what comes, not with what was announced.
        (&self.0).take(length).read_to_end(&mut body)?;
        if body.len() as u64 != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Message { kind, body, descriptors })
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_message_brings_its_body_and_as_many_descriptors_as_it_likes() {
        let (one, other) = UnixStream::pair().unwrap();
        let patience = Duration::from_secs(10);
        let (one, other) = (Wire::new(one, patience).unwrap(), Wire::new(other, patience).unwrap());
        let file = File::open("/dev/null").unwrap();
        let many = vec![file.as_fd(); 300];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                one.send(Kind::Offer, &"text".to_owned(), &many).unwrap();
                one.send(Kind::Refused, &"because".to_owned(), &[]).unwrap();
            });
            let message = other.receive().unwrap();
            assert_eq!((message.kind, message.descriptors.len()), (Kind::Offer, 300));
            assert_eq!(message.expect::<String>(Kind::Offer), Ok("text".to_owned()));
            let refused = other.receive().unwrap();
            assert_eq!(refused.expect::<String>(Kind::State), Err("because".to_owned()));
        });
        drop(one);
        assert_eq!(other.receive().err().map(|error| error.kind()), Some(ErrorKind::UnexpectedEof));
    }

    #[test]
    fn one_of_two_gets_a_decision_and_only_once() {
        let decision = Decision::new().unwrap();
        let other = Decision::from(decision.as_fd().try_clone_to_owned().unwrap());
        assert!(other.is_ours());
        assert!(!decision.is_ours() && !other.is_ours());
    }

    #[test]
    fn what_is_foreign_is_refused_before_its_length_is_believed() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let other = Wire::new(other, Duration::from_secs(10)).unwrap();
        one.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert_eq!(other.receive().err().map(|error| error.kind()), Some(ErrorKind::InvalidData));
    }
}
