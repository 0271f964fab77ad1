//! An iSNS server asked for the targets that we may see (RFC 4171 §5.6.5.2).

use super::{Target, TargetPortal, add};
use crate::{Error, Portal};
use iscsi::isns::{Message, Receiver, Status, find_targets, found_targets};
use iscsi::name::Name;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer at most.
const ANSWER_BYTES: usize = 4 << 20;
/// Messages that are passed over while the answer is awaited.
const OTHERS: usize = 16;
/// Of the one request that a connection carries.
const TRANSACTION: u16 = 1;

/// Asks a server for all targets that the initiator of this name may see, within this time.
pub async fn isns(server: &Portal, initiator_name: &str, limit: Duration) -> Result<Vec<Target>, Error> {
    let name = Name::lenient(initiator_name).map_err(|error| Error::Invalid(format!("{initiator_name}: {error}")))?;
    let late = || Error::TimedOut { what: format!("the iSNS server {server} has not answered"), limit };
    let answer = tokio::time::timeout(limit, ask(server, &name)).await.unwrap_or_else(|_| Err(late()))?;
    match answer.status {
        Some(Status::SUCCESSFUL) => {}
        // Nobody is there, or nobody whom we may see.
        Some(Status::NO_SUCH_ENTRY) => return Ok(Vec::new()),
        Some(status) => return Err(Error::Isns { server: server.to_string(), why: status.to_string() }),
        None => return Err(wrong(server, "the answer has no status")),
    }
    let mut targets = Vec::new();
    for found in found_targets(&answer) {
        let portals = found.portals.into_iter().map(|(address, group)| TargetPortal {
            portal: Portal::new(address.ip().to_canonical().to_string(), address.port()),
            group,
        });
        add(&mut targets, found.name, portals);
    }
    Ok(targets)
}

fn wrong(server: &Portal, why: impl std::fmt::Display) -> Error {
    Error::Protocol { target: format!("the iSNS server {server}"), why: why.to_string() }
}

async fn ask(server: &Portal, name: &Name) -> Result<Message, Error> {
    let network = |error: std::io::Error| Error::Network {
        portal: server.to_string(),
        kind: error.kind(),
        why: error.to_string(),
    };
    let mut stream = TcpStream::connect((&*server.host, server.port)).await.map_err(network)?;
    let question = Message { transaction: TRANSACTION, ..find_targets(name) };
    stream.write_all(&question.encode()).await.map_err(network)?;
    let mut receiver = Receiver::new(ANSWER_BYTES);
    let mut piece = [0; 4096];
    for _ in 0..OTHERS {
        let message = loop {
            let taken = receiver.take().map_err(|error| wrong(server, format!("it sent {error}")))?;
            if let Some(message) = taken {
                break message;
            }
            match stream.read(&mut piece).await.map_err(network)? {
                0 => return Err(wrong(server, "it closed the connection without an answer")),
                length => receiver.push(piece.get(..length).unwrap_or_default()),
            }
        };
        if message.function == question.function.response() && message.transaction == TRANSACTION {
            return Ok(message);
        }
    }
    Err(wrong(server, "it answers what was not asked"))
}
