//! The floor: a server that moves messages of iSCSI's sizes between a socket and a file and does nothing
//! else. What an iSCSI target takes beyond this is what iSCSI and SCSI cost (docs/performance.md).
//!
//! usage: floor FILE ADDRESS:PORT, driven by `lunette bench floor://ADDRESS:PORT/BYTES`. It trusts its
//! client: it is for measuring only.

use rustix::event::epoll;
use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;

/// Bytes of a header, both ways.
const HEADER: usize = 48;
/// Bytes that are read at a time.
const INPUT: usize = 512 << 10;

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    held: usize,
    /// Grows to what is needed once, and is never cleared: zeroing is no part of the floor.
    out: Vec<u8>,
    filled: usize,
    sent: usize,
    blocked: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(path), Some(address)) = (words.next(), words.next()) else {
        return Err("usage: floor FILE ADDRESS:PORT".into());
    };
    let file = File::options().read(true).write(true).open(path)?;
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listening = u64::MAX;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(listening), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            if event.data.u64() == listening {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let data = epoll::EventData::new_u64(connections.len() as u64);
                    epoll::add(&poll, &stream, data, epoll::EventFlags::IN)?;
                    let input = vec![0; INPUT];
                    let connection =
                        Connection { stream, input, held: 0, out: Vec::new(), filled: 0, sent: 0, blocked: false };
                    connections.push(Some(connection));
                }
                continue;
            }
            let slot = &mut connections[event.data.u64() as usize];
            let Some(connection) = slot else { continue };
            let was_blocked = connection.blocked;
            if connection.turn(&file).is_err() {
                *slot = None;
            } else if connection.blocked != was_blocked {
                let flags = match connection.blocked {
                    true => epoll::EventFlags::OUT,
                    false => epoll::EventFlags::IN,
                };
                epoll::modify(&poll, &connection.stream, event.data, flags)?;
            }
        }
    }
}

impl Connection {
    fn turn(&mut self, file: &File) -> std::io::Result<()> {
        if !self.flush()? {
            return Ok(());
        }
        loop {
            if self.held == self.input.len() {
                self.input.resize(self.held * 2, 0);
            }
            let room = self.input.len() - self.held;
            match self.stream.read(&mut self.input[self.held..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(came) => {
                    self.held += came;
                    self.answer(file)?;
                    if !self.flush()? || came < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&mut self, file: &File) -> std::io::Result<()> {
        let mut at = 0;
        while self.held - at >= HEADER {
            let header: [u8; HEADER] = self.input[at..at + HEADER].try_into().expect("48 bytes");
            let number =
                |from: usize, to: usize| header[from..to].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            let (data, expected) = (number(5, 8) as usize, number(20, 24) as usize);
            if self.held - at < HEADER + data {
                break;
            }
            let offset = number(34, 42) * 512;
            let mut reply = [0; HEADER];
            reply[16..20].copy_from_slice(&header[16..20]);
            if header[1] & 0x20 != 0 {
                file.write_all_at(&self.input[at + HEADER..at + HEADER + data], offset)?;
                reply[..2].copy_from_slice(&[0x21, 0x80]);
                self.room(HEADER).copy_from_slice(&reply);
            } else {
                reply[..2].copy_from_slice(&[0x25, 0x81]);
                reply[5..8].copy_from_slice(&(expected as u32).to_be_bytes()[1..]);
                let room = self.room(HEADER + expected);
                room[..HEADER].copy_from_slice(&reply);
                file.read_exact_at(&mut room[HEADER..], offset)?;
            }
            at += HEADER + data;
        }
        self.input.copy_within(at..self.held, 0);
        self.held -= at;
        Ok(())
    }

    /// The next bytes of the output.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.filled;
        self.filled += bytes;
        if self.out.len() < self.filled {
            self.out.resize(self.filled * 2, 0);
        }
        &mut self.out[start..self.filled]
    }

    /// True when all is sent.
    fn flush(&mut self) -> std::io::Result<bool> {
        while self.sent < self.filled {
            match self.stream.write(&self.out[self.sent..self.filled]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.blocked = false;
        (self.sent, self.filled) = (0, 0);
        Ok(true)
    }
}
