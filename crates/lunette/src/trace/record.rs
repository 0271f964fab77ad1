//! What the daemon tells of a trace, line by line, as values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// Connections that are remembered.
const CONNECTIONS: usize = 65_536;

/// Who sent a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The initiator.
    Initiator,
    /// The target.
    Target,
}

/// A connection, or its login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its number in the trace.
    pub number: u64,
    /// Whether it is in its login.
    pub login: bool,
    /// The initiator's name.
    pub initiator: Option<String>,
    /// The target's name.
    pub target: Option<String>,
    /// TSIH.
    pub session: Option<u16>,
    /// CID.
    pub cid: Option<u16>,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The target's.
    pub local: SocketAddr,
    /// Whether headers have digests.
    pub header_digest: bool,
    /// Whether data segments have.
    pub data_digest: bool,
}

/// A PDU.
#[derive(Debug, Clone)]
pub struct Record {
    /// Microseconds since 1970.
    pub time_us: u64,
    /// Where.
    pub connection: Rc<Connection>,
    /// Whose.
    pub side: Side,
    /// Bytes that went before it in its direction.
    pub offset: u64,
    /// Its bytes on the wire.
    pub length: u32,
    /// The first of them.
    pub bytes: Vec<u8>,
    /// Whether its header has a digest.
    pub header_digest: bool,
    /// Whether its data segment has one.
    pub data_digest: bool,
}

/// A line.
#[derive(Debug)]
pub enum Told {
    /// The taps are on, so many connections are watched.
    Start(u64),
    /// A PDU.
    Pdu(Record),
    /// So many PDUs found no room.
    Missed(u64),
    /// Something that is not for people.
    Nothing,
}

/// Reads the lines of one trace.
#[derive(Debug, Default)]
pub struct Reader {
    connections: HashMap<u64, Rc<Connection>>,
}

impl Reader {
    /// One line; an error names what is wrong with it.
    pub fn read(&mut self, line: &str) -> Result<Told, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match value["type"].as_str() {
            Some("start") => Ok(Told::Start(value["connections"].as_u64().unwrap_or(0))),
            Some("missed") => Ok(Told::Missed(value["pdus"].as_u64().unwrap_or(0))),
            Some("connection") => {
                let connection = connection(&value).ok_or("a connection is not whole")?;
                if self.connections.len() >= CONNECTIONS {
                    self.connections.clear();
                }
                self.connections.insert(connection.number, Rc::new(connection));
                Ok(Told::Nothing)
            }
            Some("pdu") => self.pdu(&value).map(Told::Pdu).ok_or_else(|| "a PDU is not whole".to_owned()),
            // A newer daemon may tell more.
            _ => Ok(Told::Nothing),
        }
    }

    fn pdu(&self, value: &Value) -> Option<Record> {
        let connection = Rc::clone(self.connections.get(&value["connection"].as_u64()?)?);
        let side = match value["from"].as_str()? {
            "initiator" => Side::Initiator,
            "target" => Side::Target,
            _ => return None,
        };
        Some(Record {
            time_us: value["time_us"].as_u64()?,
            side,
            offset: value["offset"].as_u64()?,
            length: u32::try_from(value["length"].as_u64()?).ok()?,
            bytes: STANDARD.decode(value["bytes"].as_str()?).ok()?,
            header_digest: connection.header_digest,
            data_digest: connection.data_digest,
            connection,
        })
    }
}

fn connection(value: &Value) -> Option<Connection> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let number = |name: &str| value[name].as_u64().and_then(|number| u16::try_from(number).ok());
    let flag = |name: &str| value[name].as_bool().unwrap_or(false);
    Some(Connection {
        number: value["connection"].as_u64()?,
        login: flag("login"),
        initiator: text("initiator"),
        target: text("target"),
        session: number("session"),
        cid: number("cid"),
        peer: text("peer")?.parse().ok()?,
        local: text("local")?.parse().ok()?,
        header_digest: flag("header_digest"),
        data_digest: flag("data_digest"),
    })
}
