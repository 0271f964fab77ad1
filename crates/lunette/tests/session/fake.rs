//! A target that answers as a test says: silent, busy, or lying.

use iscsi::wire::{
    DataIn, FINAL, LoginResponse, LogoutResponse, Pdu, ScsiCommand, ScsiResponse, TaskManagementResponse,
};
use sim::Frame;
use sim::frame::{Assembler, Digests};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A connection of it, after the login.
pub struct Peer {
    stream: TcpStream,
    stat_sn: u32,
    exp_cmd_sn: u32,
    /// How many commands it lets in ahead of the last that it has answered.
    pub window: u32,
}

impl Peer {
    /// Sends a PDU as it is.
    pub fn send(&mut self, frame: &Frame) {
        let _ = self.stream.write_all(&frame.encode(Digests::default()));
    }

    /// The next StatSN.
    pub fn stat_sn(&mut self) -> u32 {
        self.stat_sn += 1;
        self.stat_sn - 1
    }

    /// ExpCmdSN and MaxCmdSN.
    pub fn numbers(&self) -> (u32, u32) {
        (self.exp_cmd_sn, self.exp_cmd_sn + self.window - 1)
    }

    /// The end of a command.
    pub fn answer(&mut self, command: &ScsiCommand, status: u8, sense: &[u8]) {
        let mut header = ScsiResponse::empty();
        header.flags = FINAL;
        header.status = status;
        header.initiator_task_tag = command.initiator_task_tag;
        header.stat_sn = self.stat_sn().into();
        let (exp, max) = self.numbers();
        (header.exp_cmd_sn, header.max_cmd_sn) = (exp.into(), max.into());
        let mut data = Vec::new();
        if !sense.is_empty() {
            data.extend_from_slice(&(sense.len() as u16).to_be_bytes());
            data.extend_from_slice(sense);
        }
        self.send(&Frame::new(header, &data));
    }

    /// Data for a command, with GOOD in it.
    pub fn data(&mut self, command: &ScsiCommand, offset: u32, data: &[u8]) {
        let mut header = DataIn::empty();
        header.flags = FINAL | 1;
        header.initiator_task_tag = command.initiator_task_tag;
        header.target_transfer_tag = u32::MAX.into();
        header.stat_sn = self.stat_sn().into();
        let (exp, max) = self.numbers();
        (header.exp_cmd_sn, header.max_cmd_sn) = (exp.into(), max.into());
        header.buffer_offset = offset.into();
        self.send(&Frame::new(header, data));
    }
}

/// What it does with a command.
pub type Script = dyn FnMut(&mut Peer, &ScsiCommand, &[u8]) + Send;

/// Listens until the process ends. Every session that comes is told what the script says; functions succeed.
pub fn start(window: u32, mut script: Box<Script>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            serve(Peer { stream, stat_sn: 1, exp_cmd_sn: 1, window }, &mut *script);
        }
    });
    address
}

fn serve(mut peer: Peer, script: &mut Script) {
    let mut frames = Assembler::default();
    let mut bytes = vec![0; 1 << 16];
    loop {
        let count = match peer.stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        frames.push(&bytes[..count]);
        while let Some((frame, _)) = frames.take() {
            let tag = frame.basic().initiator_task_tag;
            match frame.opcode() & 0x3f {
                0x03 => {
                    let mut header = LoginResponse::empty();
                    // The stage that was asked for, and what it is to be left for.
                    header.flags = frame.basic().flags;
                    header.isid.copy_from_slice(&frame.header[8..14]);
                    header.tsih = 1.into();
                    header.stat_sn = peer.stat_sn().into();
                    let (exp, max) = peer.numbers();
                    (header.exp_cmd_sn, header.max_cmd_sn) = (exp.into(), max.into());
                    let text: &[u8] = match header.flags & 0x0c {
                        0 => b"AuthMethod=None\0",
                        _ => b"HeaderDigest=None\0DataDigest=None\0DefaultTime2Wait=0\0",
                    };
                    peer.send(&Frame::new(header, text));
                }
                0x01 => {
                    if let Some(command) = frame.view::<ScsiCommand>() {
                        peer.exp_cmd_sn = command.cmd_sn.get() + 1;
                        script(&mut peer, command, &frame.data);
                    }
                }
                0x02 => {
                    let mut header = TaskManagementResponse::empty();
                    header.flags = FINAL;
                    header.initiator_task_tag = tag;
                    header.stat_sn = peer.stat_sn().into();
                    let (exp, max) = peer.numbers();
                    (header.exp_cmd_sn, header.max_cmd_sn) = (exp.into(), max.into());
                    peer.send(&Frame::new(header, &[]));
                }
                0x06 => {
                    let mut header = LogoutResponse::empty();
                    header.flags = FINAL;
                    header.initiator_task_tag = tag;
                    header.stat_sn = peer.stat_sn().into();
                    peer.send(&Frame::new(header, &[]));
                    return;
                }
                _ => {}
            }
        }
    }
}
