//! What the kernel's nbd driver is told: devices are connected, resized, given new connections, disconnected.
//!
//! A request is done while it is being sent, which may take as long as a device takes to go; so each is sent on a
//! thread of its own, and is waited for within a bound.

use crate::{Error, Unusable};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;
use std::sync::mpsc;
use std::time::Duration;

/// The family that knows the other families' numbers.
const CONTROL: u16 = 16;
const CONTROL_GETFAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;

/// Attributes of the family nbd.
mod attribute {
    pub const INDEX: u16 = 1;
    pub const SIZE_BYTES: u16 = 2;
    pub const BLOCK_BYTES: u16 = 3;
    pub const TIMEOUT_SECONDS: u16 = 4;
    pub const SERVER_FLAGS: u16 = 5;
    pub const SOCKETS: u16 = 7;
    pub const DEAD_CONNECTION_SECONDS: u16 = 8;
    pub const IDENTIFIER: u16 = 10;
    pub const SOCKET: u16 = 1;
    pub const SOCKET_DESCRIPTOR: u16 = 1;
}

const HEADER_BYTES: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// How long the kernel may take for an answer that is ready when a request is sent.
const ANSWER_LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What a device is to be like.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Size in bytes.
    pub size: u64,
    /// Bytes of a logical block.
    pub block: u32,
    /// Transmission flags.
    pub flags: u64,
    /// Seconds after which a request counts as failed and its connection as dead.
    pub timeout: u64,
    /// Seconds for which requests wait for a connection when all are dead.
    pub dead: u64,
    /// What the device says that it is, and that another server has to say too.
    pub identifier: String,
}

/// The driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nbd {
    family: u16,
}

impl Nbd {
    /// Finds the driver, loading its module where that helps.
    pub(super) fn find() -> Result<Nbd, Unusable> {
        if !rustix::process::geteuid().is_root() {
            return Err(Unusable("only root may connect a device of nbd's".into()));
        }
        let found = family().or_else(|_| {
            crate::modules::load(&["nbd"]);
            family()
        });
        found.map(|family| Nbd { family }).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unusable(
                "the kernel has no nbd, or not its netlink interface (`modprobe nbd`, Linux 4.12 or later)".into(),
            ),
            _ => Unusable(format!("the kernel's nbd cannot be asked: {error}")),
        })
    }

    /// A new device with these connections; gives its number.
    pub(super) fn connect(self, shape: &Shape, sockets: &[OwnedFd], limit: Duration) -> Result<u32, Error> {
        let mut request = self.request(CONNECT);
        request.shape(shape);
        request.sockets(sockets);
        let answer = request.call(limit).map_err(|error| Error::system("nbd: no device can be connected", error))?;
        let number =
            answer.ok_or_else(|| Error::TimedOut("nbd: the kernel does not say which device it made".into()))?;
        Ok(number)
    }

    /// The same device with new connections, whose old ones are dead.
    pub(super) fn take_over(
        self,
        number: u32,
        shape: &Shape,
        sockets: &[OwnedFd],
        limit: Duration,
    ) -> Result<(), Error> {
        let mut request = self.request(RECONFIGURE);
        request.number(attribute::INDEX, &number.to_ne_bytes());
        request.shape(shape);
        request.sockets(sockets);
        let done = request.call(limit);
        done.map(drop).map_err(|error| Error::system(format!("/dev/nbd{number} cannot be taken over"), error))
    }

    /// Another size for a device, which has to be named as when it was connected.
    pub(super) fn resize(self, number: u32, identifier: &str, size: u64, limit: Duration) -> Result<(), Error> {
        let mut request = self.request(RECONFIGURE);
        request.number(attribute::INDEX, &number.to_ne_bytes());
        request.number(attribute::IDENTIFIER, format!("{identifier}\0").as_bytes());
        request.number(attribute::SIZE_BYTES, &size.to_ne_bytes());
        let done = request.call(limit);
        done.map(drop).map_err(|error| Error::system(format!("/dev/nbd{number} cannot be resized"), error))
    }

    /// Ends a device whoever uses it: what it has under way is asked to end, the rest fails.
    pub(super) fn disconnect(self, number: u32, limit: Duration) -> Result<(), Error> {
        let mut request = self.request(DISCONNECT);
        request.number(attribute::INDEX, &number.to_ne_bytes());
        match request.call(limit) {
            Ok(_) => Ok(()),
            // There is none with a connection any more.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Error::TimedOut(format!("/dev/nbd{number} does not go: the kernel still waits for its requests")))
            }
            Err(error) => Err(Error::system(format!("/dev/nbd{number} cannot be disconnected"), error)),
        }
    }

    fn request(self, command: u8) -> Message {
        Message::new(self.family, command)
    }
}

