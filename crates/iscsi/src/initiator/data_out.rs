//! Data for the target: what may be sent unasked, and what R2Ts ask for (RFC 7143 §4.2.5.2, §11.8).

use super::Session;
use super::connection::ConnectionId;
use super::connection::Outgoing;
use super::task::{Grant, Task};
use crate::key::SessionParameters;
use crate::serial::precedes;
use crate::session::ConnectionError;
use crate::wire::{RESERVED_TAG, ReadyToTransfer};

/// R2Ts of one task that may wait at once beyond what was agreed, where the target recovers data.
const RECOVERY_GRANTS: u32 = 16;

/// How much of a write goes along with its command, and where its unsolicited data ends (§13.10, §13.11,
/// §13.14). All that may be sent unasked is sent, or none (DAT-03).
pub(super) fn unsolicited(task: &Task, session: &SessionParameters, segment: u32) -> (u32, u32) {
    let burst = session.first_burst_length.min(task.command.data_out);
    // A data segment that another follows is whole words (DAT-14).
    let along = match burst <= segment {
        true => burst,
        false => segment & !3,
    };
    match (session.immediate_data, session.initial_r2t) {
        (true, true) => (along, along),
        (true, false) => (along, burst),
        (false, true) => (0, 0),
        (false, false) => (0, burst),
    }
}

impl Session {
    /// The target asks for data. It gets what lies within the command's data, and nothing else ever
    /// (R2T-04).
    pub(super) fn ready_to_transfer(
        &mut self,
        c: ConnectionId,
        header: &ReadyToTransfer,
    ) -> Result<(), ConnectionError> {
        let recovers = self.recovers();
        let stat_sn = header.stat_sn.get();
        if recovers && let Some(connection) = self.connection_mut(c) {
            connection.known_to_exist(stat_sn)?;
        }
        let found = self.tasks.by_tag(header.initiator_task_tag.get());
        let limit = self.parameters.max_outstanding_r2t.saturating_add(if recovers { RECOVERY_GRANTS } else { 0 });
        let burst = self.parameters.max_burst_length;
        let task = found.and_then(|id| self.tasks.get_mut(id)).filter(|task| task.is_with(c));
        let (Some(id), Some(task)) = (found, task) else {
            return match recovers || self.ended.contains(&header.initiator_task_tag.get()) {
                true => Ok(()),
                false => Err(ConnectionError::Format("an R2T for a task that does not exist")),
            };
        };
        let (offset, length) = (header.buffer_offset.get(), header.desired_data_transfer_length.get());
        if !task.writes() {
            return Err(ConnectionError::Format("an R2T for a command that does not write"));
        }
        if length == 0 || length > burst {
            return Err(ConnectionError::Format("an R2T for no data, or for more than MaxBurstLength"));
        }
        if u64::from(offset) + u64::from(length) > u64::from(task.command.data_out) {
            return Err(ConnectionError::Format("an R2T beyond the command's data"));
        }
        if header.target_transfer_tag.get() == RESERVED_TAG {
            return Err(ConnectionError::Format("an R2T with the reserved transfer tag"));
        }
        if header.lun != task.command.lun {
            return Err(ConnectionError::Format("an R2T with another unit than its task's"));
        }
        task.known = true;
        let r2t_sn = header.r2t_sn.get();
        if std::mem::take(&mut task.r2t_anew) {
            task.r2t_sn = r2t_sn;
        }
        if r2t_sn != task.r2t_sn {
            return match (recovers, precedes(r2t_sn, task.r2t_sn)) {
                (false, _) => Err(ConnectionError::Format("an R2TSN out of order")),
                (true, true) => Ok(()),
                (true, false) => {
                    // Those before it, and it once more, in order.
                    let first = task.r2t_sn;
                    let asked = |one: &Outgoing| matches!(one, Outgoing::MissingR2t { task, .. } if *task == id);
                    if let Some(connection) = self.connection_mut(c)
                        && !connection.outgoing.iter().any(asked)
                    {
                        connection.outgoing.push_back(Outgoing::MissingR2t { task: id, first });
                    }
                    Ok(())
                }
            };
        }
        task.r2t_sn = r2t_sn.wrapping_add(1);
        // One that was aborted gets nothing more (§11.5.1), one that is answered needs nothing more.
        if task.aborting || task.outcome.is_some() {
            return Ok(());
        }
        if task.grants.len() >= limit as usize {
            return Err(ConnectionError::Format("more R2Ts than MaxOutstandingR2T"));
        }
        task.fetched = task.fetched.saturating_add(length);
        task.grants.push_back(Grant {
            target_transfer_tag: header.target_transfer_tag.get(),
            offset,
            left: length,
            data_sn: 0,
        });
        self.queue(c, Outgoing::Solicited(id));
        Ok(())
    }
}
