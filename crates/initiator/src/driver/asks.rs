//! What is asked of the target beside commands: functions, pings, text. One whose answer was lost is asked again
//! where that is harmless.

use super::Driver;
use super::shared::Ask;
use crate::{Error, Lun};
use io::link::LinkError;
use iscsi::initiator::{ConnectionError, ConnectionId, Function, TaskId};
use std::collections::VecDeque;
use std::time::Instant;
use tokio::sync::oneshot;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Something that waits for its answer.
enum Asked {
    /// ABORT TASK of a command that took too long.
    Abort(TaskId),
    Function {
        function: Function,
        lun: Lun,
        reply: Reply<()>,
    },
    Fence(Lun),
    Ping(ConnectionId, Reply<Vec<u8>>),
    Text(Reply<Vec<u8>>),
}

/// All of it.
#[derive(Default)]
pub(super) struct Asks {
    /// Not sent yet, in order.
    waiting: VecDeque<Ask>,
    /// Tasks to be aborted.
    aborts: VecDeque<TaskId>,
    out: Vec<(u32, Asked)>,
}

impl Asks {
    pub fn push(&mut self, ask: Ask) {
        self.waiting.push_back(ask);
    }

    pub fn abort(&mut self, id: TaskId) {
        self.aborts.push_back(id);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty()
    }

    fn take(&mut self, tag: u32) -> Option<Asked> {
        let at = self.out.iter().position(|(of, _)| *of == tag)?;
        Some(self.out.swap_remove(at).1)
    }

    /// Pings of this connection do not come back.
    pub fn connection_lost(&mut self, c: ConnectionId) {
        let gone = self.out.extract_if(.., |(_, asked)| matches!(asked, Asked::Ping(of, _) if *of == c));
        for (_, asked) in gone {
            if let Asked::Ping(_, reply) = asked {
                let _ = reply.send(Err(Error::Interrupted));
            }
        }
    }

    /// The session is another now: tasks of the old one are no more.
    pub fn session_lost(&mut self) {
        self.aborts.clear();
        for (_, asked) in self.out.drain(..) {
            match asked {
                Asked::Abort(_) => {}
                Asked::Function { function, lun, reply } => {
                    self.waiting.push_back(Ask::Function { function, lun, reply });
                }
                Asked::Fence(lun) => self.waiting.push_back(Ask::Fence { lun }),
                Asked::Ping(_, reply) | Asked::Text(reply) => {
                    let _ = reply.send(Err(Error::Interrupted));
                }
            }
        }
    }

    pub fn fail_all(&mut self, error: &Error) {
        self.session_lost();
        for ask in self.waiting.drain(..) {
            ask.fail(error.clone());
        }
    }

    /// Pings and text whose askers have gone.
    fn forget_unwanted(&mut self) {
        self.waiting.retain(|ask| match ask {
            Ask::Ping { reply, .. } | Ask::Text { reply, .. } => !reply.is_closed(),
            Ask::Function { .. } | Ask::Fence { .. } | Ask::Logout { .. } => true,
        });
    }
}

