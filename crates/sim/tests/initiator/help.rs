//! What the tests of every family begin with.

use iscsi::initiator::{Event, Limits, Outcome};
use iscsi::key::{Offers, SessionParameters};
use iscsi::login::initiator::{Authentication, DigestOffer, Failure, Wanted};
use iscsi::session::ConnectionError;
use iscsi::wire::LoginRequest;
use sim::scripted::driven::{Driven, Entry, Wire, wanted};
use sim::scripted::{Accepts, Target};

/// A target's end of a connection in this process.
pub type Played = Target<Wire>;

/// An initiator that is logged in, and its target, with what the login wanted changed.
pub fn with(change: impl FnOnce(&mut Wanted)) -> (Driven, Played) {
    bounded(Limits::default(), change)
}

/// The same within other limits.
pub fn bounded(limits: Limits, change: impl FnOnce(&mut Wanted)) -> (Driven, Played) {
    let driven = Driven::new(limits);
    let mut wanted = wanted();
    change(&mut wanted);
    let mut target = Target::over(driven.connect(wanted));
    target.login(&Accepts::default());
    target.news();
    (driven, target)
}

/// At this recovery level.
pub fn level(level: u32) -> (Driven, Played) {
    with(|wanted| wanted.offers.session.error_recovery_level = level)
}

/// At level 0 with small segments and bursts, so that data takes several PDUs.
pub fn small(change: impl FnOnce(&mut SessionParameters)) -> (Driven, Played) {
    with(|wanted| {
        wanted.offers = offers(1024);
        change(&mut wanted.offers.session);
    })
}

/// Level 0 and data segments of so many bytes to the initiator.
pub fn offers(segment: u32) -> Offers {
    let session = SessionParameters {
        error_recovery_level: 0,
        initial_r2t: true,
        max_burst_length: 4096,
        ..Offers::default().session
    };
    Offers { session, max_recv_data_segment_length: segment }
}

/// With digests.
pub fn digests(level: u32, header: bool, data: bool) -> (Driven, Played) {
    let offer = |on| if on { DigestOffer::Required } else { DigestOffer::None };
    with(|wanted| {
        wanted.offers.session.error_recovery_level = level;
        (wanted.header_digest, wanted.data_digest) = (offer(header), offer(data));
    })
}

/// A further connection of the session.
pub fn join(driven: &Driven, cid: u16) -> Played {
    let mut wanted = wanted();
    {
        let mut inner = driven.inner();
        let logged_in = inner.logged_in.clone().expect("a login");
        let session = inner.session.as_mut().expect("a session");
        wanted.cid = cid;
        wanted.cmd_sn = session.cmd_sn();
        wanted.exp_stat_sn = session.exp_stat_sn(cid).unwrap_or(0);
        wanted.joins = Some((logged_in.tsih, logged_in.session));
    }
    let mut target = Target::over(driven.connect(wanted));
    target.login(&Accepts::default());
    target.news();
    target
}

/// The one command that has ended, and how.
pub fn outcome(driven: &Driven) -> Outcome {
    let mut ended = driven.events().into_iter().filter_map(|event| match event {
        Event::Completed(_, outcome) => Some(outcome),
        _ => None,
    });
    let outcome = ended.next().expect("a command has ended");
    assert_eq!(ended.next(), None, "one command");
    outcome
}

/// A command that was answered with GOOD after so many bytes of data came and went.
pub fn good(data_in: u32, data_out: u32) -> Outcome {
    Outcome::Answered { response: 0, status: 0, sense: vec![], residual: 0, read_residual: 0, data_in, data_out }
}

/// The target's last PDU was a format error: the initiator has closed every connection, has given up the session,
/// and each command has ended without an answer. Returns what it says of it.
pub fn format_error(driven: &Driven) -> &'static str {
    let error = driven.error(0);
    let Some(ConnectionError::Format(what)) = error else { panic!("a format error is not seen: {error:?}") };
    assert!(driven.is_closed(0) && driven.session().is_over());
    for event in driven.events() {
        if let Event::Completed(_, outcome) = event {
            assert_eq!(outcome, Outcome::Lost, "no command is answered by a target that breaks the rules");
        }
    }
    assert_eq!(driven.session().tasks(), 0, "no command hangs");
    what
}

/// The session goes on: a command is answered.
pub fn goes_on(driven: &Driven, target: &mut Played) {
    let ended = driven.events().iter().any(|event| matches!(event, Event::Over));
    assert!(!ended && driven.error(0).is_none(), "the session is over: {:?}", driven.error(0));
    driven.read(16);
    let (command, _) = target.await_one::<iscsi::wire::ScsiCommand>();
    target.answer_read(command.initiator_task_tag.get(), &[5; 16]);
    assert_eq!(outcome(driven), good(16, 0));
}

/// Bytes that differ from place to place.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 256) as u8 ^ at as u8).collect()
}

/// An initiator whose first request of a login has come: it goes straight for the operational stage.
pub fn entering(change: impl FnOnce(&mut Wanted)) -> (Driven, Played, LoginRequest, String) {
    let driven = Driven::new(Limits::default());
    let mut wanted = wanted();
    wanted.authentication = Authentication::Skipped;
    change(&mut wanted);
    let mut target = Target::over(driven.connect(wanted));
    let (request, data) = target.expect::<LoginRequest>();
    (driven, target, request, lines(&data))
}

/// Pairs as lines.
pub fn lines(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).expect("text").replace('\0', "\n")
}

/// T from the operational stage to the full feature phase.
pub const LAST: u8 = 0x87;

/// What comes of a login whose only answer is this.
pub fn answered(change: impl FnOnce(&mut Wanted), keys: &[(&str, &str)]) -> (Driven, Entry) {
    let (driven, mut target, request, _) = entering(change);
    target.answer_login(&request, LAST, (0, 0), keys);
    let entry = driven.entry(0);
    assert!(matches!(entry, Entry::In) || driven.is_closed(0), "a login that failed is closed");
    (driven, entry)
}

/// Such a login fails, with these words in its reason.
pub fn refused(change: impl FnOnce(&mut Wanted), keys: &[(&str, &str)], words: &str) {
    match answered(change, keys).1 {
        Entry::Failed(Failure::Target(why)) if why.contains(words) => {}
        other => panic!("{keys:?}: {other:?}, and not {words}"),
    }
}
