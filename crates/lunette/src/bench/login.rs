//! The login of a connection of the load, and the disk's capacity.

use super::Digests;
use super::place::{Kind, Place};
use iscsi::text;
use iscsi::wire::{
    BHS_BYTES, FINAL, Header, IMMEDIATE, LoginRequest, LoginResponse, Pdu, ScsiCommand, TRANSIT, padding,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use zerocopy::FromBytes;

/// The longest data segment that we take.
const RECEIVE_BYTES: u32 = 262_144;

/// A connection that has logged in.
#[derive(Debug)]
pub struct Session {
    /// The socket, blocking.
    pub stream: TcpStream,
    /// What the server speaks; a floor server needs no data-out solicited.
    pub floor: bool,
    /// The LUN as it stands on the wire.
    pub lun: [u8; 8],
    /// The next command's number.
    pub cmd_sn: u32,
    /// The next status expected.
    pub exp_stat_sn: u32,
    /// The most bytes of immediate data.
    pub immediate: u32,
    /// The most bytes of one Data-Out.
    pub segment: u32,
    /// HeaderDigest.
    pub header_digest: bool,
    /// DataDigest.
    pub data_digest: bool,
    /// Bytes of the disk.
    pub capacity: u64,
    /// Bytes of a block.
    pub block_length: u32,
}

/// A connection, logged in and ready for commands.
pub fn open(place: &Place, number: u16, digests: Digests) -> Result<Session, String> {
    let mut session = only(place, number, digests)?;
    if !session.floor {
        // What a new nexus is told (unit attentions) goes before.
        for _ in 0..8 {
            if command(&mut session, &[0; 6], 0)?.0 == 0 {
                break;
            }
        }
        let mut cdb = [0; 16];
        [cdb[0], cdb[1], cdb[13]] = [0x9e, 0x10, 32];
        let (status, data) = command(&mut session, &cdb, 32)?;
        let field = |at: usize| data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let (Some(high), Some(low), Some(length), 0) = (field(0), field(4), field(8), status) else {
            return Err(format!("READ CAPACITY ends with status {status:02X}h"));
        };
        session.block_length = length;
        session.capacity = ((u64::from(high) << 32 | u64::from(low)) + 1) * u64::from(length);
    }
    Ok(session)
}

/// A connection that has logged in, and nothing else.
pub fn only(place: &Place, number: u16, digests: Digests) -> Result<Session, String> {
    let stream = TcpStream::connect(place.address).map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut session = Session {
        stream,
        floor: true,
        lun: [0; 8],
        cmd_sn: 1,
        exp_stat_sn: 1,
        immediate: u32::MAX,
        segment: RECEIVE_BYTES,
        header_digest: false,
        data_digest: false,
        capacity: 0,
        block_length: 512,
    };
    match &place.kind {
        Kind::Floor { capacity } => session.capacity = *capacity,
        Kind::Iscsi { target, number: lun } => {
            session.floor = false;
            session.lun[..2].copy_from_slice(&if *lun < 256 { *lun } else { *lun | 0x4000 }.to_be_bytes());
            log_in(&mut session, target, number, digests)?;
        }
    }
    Ok(session)
}

fn log_in(session: &mut Session, target: &str, number: u16, digests: Digests) -> Result<(), String> {
    let mut question = Vec::new();
    let wanted = |wanted: bool| if wanted { "CRC32C" } else { "None" };
    // Targets bound the sessions of one initiator.
    let initiator = format!("iqn.2026-11.io.lunette:bench-{}", number / 32);
    for (key, value) in [
        ("InitiatorName", &*initiator),
        ("TargetName", target),
        ("SessionType", "Normal"),
        ("HeaderDigest", wanted(digests != Digests::None)),
        ("DataDigest", wanted(digests == Digests::Both)),
        ("InitialR2T", "Yes"),
        ("ImmediateData", "Yes"),
        ("FirstBurstLength", "262144"),
        ("MaxBurstLength", "1048576"),
        ("MaxOutstandingR2T", "1"),
        ("ErrorRecoveryLevel", "0"),
        ("MaxRecvDataSegmentLength", &RECEIVE_BYTES.to_string()),
    ] {
        text::push(&mut question, key, value);
    }
    let mut answers = Vec::new();
    loop {
        let mut header = LoginRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.flags = TRANSIT | 0x04 | 0x03;
        // Every connection is a session: its own ISID.
        let [high, low] = number.to_be_bytes();
        header.isid = [0x80, 0, 0, 0, high, low];
        header.cmd_sn = session.cmd_sn.into();
        header.exp_stat_sn = session.exp_stat_sn.into();
        send(session, header, &question)?;
        question.clear();
        let (header, data) = receive(session)?;
        let response = LoginResponse::view(&header);
        if response.status_class != 0 {
            let (class, detail) = (response.status_class, response.status_detail);
            return Err(format!("the login is refused with status {class:02X}{detail:02X}h"));
        }
        session.exp_stat_sn = response.stat_sn.get().wrapping_add(1);
        answers.extend(data);
        if response.flags & TRANSIT != 0 {
            break;
        }
    }
    let mut first_burst = 65_536;
    let mut immediate = true;
    session.segment = 8192;
    for (key, value) in text::pairs(&answers).map_while(Result::ok) {
        let number = || text::number(value).and_then(|number| u32::try_from(number).ok());
        match key {
            "HeaderDigest" => session.header_digest = value == "CRC32C",
            "DataDigest" => session.data_digest = value == "CRC32C",
            "ImmediateData" => immediate = value == "Yes",
            "FirstBurstLength" => first_burst = number().unwrap_or(first_burst),
            "MaxRecvDataSegmentLength" => session.segment = number().unwrap_or(8192).min(1 << 20),
            _ => {}
        }
    }
    session.immediate = if immediate { first_burst.min(session.segment) } else { 0 };
    Ok(())
}

/// One command without data-out, its status and data-in. Waits.
fn command(session: &mut Session, cdb: &[u8], expected: u32) -> Result<(u8, Vec<u8>), String> {
    let mut header = ScsiCommand::empty();
    header.flags = FINAL | if expected > 0 { 0x40 } else { 0 };
    header.lun = session.lun;
    header.expected_data_transfer_length = expected.into();
    header.cmd_sn = session.cmd_sn.into();
    header.exp_stat_sn = session.exp_stat_sn.into();
    header.cdb[..cdb.len()].copy_from_slice(cdb);
    session.cmd_sn = session.cmd_sn.wrapping_add(1);
    send(session, header, &[])?;
    let mut data_in = Vec::new();
    loop {
        let (header, data) = receive(session)?;
        let (opcode, status) = (header.opcode(), header.specific[1]);
        let stat_sn = u32::from_be_bytes([header.rest[4], header.rest[5], header.rest[6], header.rest[7]]);
        match opcode {
            0x25 => data_in.extend(data),
            0x21 => {}
            _ => return Err(format!("an answer of opcode {opcode:02X}h to a command")),
        }
        if opcode == 0x21 || header.flags & 1 != 0 {
            session.exp_stat_sn = stat_sn.wrapping_add(1);
            return Ok((status, data_in));
        }
    }
}

fn send<P: Pdu>(session: &mut Session, mut header: P, data: &[u8]) -> Result<(), String> {
    header.set_data_segment_bytes(data.len() as u32);
    let mut bytes = header.as_bytes().to_vec();
    if session.header_digest {
        bytes.extend(io::crc32c::Crc32c::over(&bytes).to_le_bytes());
    }
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len() + padding(data.len() as u32) as usize, 0);
    session.stream.write_all(&bytes).map_err(|error| error.to_string())
}

fn receive(session: &mut Session) -> Result<(Header, Vec<u8>), String> {
    let mut take = |bytes: &mut [u8]| session.stream.read_exact(bytes).map_err(|error| error.to_string());
    let mut header = [0; BHS_BYTES];
    take(&mut header)?;
    if session.header_digest {
        take(&mut [0; 4])?;
    }
    let header = Header::read_from_bytes(&header).map_err(|_| "a header is 48 bytes")?;
    let length = header.data_segment_bytes();
    let mut data = vec![0; (length + padding(length)) as usize];
    take(&mut data)?;
    if session.data_digest && length > 0 {
        take(&mut [0; 4])?;
    }
    data.truncate(length as usize);
    Ok((header, data))
}