fn family() -> io::Result<u16> {
    let mut request = Message::new(CONTROL, CONTROL_GETFAMILY);
    request.number(CONTROL_FAMILY_NAME, b"nbd\0");
    let answer = ask(&request.finish())?;
    let id =
        attributes(&answer).find(|(kind, _)| *kind == CONTROL_FAMILY_ID).and_then(|(_, value)| value.first_chunk());
    id.map(|id: &[u8; 2]| u16::from_ne_bytes(*id)).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// A request being written.
struct Message(Vec<u8>);

impl Message {
    fn new(family: u16, command: u8) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(family.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        // Sequence and port, then the head of the generic families: command, version, nothing.
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, command, 1, 0, 0]);
        Message(bytes)
    }

    fn shape(&mut self, shape: &Shape) {
        self.number(attribute::SIZE_BYTES, &shape.size.to_ne_bytes());
        self.number(attribute::BLOCK_BYTES, &u64::from(shape.block).to_ne_bytes());
        self.number(attribute::SERVER_FLAGS, &shape.flags.to_ne_bytes());
        self.number(attribute::TIMEOUT_SECONDS, &shape.timeout.to_ne_bytes());
        self.number(attribute::DEAD_CONNECTION_SECONDS, &shape.dead.to_ne_bytes());
        self.number(attribute::IDENTIFIER, format!("{}\0", shape.identifier).as_bytes());
    }

    fn sockets(&mut self, sockets: &[OwnedFd]) {
        self.nested(attribute::SOCKETS, |all| {
            for socket in sockets {
                let number = u32::try_from(socket.as_raw_fd()).unwrap_or(u32::MAX);
                all.nested(attribute::SOCKET, |one| one.number(attribute::SOCKET_DESCRIPTOR, &number.to_ne_bytes()));
            }
        });
    }

    /// An attribute with this value, padded to four bytes.
    fn number(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Message)) {
        let mut within = Message(Vec::new());
        inside(&mut within);
        self.number(kind | NLA_F_NESTED, &within.0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        for (to, from) in self.0.iter_mut().zip(length.to_ne_bytes()) {
            *to = from;
        }
        self.0
    }

    /// Sends it and gives the device's number where the answer has one. After the limit it is left to itself.
    fn call(self, limit: Duration) -> io::Result<Option<u32>> {
        let request = self.finish();
        let (tell, told) = mpsc::channel();
        std::thread::Builder::new().name("nbd-request".into()).spawn(move || {
            let _ = tell.send(ask(&request));
        })?;
        let answer = told.recv_timeout(limit).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let number = attributes(&answer).find(|(kind, _)| *kind == attribute::INDEX);
        Ok(number.and_then(|(_, value)| value.first_chunk()).map(|value| u32::from_ne_bytes(*value)))
    }
}

/// Sends a request; gives the answer's bytes behind its heads, none where there is only an acknowledgement.
fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::GENERIC))?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    rustix::net::connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    rustix::net::send(&socket, request, SendFlags::empty())?;
    let mut answer = Vec::new();
    loop {
        if rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&ANSWER_LIMIT))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut bytes = [0; 8192];
        let (length, _) = rustix::net::recv(&socket, &mut bytes[..], RecvFlags::DONTWAIT)?;
        match read(bytes.get(..length).unwrap_or_default()) {
            (data, None) => answer.extend(data),
            (_, Some(error)) if error != 0 => return Err(io::Error::from_raw_os_error(error)),
            (data, Some(_)) => {
                answer.extend(data);
                return Ok(answer);
            }
        }
    }
}

/// The attributes' bytes of the messages of a datagram, and the error number of the acknowledgement where one is
/// among them.
fn read(mut bytes: &[u8]) -> (Vec<u8>, Option<i32>) {
    let mut data = Vec::new();
    while let Some((length, kind)) = bytes.first_chunk::<6>().map(|head| {
        let [a, b, c, d, e, f] = *head;
        (u32::from_ne_bytes([a, b, c, d]) as usize, u16::from_ne_bytes([e, f]))
    }) {
        let Some(message) = bytes.get(..length).filter(|_| length >= HEADER_BYTES) else { break };
        let content = message.get(HEADER_BYTES..).unwrap_or_default();
        if kind == NLMSG_ERROR {
            let number = content.first_chunk().map_or(Errno::PROTO.raw_os_error(), |n| -i32::from_ne_bytes(*n));
            return (data, Some(number));
        }
        data.extend(content.get(4..).unwrap_or_default());
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (data, None)
}

/// Kinds and values of attributes, as far as their lengths make sense.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_as_the_kernel_wants_them() {
        let mut message = Message::new(0x1234, CONNECT);
        message.number(CONTROL_FAMILY_NAME, b"nbd\0x\0");
        message.nested(7, |inside| inside.number(1, &5u32.to_ne_bytes()));
        let bytes = message.finish();
        assert_eq!(bytes.len() as u32, u32::from_ne_bytes(bytes[..4].try_into().unwrap()));
        let all: Vec<_> = attributes(&bytes[20..]).collect();
        assert_eq!(all[0], (2, &b"nbd\0x\0"[..]));
        assert_eq!(all[1].0, 7);
        assert_eq!(attributes(all[1].1).next().unwrap(), (1, &5u32.to_ne_bytes()[..]));
    }

    #[test]
    fn answers_of_any_bytes_are_read_to_an_end() {
        for seed in 0..200u8 {
            let bytes: Vec<u8> = (0..64u8).map(|at| at.wrapping_mul(seed) ^ seed.rotate_left(3)).collect();
            let (data, _) = read(&bytes);
            assert!(attributes(&data).count() <= 16);
        }
        let mut acknowledged = vec![20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        acknowledged.extend((-16i32).to_ne_bytes());
        assert_eq!(read(&acknowledged).1, Some(16));
    }

    #[test]
    fn a_family_that_is_not_there_is_said_to_be_missing() {
        // The kernel of the machine answers, if it lets us ask at all.
        let mut request = Message::new(CONTROL, CONTROL_GETFAMILY);
        request.number(CONTROL_FAMILY_NAME, b"no-such\0");
        if let Err(error) = ask(&request.finish()) {
            assert!(matches!(error.raw_os_error(), Some(2 | 1 | 13 | 93 | 97)), "{error}");
        } else {
            panic!("there is a family no-such");
        }
    }
}
