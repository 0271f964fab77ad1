//! A discovery session: a login, one question, and the end (RFC 7143 §4.3).

use super::{Target, TargetPortal, text};
use crate::login::{self, Place};
use crate::{Error, Options, Portal, SessionKind};
use io::link::{Link, LinkError, NoMemory, Received, Scratch};
use iscsi::initiator::{ConnectionId, Event, Limits, LogoutReason, Session};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Bytes of an answer at most: tens of thousands of targets.
const ANSWER_BYTES: usize = 4 << 20;
/// How long a target that has answered may take to say good-bye.
const LEAVE: Duration = Duration::from_secs(1);

/// Asks a portal for its targets, or for the one that the options name, within twice the login timeout: half of
/// it for the login, half for the answer.
pub async fn send_targets(options: &Options) -> Result<Vec<Target>, Error> {
    let wanted = options.target.as_deref().unwrap_or("All");
    let options = Options { kind: SessionKind::Discovery, target: None, ..options.clone() };
    options.check()?;
    // One of its own, so that nobody else's session is taken for an older one of ours.
    let entered = login::log_in(&options, login::random_isid()?, Place::leading()).await?;
    let limit = options.login_timeout;
    let portal = entered.portal.clone();
    let late = || Error::TimedOut { what: format!("{portal} has not told its targets"), limit };
    tokio::time::timeout(limit, ask(entered, wanted)).await.unwrap_or_else(|_| Err(late()))
}

async fn ask(entered: login::Entered, wanted: &str) -> Result<Vec<Target>, Error> {
    let login::Entered { stream, logged_in, portal, peer, .. } = entered;
    let wrong = |why: String| Error::Protocol { target: portal.to_string(), why };
    let network = |kind, why: String| Error::Network { portal: portal.to_string(), kind, why };
    let lost = |error: LinkError| match error {
        LinkError::Closed => {
            network(std::io::ErrorKind::UnexpectedEof, "the target closed the connection without an answer".into())
        }
        LinkError::Network(error) => network(error.kind(), error.to_string()),
        LinkError::Protocol(error) => wrong(error.to_string()),
    };
    let mut question = Vec::new();
    iscsi::text::push(&mut question, "SendTargets", wanted);
    let limits = Limits { text_bytes: ANSWER_BYTES, nop_interval: Duration::ZERO, ..Limits::default() };
    let (session, c) = Session::new(logged_in.session, limits, logged_in.cmd_sn, logged_in.opening, Instant::now());
    let mut conversation =
        Conversation { session, c, link: Link::new(stream, Vec::new()), scratch: Scratch::small(), answer: None };
    if conversation.session.send_text(c, &question).is_none() {
        return Err(wrong("it takes no question".into()));
    }
    let answer = poll_fn(|cx| conversation.poll(cx)).await.map_err(lost)?;
    let answer = answer.ok_or_else(|| wrong("it refuses SendTargets".into()))?;
    // What was asked for is there; how the target takes the end changes nothing.
    if conversation.session.logout(c, LogoutReason::Session) {
        let _ = tokio::time::timeout(LEAVE, poll_fn(|cx| conversation.poll(cx))).await;
    }
    let asked = Portal::new(peer.ip().to_canonical().to_string(), peer.port());
    let asked = TargetPortal { portal: asked, group: logged_in.portal_group_tag };
    text::targets(&answer, &asked).map_err(wrong)
}

/// A session that carries text alone.
struct Conversation {
    session: Session,
    c: ConnectionId,
    link: Link,
    scratch: Scratch,
    answer: Option<Option<Vec<u8>>>,
}

impl Conversation {
    /// Until the question is answered, or refused (`None`), or the session has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, LinkError>> {
        loop {
            let now = Instant::now();
            let received = self.link.poll_receive(cx, now, &mut self.session, self.c, &mut NoMemory, &mut self.scratch);
            while let Some(event) = self.session.poll_event() {
                match event {
                    Event::Text { text, .. } => self.answer = Some(text),
                    Event::LoggedOut { .. } | Event::Over => return Poll::Ready(Ok(None)),
                    _ => {}
                }
            }
            let sent = self.link.poll_transmit(cx, now, &mut self.session, self.c, &NoMemory, &mut self.scratch);
            if let Some(answer) = self.answer.take() {
                return Poll::Ready(Ok(answer));
            }
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            match received {
                Poll::Ready(Ok(Received::Some)) => {}
                Poll::Ready(Ok(Received::WaitsForMemory)) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}
