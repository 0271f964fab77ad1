//! Which command an answer belongs to: names and times of the tasks that are under way.

use super::pdu::{Decoded, lun_words};
use super::record::{Record, Side};
use iscsi::wire::{Opcode, RESERVED_TAG};
use std::collections::HashMap;

/// Tasks that are remembered.
const TASKS: usize = 65_536;

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What it was asked for: the command's name, or the function's.
    pub name: String,
    /// Its LUN.
    pub lun: Option<String>,
    /// When it was asked, in microseconds since 1970.
    begun_us: u64,
    /// How long it took, of the PDU that ends it.
    pub took_us: Option<u64>,
}

/// By session, or connection where there is none, and Initiator Task Tag.
#[derive(Default)]
pub struct Tasks(HashMap<(Option<u16>, u64, u32), Task>);

impl Tasks {
    /// The task of a PDU, where it was seen to begin.
    pub fn follow(&mut self, record: &Record, decoded: &Decoded<'_>) -> Option<Task> {
        let session = record.connection.session;
        // A task is the session's: at recovery level 2 its answer may come on another connection.
        let connection = if session.is_some() { 0 } else { record.connection.number };
        let key = (session, connection, decoded.tag);
        if decoded.tag == RESERVED_TAG {
            return None;
        }
        let begins = record.side == Side::Initiator
            && !matches!(decoded.opcode, Some(Opcode::DataOut | Opcode::SnackRequest) | None);
        if begins {
            let name = match (&decoded.cdb, decoded.opcode) {
                (Some(cdb), _) => scsi::commands::name(cdb),
                (None, Some(Opcode::TaskManagementRequest)) => decoded.words.clone(),
                _ => decoded.name.clone(),
            };
            let lun = decoded.lun.map(lun_words);
            let task = Task { name, lun, begun_us: record.time_us, took_us: None };
            if self.0.len() >= TASKS {
                self.0.clear();
            }
            self.0.insert(key, task.clone());
            return Some(task);
        }
        let is_last = decoded.ends_task
            || matches!(
                decoded.opcode,
                Some(
                    Opcode::NopIn
                        | Opcode::TaskManagementResponse
                        | Opcode::TextResponse
                        | Opcode::LogoutResponse
                        | Opcode::LoginResponse
                )
            );
        match is_last {
            true => {
                let mut task = self.0.remove(&key)?;
                task.took_us = Some(record.time_us.saturating_sub(task.begun_us));
                Some(task)
            }
            false => self.0.get(&key).cloned(),
        }
    }
}