impl Driver {
    /// Sends what can be sent.
    pub(super) fn asks_go(&mut self) {
        if self.asks.aborts.is_empty() && self.asks.waiting.is_empty() || self.recovery.is_down() {
            return;
        }
        for _ in 0..self.asks.aborts.len() {
            let Some(id) = self.asks.aborts.pop_front() else { break };
            if self.jobs.get_mut(id).is_none() {
                continue;
            }
            match self.session.abort(id) {
                Some(tag) => self.asks.out.push((tag, Asked::Abort(id))),
                // Later: on another connection, or when less is under way.
                None => self.asks.aborts.push_back(id),
            }
        }
        self.asks.forget_unwanted();
        while let Some(ask) = self.asks.waiting.pop_front() {
            let mut lines = self.lines.iter().map(|line| line.c);
            let session = &mut self.session;
            let asked = match ask {
                Ask::Function { function, lun, reply } => {
                    match lines.find_map(|c| session.task_management(c, function, lun.wire())) {
                        Some(tag) => Ok((tag, Asked::Function { function, lun, reply })),
                        None => Err(Ask::Function { function, lun, reply }),
                    }
                }
                Ask::Fence { lun } => {
                    let reset = Function::LogicalUnitReset;
                    match lines.find_map(|c| session.task_management(c, reset, lun.wire())) {
                        Some(tag) => Ok((tag, Asked::Fence(lun))),
                        None => Err(Ask::Fence { lun }),
                    }
                }
                Ask::Ping { data, reply } => match lines.find_map(|c| Some((session.ping(c, &data)?, c))) {
                    Some((tag, c)) => Ok((tag, Asked::Ping(c, reply))),
                    None => Err(Ask::Ping { data, reply }),
                },
                Ask::Text { text, reply } => match lines.find_map(|c| session.send_text(c, &text)) {
                    Some(tag) => Ok((tag, Asked::Text(reply))),
                    None => Err(Ask::Text { text, reply }),
                },
                Ask::Logout { .. } => continue,
            };
            match asked {
                Ok(asked) => self.asks.out.push(asked),
                Err(ask) if self.too_long(&ask) => {
                    ask.fail(Error::Invalid("more data than one request can carry".to_owned()));
                }
                Err(ask) => {
                    self.asks.waiting.push_front(ask);
                    break;
                }
            }
        }
    }

    /// Whether no connection can ever carry it.
    fn too_long(&self, ask: &Ask) -> bool {
        let length = match ask {
            Ask::Ping { data, .. } => data.len(),
            Ask::Text { text, .. } => text.len(),
            Ask::Function { .. } | Ask::Fence { .. } | Ask::Logout { .. } => return false,
        };
        let fits =
            |parameters: &iscsi::key::ConnectionParameters| length <= parameters.max_send_data_segment_length as usize;
        let mut open = self.lines.iter().filter_map(|line| self.session.connection_parameters(line.c)).peekable();
        open.peek().is_some() && !open.any(fits)
    }

    /// A function was answered, or its answer is lost: then tasks may have ended without a word, and it is asked
    /// again.
    pub(super) fn function_done(&mut self, tag: u32, response: Option<u8>, now: Instant) {
        match (self.asks.take(tag), response) {
            (Some(Asked::Abort(_)), Some(0 | 1)) => {}
            (Some(Asked::Abort(id)), None) => self.asks.aborts.push_back(id),
            (Some(Asked::Abort(id)), Some(_)) => {
                // It cannot be ended so; with its session it will be.
                let c = self.jobs.connection_of(id);
                if let Some(at) = self.lines.iter().position(|line| Some(line.c) == c) {
                    self.lose(at, LinkError::Protocol(ConnectionError::Limit("time of a command")), now);
                }
            }
            (Some(Asked::Function { function, lun, reply }), None) => {
                self.asks.waiting.push_back(Ask::Function { function, lun, reply });
            }
            (Some(Asked::Fence(lun)), None) => self.asks.waiting.push_back(Ask::Fence { lun }),
            (Some(Asked::Fence(lun)), Some(code)) => {
                for job in self.jobs.lift_fence(lun, code == 0) {
                    self.end(*job, Err(Error::Interrupted));
                }
            }
            (Some(Asked::Function { reply, .. }), Some(code)) => {
                let _ = reply.send(if code == 0 { Ok(()) } else { Err(Error::Function(code)) });
            }
            (Some(other), _) => self.asks.out.push((tag, other)),
            (None, _) => {}
        }
    }

    pub(super) fn ponged(&mut self, tag: u32, data: Vec<u8>) {
        if let Some(Asked::Ping(_, reply)) = self.asks.take(tag) {
            let _ = reply.send(Ok(data));
        }
    }

    pub(super) fn text_came(&mut self, tag: u32, text: Option<Vec<u8>>) {
        if let Some(Asked::Text(reply)) = self.asks.take(tag) {
            let refused = || Error::Protocol { target: self.options.whom(), why: "it rejects a text request".into() };
            let _ = reply.send(text.ok_or_else(refused));
        }
    }
}
