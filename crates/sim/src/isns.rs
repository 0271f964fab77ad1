//! An iSNS server that does what a test says, for the client in the daemon.

use iscsi::isns::{Attribute, Message, Receiver, Status, Tag};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long something may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server at a port of its own.
pub struct IsnsServer {
    listener: TcpListener,
}

/// A connection, from the daemon or to it.
pub struct IsnsPeer {
    stream: TcpStream,
    receiver: Receiver,
}

impl IsnsServer {
    /// One at a free port of 127.0.0.1.
    pub fn start() -> IsnsServer {
        IsnsServer { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port") }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next connection of the daemon.
    pub fn accept(&self) -> IsnsPeer {
        IsnsPeer::of(self.listener.accept().expect("a connection").0)
    }

    /// The next connection, registered.
    pub fn registered(&self, period: u32) -> (IsnsPeer, Message) {
        let mut peer = self.accept();
        let registration = peer.receive();
        peer.answer(&registration, Status::SUCCESSFUL, Self::known(&registration, period));
        let listen = peer.receive();
        peer.answer(&listen, Status::SUCCESSFUL, Vec::new());
        (peer, registration)
    }

    /// What a server answers that has taken this registration and keeps it for so many seconds.
    pub fn known(registration: &Message, period: u32) -> Vec<Attribute> {
        let period = |attribute: &Attribute| match attribute.tag {
            Tag::REGISTRATION_PERIOD => Attribute::number(Tag::REGISTRATION_PERIOD, period),
            _ => attribute.clone(),
        };
        let entity = registration.operating().first().cloned();
        let delimiter = Attribute::empty(Tag::DELIMITER);
        entity.into_iter().chain([delimiter]).chain(registration.operating().iter().map(period)).collect()
    }
}

impl IsnsPeer {
    fn of(stream: TcpStream) -> IsnsPeer {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        IsnsPeer { stream, receiver: Receiver::new(1 << 20) }
    }

    /// A connection to where the daemon takes inquiries and notifications.
    pub fn connect(address: SocketAddr) -> IsnsPeer {
        IsnsPeer::of(TcpStream::connect(address).expect("somebody listens"))
    }

    /// The next message; panics when none comes.
    pub fn receive(&mut self) -> Message {
        self.try_receive().expect("a message")
    }

    /// The next message; `None` when the connection ends.
    pub fn try_receive(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.receiver.take().expect("a well-formed message") {
                return Some(message);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(length) => self.receiver.push(&piece[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no message: {error}"),
            }
        }
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Message, status: Status, attributes: Vec<Attribute>) {
        self.send(&request.answer(status, attributes).encode());
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("somebody reads");
    }

    /// Sends bytes for as long as somebody takes them within a second. Returns how many.
    pub fn pour(&mut self, bytes: &[u8], most: usize) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let mut poured = 0;
        while poured < most {
            match self.stream.write(bytes) {
                Ok(length) if length == bytes.len() => poured += length,
                Ok(length) => return poured + length,
                Err(_) => return poured,
            }
        }
        poured
    }

    /// Whether the other side ends the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}
