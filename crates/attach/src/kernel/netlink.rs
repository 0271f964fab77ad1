//! The socket to the kernel's iSCSI: requests with their replies, and what the kernel says unasked.
//!
//! The kernel does what is asked while it is being sent, so a reply is there when the send returns; events
//! for all sessions of the host come in between and wait here until they are asked for.

use super::message::{Event, Message, Reply, Request, parse};
use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Events that wait to be asked for; the oldest go first. What they told can be seen in /sys.
const WAITING_MAX: usize = 256;
/// Bytes of the largest message: a PDU of 8 KiB, and room.
const DATAGRAM_BYTES: usize = 32 << 10;
/// Bytes that may wait in the kernel for us to read.
const BACKLOG_BYTES: usize = 1 << 20;
/// How long a reply may take that is there already when all is well.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// The group to which the kernel tells what befalls sessions.
const GROUP: u32 = 1;

/// A socket to the kernel.
pub(super) struct Netlink {
    socket: OwnedFd,
    transport: u64,
    sequence: u32,
    waiting: VecDeque<Event>,
    /// Events were lost: what is so has to be looked up.
    lost: bool,
}

impl Netlink {
    /// A socket for requests to the transport with this handle. Needs CAP_SYS_ADMIN for what it will be used for.
    pub(super) fn open(transport: u64) -> Result<Netlink, Error> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::ISCSI),
        )
        .map_err(|error| Error::system("no socket to the kernel's iSCSI (NETLINK_ISCSI)", error))?;
        let _ = sockopt::set_socket_recv_buffer_size(&socket, BACKLOG_BYTES);
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUP))
            .and_then(|()| rustix::net::connect(&socket, &netlink::SocketAddrNetlink::new(0, 0)))
            .map_err(|error| Error::system("the kernel's iSCSI cannot be listened to", error))?;
        Ok(Netlink::over(socket, transport))
    }

    /// The same over any socket that keeps messages apart.
    pub(super) fn over(socket: OwnedFd, transport: u64) -> Netlink {
        Netlink { socket, transport, sequence: 0, waiting: VecDeque::new(), lost: false }
    }

    /// Asks, and gives the reply. A refusal is the kernel's error number.
    pub(super) fn call(&mut self, request: &Request<'_>) -> Result<[u32; 2], Error> {
        self.ask(request).map_err(|error| Error::system(request.what(), error))
    }

    fn ask(&mut self, request: &Request<'_>) -> io::Result<[u32; 2]> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = request.encode(self.transport, self.sequence);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let counters = matches!(request, Request::Statistics(_));
        loop {
            let messages = self.receive(Some(REPLY_LIMIT))?;
            if messages.is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer"));
            }
            let mut answer = None;
            for message in messages {
                match message {
                    Message::Refused(errno) => answer = Some(Err(io::Error::from_raw_os_error(errno))),
                    Message::Reply(reply) if reply.kind == request.kind() => answer = Some(result(request, reply)),
                    // Counters are told to all, and are their own reply.
                    Message::Event(event @ Event::Statistics { .. }) => {
                        self.keep(event);
                        answer = answer.or(counters.then_some(Ok([0; 2])));
                    }
                    Message::Event(event) => self.keep(event),
                    Message::Reply(_) | Message::Other => {}
                }
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// The next event, waiting up to this long; `None` when there was none.
    pub(super) fn event(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        if self.waiting.is_empty() {
            let messages = self
                .receive(Some(limit))
                .map_err(|error| Error::system("the kernel's iSCSI cannot be listened to", error))?;
            for message in messages {
                if let Message::Event(event) = message {
                    self.keep(event);
                }
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// Whether events were lost since this was last asked.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    fn keep(&mut self, event: Event) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
            self.lost = true;
        }
        self.waiting.push_back(event);
    }

    /// One datagram's messages; none after the limit.
    fn receive(&mut self, limit: Option<Duration>) -> io::Result<Vec<Message>> {
        let limit = limit.map(timespec);
        let mut poll = [PollFd::new(&self.socket, PollFlags::IN)];
        match rustix::event::poll(&mut poll, limit.as_ref()) {
            Ok(0) => return Ok(Vec::new()),
            Err(rustix::io::Errno::INTR) => return Ok(vec![Message::Other]),
            other => other?,
        };
        let mut datagram = vec![0; DATAGRAM_BYTES];
        match rustix::net::recv(&self.socket, &mut datagram[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(match parse(datagram.get(..length).unwrap_or(&[])) {
                none if none.is_empty() => vec![Message::Other],
                messages => messages,
            }),
            // More came than there was room for.
            Err(rustix::io::Errno::NOBUFS) => {
                self.lost = true;
                Ok(vec![Message::Other])
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(vec![Message::Other]),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn result(request: &Request<'_>, reply: Reply) -> io::Result<[u32; 2]> {
    let status = reply.words[0] as i32;
    match status {
        _ if !request.answers_with_status() => Ok(reply.words),
        0 => Ok(reply.words),
        status => Err(io::Error::from_raw_os_error(status.wrapping_neg())),
    }
}

/// A duration as the system calls want it.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}
