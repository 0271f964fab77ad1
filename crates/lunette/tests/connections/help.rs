//! What the tests of sessions with several connections share.

use iscsi::wire::LogoutResponse;
use sim::Frame;
use sim::daemon::{Daemon, TARGET};
use sim::raw::{Client, Command, Condition, Login, Refused};
use std::time::{Duration, Instant};

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// A login of a session that may have this many connections.
pub fn login(connections: u32) -> Login {
    Login::normal(TARGET).key("MaxConnections", connections)
}

/// The leading connection of a session that may have this many.
pub fn lead(daemon: &Daemon, connections: u32) -> Client {
    let mut client = daemon.connect();
    client.login(&login(connections));
    client.take_attentions();
    client
}

/// A further connection of the session, or why there is none.
pub fn try_join(daemon: &Daemon, session: &mut Client, cid: u16) -> Result<Client, Refused> {
    let mut client = daemon.connect();
    client.share(session, cid);
    client.try_login(&Login::normal(TARGET).joining(session, cid)).map(|_| client)
}

pub fn join(daemon: &Daemon, session: &mut Client, cid: u16) -> Client {
    match try_join(daemon, session, cid) {
        Ok(client) => client,
        Err(refused) => panic!("the session has no place for connection {cid}: {refused:?}\n{}", daemon.log()),
    }
}

/// Sends a logout for this reason and connection, and returns the response.
pub fn log_out(client: &mut Client, reason: u8, cid: u16) -> LogoutResponse {
    let mut header = client.logout_header(reason);
    header.cid = cid.into();
    client.send(&Frame::new(header, &[]));
    client.response::<LogoutResponse>(header.initiator_task_tag.get()).0
}

/// Carries a command out that ends with GOOD, behind the unit attentions which say that commands of the session
/// were ended with their connection.
pub fn good_anyway(client: &mut Client, command: &Command) -> Vec<u8> {
    loop {
        let answer = client.execute(command);
        if answer.condition() != Some(Condition(0x06, 0x47, 0x7f)) {
            assert!(answer.is_good(), "{answer:?}");
            return answer.data;
        }
    }
}

/// Logs a connection of the session out for recovery, which has received the statuses below its ExpStatSN (RFC
/// 7143 §11.14.4), and returns the response's code.
pub fn log_out_for_recovery(client: &mut Client, cid: u16, exp_stat_sn: u32) -> u8 {
    let mut header = client.logout_header(2);
    (header.cid, header.exp_stat_sn) = (cid.into(), exp_stat_sn.into());
    client.send(&Frame::new(header, &[]));
    client.response::<LogoutResponse>(header.initiator_task_tag.get()).0.response
}

/// Waits until all commands that were sent are acknowledged: one that is not leaves a gap in the numbers when its
/// connection goes, which is the initiator's to fill.
pub fn until_acknowledged(client: &mut Client) {
    let (next, end) = (client.next_cmd_sn(), Instant::now() + Duration::from_secs(20));
    while iscsi::serial::precedes(client.capture.exp_cmd_sn(), next) {
        assert!(Instant::now() < end, "a command is not acknowledged");
        client.ping(b"");
    }
}

/// The same for a client that acknowledges nothing meanwhile: what it is answered may have to be sent again.
pub fn until_taken(client: &mut Client) {
    let (next, held, end) = (client.next_cmd_sn(), client.exp_stat_sn, Instant::now() + Duration::from_secs(20));
    while iscsi::serial::precedes(client.capture.exp_cmd_sn(), next) {
        assert!(Instant::now() < end, "a command is not acknowledged");
        client.exp_stat_sn = held;
        client.ping(b"");
    }
}

/// Whether a ping is answered.
pub fn is_alive(client: &mut Client) -> bool {
    let tag = client.tag();
    let header = client.ping_header(tag);
    client.send(&Frame::new(header, &[]));
    client.receive().is_ok()
}

pub fn blocks(salt: u8, count: usize) -> Vec<u8> {
    (0..count * 512).map(|at| (at / 512) as u8 ^ at as u8 ^ salt).collect()
}

/// A further connection of the session of another initiator port.
pub fn join_as(daemon: &Daemon, session: &mut Client, cid: u16, isid: u8) -> Client {
    let mut client = daemon.connect();
    client.share(session, cid);
    client.login(&Login::normal(TARGET).isid(isid).joining(session, cid));
    client
}
