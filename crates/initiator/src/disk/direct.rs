//! The short way: a read or write that is one command goes from its worker straight to the session's driver, without
//! a task for it. All else goes by the pump ([`super::channel`]).

use super::Shared;
use super::operation::{Failure, Transfer};
use crate::{Channel, Command, Finished, Lun};
use block::{Alarm, Completion, Engine, Error, ErrorKind, Outcome, Request, Slots, Store};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// A worker's channel to a disk of one session.
pub(super) struct Direct {
    shared: Arc<Shared>,
    commands: Channel,
    /// Requests that are under way as commands, by the command's number.
    pending: Slots<Pending>,
    batch: Vec<(u64, Lun, Command)>,
    finished: Vec<(u64, Finished)>,
    /// Those that take more than one command, or another.
    others: Box<dyn Store>,
    rest: Vec<Request>,
}

struct Pending {
    /// Without its buffer.
    request: Request,
    transfer: Transfer,
    /// Bytes of its buffer.
    room: usize,
}

/// A worker's alarm as what a session wakes.
struct Ringer(Arc<dyn Alarm>);

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring();
    }
}

impl Direct {
    pub(super) fn open(
        shared: Arc<Shared>,
        engine: &Rc<dyn Engine>,
        others: Box<dyn Store>,
    ) -> Result<Box<dyn Store>, Error> {
        let alarm = engine.alarm().ok_or(Error::new(ErrorKind::Unsupported))?;
        let commands = shared.unit.session().channel(Waker::from(Arc::new(Ringer(alarm))));
        Ok(Box::new(Direct {
            shared,
            commands,
            pending: Slots::default(),
            batch: Vec::new(),
            finished: Vec::new(),
            others,
            rest: Vec::new(),
        }))
    }
}

impl Store for Direct {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        let facts = self.shared.known.facts();
        let lun = self.shared.unit.lun();
        for mut request in batch.drain(..) {
            if let Err(error) = request.check(&facts.limits) {
                done.push(request.complete(Err(error)));
                continue;
            }
            let transfer = Transfer::whole(&request, &facts.limits, &facts.abilities);
            let (Some(transfer), Some(buffer)) = (transfer, request.buffer.take_if(|_| transfer.is_some())) else {
                self.rest.push(request);
                continue;
            };
            let room = buffer.capacity();
            let command = transfer.command(buffer, request.data.clone());
            let slot = self.pending.insert(Pending { request, transfer, room });
            self.batch.push((slot as u64, lun, command));
        }
        if !self.batch.is_empty() {
            self.commands.submit(&mut self.batch);
        }
        if !self.rest.is_empty() {
            self.others.submit(&mut self.rest, done);
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.commands.take(&mut self.finished);
        for (slot, finished) in self.finished.drain(..) {
            let Some(Pending { mut request, transfer, room }) = self.pending.take(slot as usize) else { continue };
            let (buffer, result) = transfer.finish(finished, room);
            request.buffer = buffer;
            let result = match result {
                Ok(()) => Ok(Outcome::Done),
                // Somebody has ended all tasks of the unit; it is no failure of the disk.
                Err(Failure::Path(crate::Error::Aborted)) => {
                    self.rest.push(request);
                    continue;
                }
                Err(Failure::Path(error)) => Err(self.shared.gone(&error)),
                Err(Failure::Disk(error)) => Err(error),
            };
            done.push(request.complete(result));
        }
        if !self.rest.is_empty() {
            self.others.submit(&mut self.rest, done);
        }
        if self.others.in_flight() > 0 {
            self.others.poll(done);
        }
    }

    fn in_flight(&self) -> usize {
        self.commands.in_flight() + self.others.in_flight()
    }
}
