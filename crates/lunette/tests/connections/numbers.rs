//! Numbers and order over all connections of a session (RFC 7143 §4.2.2, §4.2.5).

use crate::help::*;
use iscsi::wire::TRANSIT;
use sim::daemon::{Daemon, TARGET};
use sim::raw::{Command, Login};
use sim::{Frame, Random};
use std::time::Duration;

#[test]
fn ses_07_command_numbers_are_the_sessions_and_status_numbers_the_connections() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut one = lead(&daemon, 4);
    for _ in 0..5 {
        one.good(&Command::test_unit_ready());
    }
    // The last response of the login tells the numbers of the session, whatever the request bears.
    let mut two = daemon.connect();
    two.share(&mut one, 2);
    two.exp_stat_sn = 0x7000_0000;
    let mut request = Login::normal(TARGET).joining(&one, 2);
    request.cmd_sn = 99_999;
    let header = request.request(TRANSIT | 0x07, two.exp_stat_sn);
    let (response, _) = two.login_exchange(&Frame::new(header, &request.text())).expect("a place");
    assert_eq!(response.exp_cmd_sn.get(), one.next_cmd_sn());
    assert_eq!(response.max_cmd_sn.get(), one.capture.max_cmd_sn());
    assert_eq!(response.stat_sn.get(), 0x7000_0000, "a connection's own");
    for _ in 0..5 {
        // The checker of each client sees to the numbers of every response.
        one.good(&Command::read(0, 1));
        two.good(&Command::read(0, 1));
    }
    assert_eq!(two.exp_stat_sn, 0x7000_0006);
    assert_eq!(one.capture.exp_cmd_sn(), one.next_cmd_sn());
}

#[test]
fn csn_02_commands_are_executed_in_their_order_over_two_connections() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let (mut one, mut two) = (lead(&daemon, 2), None);
    let two = two.get_or_insert_with(|| join(&daemon, &mut one, 2));
    for round in 0..50u8 {
        // The later command goes first, on the other connection, and waits for its turn.
        let first = one.prepare(&Command::write(7, &blocks(round, 1)));
        let later = two.start(&Command::write(7, &blocks(round ^ 0xff, 1)));
        std::thread::sleep(Duration::from_millis(u64::from(round) % 3));
        one.send_together(&first);
        assert!(one.finish(first[0].basic().initiator_task_tag.get()).is_good());
        assert!(two.finish(later).is_good());
        assert_eq!(one.good(&Command::read(7, 1)), blocks(round ^ 0xff, 1), "round {round}");
    }
}

#[test]
fn ses_06_what_belongs_to_a_command_travels_on_its_connection() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = daemon.connect();
    leader.login(&login(4).key("InitialR2T", "Yes").key("ImmediateData", "No").key("MaxBurstLength", 8192));
    leader.take_attentions();
    let mut clients = vec![leader];
    for cid in 2..=4 {
        let next = join(&daemon, &mut clients[0], cid);
        clients.push(next);
    }
    let mut random = Random::new(6);
    for round in 0..20u8 {
        // Writes with many R2Ts and reads with many Data-In, all at once on four connections: the checker of a
        // connection complains of every PDU whose task is not its own.
        let lba = |at: usize| 4096 * at as u32;
        let writes: Vec<u32> = clients
            .iter_mut()
            .enumerate()
            .map(|(at, client)| client.start(&Command::write(lba(at), &blocks(round ^ at as u8, 60))))
            .collect();
        let first = random.size(clients.len());
        for at in (0..clients.len()).map(|at| (first + at) % writes.len()) {
            let answer = clients[at].finish(writes[at]);
            assert!(answer.is_good() && answer.ready_to_transfers == 4, "{answer:?}");
        }
        let reads: Vec<u32> = (0..clients.len())
            .map(|at| {
                let other = (at + 1) % clients.len();
                clients[at].start(&Command::read(lba(other), 60))
            })
            .collect();
        for at in (0..clients.len()).map(|at| (first + at) % reads.len()) {
            let other = (at + 1) % clients.len();
            let answer = clients[at].finish(reads[at]);
            assert!(answer.is_good() && answer.data == blocks(round ^ other as u8, 60), "round {round}");
        }
    }
}
