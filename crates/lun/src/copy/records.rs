//! What is remembered of the copies of one nexus at one unit, for RECEIVE COPY RESULTS. All on one lane.

use scsi::copy::results::{CONCURRENT, Report, State};
use scsi::{Condition, Sense, SenseKey};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// One copy.
pub(crate) struct CopyRecord {
    /// LIST IDENTIFIER; without one it is never told of.
    identifier: Option<u32>,
    service_action: u8,
    state: Cell<State>,
    transferred: Cell<u64>,
    operations: Cell<u16>,
    segments: Cell<u16>,
    sense: Cell<Option<Condition>>,
    token: RefCell<Option<Box<[u8]>>>,
}

impl CopyRecord {
    /// So many bytes more were written, by one request.
    pub fn advance(&self, bytes: u64) {
        self.transferred.set(self.transferred.get().saturating_add(bytes));
        self.operations.set(self.operations.get().wrapping_add(1));
    }

    /// A segment more is done.
    pub fn segment_done(&self) {
        self.segments.set(self.segments.get().saturating_add(1));
    }

    /// The token that was made.
    pub fn give_token(&self, token: &[u8]) {
        *self.token.borrow_mut() = Some(token.into());
    }

    /// The status of the command is sent; the copy goes on.
    pub fn in_background(&self) {
        self.state.set(State::Background);
    }

    fn is_under_way(&self) -> bool {
        matches!(self.state.get(), State::Foreground | State::Background)
    }
}

/// A copy under way. Where this falls before its end was told, the copy was cut off.
pub(crate) struct Running(Rc<CopyRecord>);

impl Running {
    /// The copy has ended.
    pub fn end(self, result: Result<(), Condition>) -> Result<(), Condition> {
        self.0.sense.set(result.err());
        self.0.state.set(if result.is_ok() { State::Completed } else { State::Failed });
        result
    }
}

impl std::ops::Deref for Running {
    type Target = CopyRecord;

    fn deref(&self) -> &CopyRecord {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.is_under_way() {
            self.0.sense.set(Some(Condition::new(SenseKey::CopyAborted, 0x00, 0x00)));
            self.0.state.set(State::Aborted);
        }
    }
}

/// The copies of one nexus at one unit, the oldest first.
#[derive(Default)]
pub(crate) struct CopyRecords(RefCell<VecDeque<Rc<CopyRecord>>>);

impl CopyRecords {
    /// A copy begins. Its list identifier must not be that of one that is under way (SPC-4 6.4.3).
    pub fn begin(&self, identifier: Option<u32>, service_action: u8) -> Result<Running, Condition> {
        let mut records = self.0.borrow_mut();
        if identifier.is_some() {
            if records.iter().any(|record| record.identifier == identifier && record.is_under_way()) {
                // OPERATION IN PROGRESS.
                return Err(Condition::new(SenseKey::IllegalRequest, 0x00, 0x16));
            }
            records.retain(|record| record.identifier != identifier);
        }
        if records.len() >= usize::from(CONCURRENT) {
            let oldest = records.iter().position(|record| !record.is_under_way());
            // INSUFFICIENT RESOURCES.
            let oldest = oldest.ok_or(Condition::new(SenseKey::AbortedCommand, 0x55, 0x03))?;
            records.remove(oldest);
        }
        let record = Rc::new(CopyRecord {
            identifier,
            service_action,
            state: Cell::new(State::Foreground),
            transferred: Cell::new(0),
            operations: Cell::new(0),
            segments: Cell::new(0),
            sense: Cell::new(None),
            token: RefCell::default(),
        });
        records.push_back(Rc::clone(&record));
        Ok(Running(record))
    }

    /// Tells of the copy with this list identifier with `encode`; what was told of a copy that is over
    /// with room for all of it is forgotten. None where no such copy is known.
    pub fn tell(
        &self,
        identifier: u32,
        block_length: u32,
        room: usize,
        descriptor_sense: bool,
        out: &mut Vec<u8>,
        encode: fn(&Report<'_>, &mut Vec<u8>),
    ) -> Option<()> {
        let mut records = self.0.borrow_mut();
        let at = records.iter().position(|record| record.identifier == Some(identifier))?;
        let record = records.get(at)?;
        let sense = record.sense.get().map(|condition| Sense::encode(&condition, descriptor_sense));
        let token = record.token.borrow();
        let report = Report {
            service_action: record.service_action,
            state: record.state.get(),
            transferred: record.transferred.get(),
            block_length,
            operations: record.operations.get(),
            segments: record.segments.get(),
            sense: sense.as_ref().map_or(&[], |sense| sense.as_bytes()),
            token: token.as_deref(),
        };
        encode(&report, out);
        let told = out.len() <= room && !record.is_under_way();
        drop(token);
        if told {
            records.remove(at);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scsi::copy::results::copy_status_lid4;

    fn state(records: &CopyRecords, identifier: u32) -> Option<u8> {
        let mut out = Vec::new();
        records.tell(identifier, 512, 0, false, &mut out, copy_status_lid4)?;
        out.get(5).copied()
    }

    #[test]
    fn a_copy_is_told_of_until_it_was_heard() {
        let records = CopyRecords::default();
        let running = records.begin(Some(7), 0).unwrap();
        assert_eq!(records.begin(Some(7), 0).err().unwrap().code, (0x00, 0x16));
        running.advance(512);
        assert_eq!(state(&records, 7), Some(0x11));
        running.end(Ok(())).unwrap();
        assert_eq!(state(&records, 7), Some(0x01), "without room it is told again");
        let mut out = Vec::new();
        records.tell(7, 512, 1024, false, &mut out, copy_status_lid4).unwrap();
        assert_eq!((out[23], state(&records, 7)), (0, None));
        assert_eq!(u64::from_be_bytes(out[16..24].try_into().unwrap()), 512);
    }

    #[test]
    fn a_copy_that_is_cut_off_was_aborted() {
        let records = CopyRecords::default();
        drop(records.begin(Some(1), 0).unwrap());
        assert_eq!(state(&records, 1), Some(0x60));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_what_runs_is_not() {
        let records = CopyRecords::default();
        let running: Vec<_> = (0..15).map(|number| records.begin(Some(number), 0).unwrap()).collect();
        for number in 100..200 {
            records.begin(Some(number), 0).unwrap().end(Ok(())).unwrap();
        }
        assert_eq!((state(&records, 199), state(&records, 198)), (Some(1), None));
        let last = records.begin(None, 0).unwrap();
        assert_eq!(records.begin(Some(300), 0).err().unwrap().code, (0x55, 0x03));
        drop((running, last));
        assert!(records.begin(Some(300), 0).is_ok());
    }
}
