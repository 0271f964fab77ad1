//! From a worker's thread to the sessions' and back: a store's channel hands over batches, a pump on the sessions'
//! runtime has each request served, and what has completed waits in the channel's mailbox, for which the worker is
//! woken. Nobody takes a lock, and nobody waits for anybody.

use block::{Alarm, Buf, Completion, Engine, Error, ErrorKind, Request, Store};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long somebody who looks at the disk waits for it.
const LOOK: Duration = Duration::from_secs(20);

/// What serves requests. The future may be dropped at the process's end only.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Carries the request out and gives it back.
    fn serve(self: Arc<Self>, request: Request) -> impl Future<Output = Completion> + Send;

    /// Looks at the disk again; tells whether its limits have changed.
    fn look(self: Arc<Self>) -> impl Future<Output = Result<bool, Error>> + Send;
}

enum Message {
    Batch(Vec<Request>, Reply),
    Look(mpsc::Sender<Result<bool, Error>>),
}

/// Where a channel finds what has completed.
#[derive(Clone)]
struct Reply {
    mailbox: mpsc::Sender<Completion>,
    alarm: Arc<dyn Alarm>,
}

/// The way to a pump. The pump ends when all of them and all channels are gone.
#[derive(Clone)]
pub(crate) struct Hatch(UnboundedSender<Message>);

impl Hatch {
    /// Starts a pump on the runtime of the caller.
    pub(crate) fn open<S: Serve>(served: Arc<S>) -> Hatch {
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(pump(served, receiver));
        Hatch(sender)
    }

    /// A worker's channel.
    pub(crate) fn channel(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        // Without one the worker would never hear of its completions.
        let alarm = engine.alarm().ok_or(Error::new(ErrorKind::Unsupported))?;
        let (mailbox, arrived) = mpsc::channel();
        let reply = Reply { mailbox, alarm };
        Ok(Box::new(Channel { pump: self.0.clone(), reply, arrived, in_flight: 0 }))
    }

    /// Has the pump look at the disk and waits for it. Not to be called on the pump's own thread, where nobody
    /// would answer before the time is over.
    pub(crate) fn look(&self) -> Result<bool, Error> {
        let (answer, answered) = mpsc::channel();
        self.0.send(Message::Look(answer)).map_err(|_| Error::new(ErrorKind::Gone))?;
        answered.recv_timeout(LOOK).unwrap_or(Err(Error::new(ErrorKind::Gone)))
    }
}

async fn pump<S: Serve>(served: Arc<S>, mut messages: UnboundedReceiver<Message>) {
    while let Some(message) = messages.recv().await {
        match message {
            Message::Batch(batch, reply) => {
                for request in batch {
                    let mut owed = Owed::new(&request, reply.clone());
                    let served = Arc::clone(&served);
                    tokio::spawn(async move { owed.pay(served.serve(request).await) });
                }
            }
            Message::Look(answer) => {
                let served = Arc::clone(&served);
                tokio::spawn(async move { answer.send(served.look().await) });
            }
        }
    }
}

/// A completion that a channel waits for. It comes even where the task that serves the request is ended with its
/// runtime: a channel never waits for ever.
struct Owed {
    gone: Option<Completion>,
    buffer_bytes: Option<usize>,
    reply: Reply,
}

impl Owed {
    fn new(request: &Request, reply: Reply) -> Owed {
        let gone = Completion { id: request.id, buffer: None, result: Err(Error::new(ErrorKind::Gone)) };
        Owed { gone: Some(gone), buffer_bytes: request.buffer.as_ref().map(Buf::capacity), reply }
    }

    fn pay(&mut self, completion: Completion) {
        self.gone = None;
        // A worker that has gone wants nothing any more.
        if self.reply.mailbox.send(completion).is_ok() {
            self.reply.alarm.ring();
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take() {
            let buffer = self.buffer_bytes.and_then(Buf::new);
            self.pay(Completion { buffer, ..gone });
        }
    }
}

/// A worker's channel.
struct Channel {
    pump: UnboundedSender<Message>,
    reply: Reply,
    arrived: mpsc::Receiver<Completion>,
    in_flight: usize,
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        let count = batch.len();
        let message = Message::Batch(std::mem::take(batch), self.reply.clone());
        match self.pump.send(message) {
            Ok(()) => self.in_flight += count,
            Err(refused) => {
                if let Message::Batch(batch, _) = refused.0 {
                    done.extend(batch.into_iter().map(|request| request.complete(Err(Error::new(ErrorKind::Gone)))));
                }
            }
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        while let Ok(completion) = self.arrived.try_recv() {
            self.in_flight -= 1;
            done.push(completion);
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
