//! Who gets into a session that is there, and who does not (RFC 7143 §6.3.1, §6.3.4).

use crate::help::*;
use crate::recovery::lead_at_level_2;
use iscsi::wire::TRANSIT;
use sim::Frame;
use sim::daemon::{Daemon, TARGET, free_address};
use sim::raw::{Chap, Client, Command, Login, Refused};
use std::time::Duration;

/// Two accounts, either of which may log in.
fn with_chap() -> Daemon {
    Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
[[portal]]
listen = "127.0.0.1:0"
[account.user]
secret = "user-secret-1234"
[account.other]
secret = "other-secret-5678"
[[target]]
name = "iqn.2026-01.org.example:disk"
accounts = ["user", "other"]
[[target.lun]]
store = "ram:4M"
number = 1
[[target.rule]]
initiators = "any"
"#,
    )
}

fn user() -> Chap {
    Chap::new("user", "user-secret-1234")
}

#[test]
fn key_02_a_session_has_as_many_connections_as_agreed_and_no_more() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    for (asked, agreed) in [(1, 1), (3, 3), (8, 8), (65_535, 16)] {
        let mut leader = lead(&daemon, asked);
        let mut others: Vec<Client> = (2..=agreed).map(|cid| join(&daemon, &mut leader, cid)).collect();
        assert_eq!(try_join(&daemon, &mut leader, 999).err(), Some(Refused::Status(2, 6)), "one more than {agreed}");
        for (at, other) in others.iter_mut().enumerate() {
            other.good(&Command::write(at as u32, &blocks(at as u8, 1)));
        }
        for at in 0..others.len() {
            assert_eq!(leader.good(&Command::read(at as u32, 1)), blocks(at as u8, 1));
        }
        // A place that was left is free again.
        if let Some(mut last) = others.pop() {
            assert_eq!(log_out(&mut last, 1, agreed).response, 0);
            last.expect_closed();
            join(&daemon, &mut leader, 999).good(&Command::test_unit_ready());
        }
    }
}

#[test]
fn log_11_every_row_of_the_table_of_identifiers() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut one = lead(&daemon, 4);
    let mut other = daemon.connect();
    other.login(&login(4).isid(9));
    assert_ne!(one.agreed().tsih, other.agreed().tsih, "a new ISID is a new session");
    let refused = |login: &Login| daemon.connect().try_login(login).err();
    let joining = Login::normal(TARGET).joining(&one, 2);
    assert_eq!(refused(&joining.clone().isid(7)), Some(Refused::Status(2, 10)), "a new ISID with a TSIH");
    assert_eq!(refused(&joining.clone().isid(9)), Some(Refused::Status(2, 10)), "another session's TSIH");
    let unknown = Login { tsih: 0x7777, ..joining.clone() };
    assert_eq!(refused(&unknown), Some(Refused::Status(2, 10)), "an unknown TSIH");
    let mut two = join(&daemon, &mut one, 2);
    two.good(&Command::test_unit_ready());
    let mut again = join(&daemon, &mut one, 2);
    assert!(two.expect_closed().is_empty(), "reinstated: the old connection ends without a word");
    again.good(&Command::test_unit_ready());
    let mut anew = lead(&daemon, 4);
    assert!(one.expect_closed().is_empty() && again.expect_closed().is_empty(), "session reinstatement ends both");
    anew.good(&Command::test_unit_ready());
    other.take_attentions();
    other.good(&Command::test_unit_ready());
}

#[test]
fn log_11_concurrent_attempts_have_one_clean_answer_each() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 5);
    // Twelve at once for four places.
    let seekers: Vec<(Client, Login)> = (2..14)
        .map(|cid| {
            let mut client = daemon.connect();
            client.share(&mut leader, cid);
            let login = Login::normal(TARGET).joining(&leader, cid);
            (client, login)
        })
        .collect();
    let threads: Vec<_> = seekers
        .into_iter()
        .map(|(mut client, login)| std::thread::spawn(move || client.try_login(&login).map(|_| (client, login.cid))))
        .collect();
    let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 4, "as many as there are places");
    let mut there = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok((mut client, cid)) => {
                client.good(&Command::test_unit_ready());
                there.push((client, cid));
            }
            Err(refused) => assert_eq!(refused, Refused::Status(2, 6)),
        }
    }
    // Eight at once for one connection: whoever came last has it, and the leader never notices.
    let (mut old, cid) = there.pop().expect("a connection");
    let seekers: Vec<(Client, Login)> = (0..8)
        .map(|_| {
            let mut client = daemon.connect();
            client.share(&mut leader, cid);
            (client, Login::normal(TARGET).joining(&leader, cid))
        })
        .collect();
    let threads: Vec<_> = seekers
        .into_iter()
        .map(|(mut client, login)| {
            std::thread::spawn(move || {
                let outcome = client.try_login(&login);
                (client, outcome)
            })
        })
        .collect();
    let mut alive = 0;
    let mut seekers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for (client, outcome) in &mut seekers {
        match outcome {
            Ok(_) => alive += usize::from(is_alive(client)),
            Err(Refused::Status(class, _)) => assert!(*class == 2 || *class == 3),
            Err(Refused::Ended(ended)) => panic!("no answer: {ended:?}\n{}", daemon.log()),
        }
    }
    assert_eq!(alive, 1, "connections of one number");
    old.expect_closed();
    leader.good(&Command::test_unit_ready());
}

#[test]
fn log_11_a_join_races_with_the_end_of_its_session() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let (mut joined, mut refused) = (0, 0);
    for round in 0..60u64 {
        let mut leader = lead(&daemon, 4);
        let mut client = daemon.connect();
        client.share(&mut leader, 2);
        let login = Login::normal(TARGET).joining(&leader, 2);
        let thread = std::thread::spawn(move || {
            let outcome = client.try_login(&login);
            (client, outcome)
        });
        std::thread::sleep(Duration::from_micros(round * 20));
        drop(leader);
        let (mut client, outcome) = thread.join().unwrap();
        match outcome {
            Ok(_) => {
                joined += 1;
                // It ends with the session, of which it is told or which shows.
                client.expect_closed();
            }
            Err(outcome) => {
                refused += 1;
                assert_eq!(outcome, Refused::Status(2, 10));
            }
        }
    }
    println!("joined {joined}, refused {refused}");
    assert_eq!(joined + refused, 60);
}

#[test]
fn log_12_the_tsih_is_new_for_a_session_and_kept_for_its_connections() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut seen = std::collections::HashSet::new();
    let mut held = Vec::new();
    for isid in 0..20 {
        let mut client = daemon.connect();
        // In two stages: only the last response of them bears it.
        let login = login(2).isid(isid);
        let header = login.request(TRANSIT | 0x01, 0);
        let (first, _) = client.login_exchange(&Frame::new(header, &login.security_text())).expect("an answer");
        assert_eq!(first.tsih.get(), 0, "not before the last response");
        let header = login.request(TRANSIT | 0x07, client.exp_stat_sn);
        let (last, _) = client.login_exchange(&Frame::new(header, &login.operational_text())).expect("the last answer");
        let tsih = last.tsih.get();
        held.push(client);
        assert!(tsih != 0 && seen.insert(tsih), "TSIH {tsih}");
        let mut second = join_as(&daemon, held.last_mut().expect("a session"), 2, isid);
        assert_eq!(second.agreed().tsih, tsih);
        assert_eq!(log_out(&mut second, 1, 2).response, 0);
        second.expect_closed();
    }
}

#[test]
fn ses_02_who_fails_to_log_in_touches_nobodys_session() {
    let daemon = with_chap();
    let mut leader = daemon.connect();
    leader.chap_login(&login(4), &user()).expect("the session");
    leader.take_attentions();
    let joining = Login::normal(TARGET).joining(&leader, 2);
    for victim in [login(4), joining.clone(), Login { cid: 1, ..joining.clone() }] {
        // Without showing who it is, with a wrong secret, and leaving half way.
        assert_eq!(daemon.connect().try_login(&victim).err(), Some(Refused::Status(2, 1)));
        assert_eq!(
            daemon.connect().chap_login(&victim, &Chap::new("user", "another secret!")).err(),
            Some(Refused::Status(2, 1))
        );
        let mut half = daemon.connect();
        let header = victim.request(0x00, 0);
        half.login_exchange(&Frame::new(header, &[&victim.security_text()[..], b"AuthMethod=CHAP\0"].concat()))
            .expect("go on");
        drop(half);
        leader.good(&Command::test_unit_ready());
    }
    let mut two = daemon.connect();
    two.share(&mut leader, 2);
    two.chap_login(&joining, &user()).expect("a place");
    two.good(&Command::test_unit_ready());
    leader.good(&Command::test_unit_ready());
}

#[test]
fn ses_05_the_only_connection_is_reinstated_though_there_may_be_but_one() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 1);
    leader.good(&Command::write(3, &blocks(3, 1)));
    assert_eq!(try_join(&daemon, &mut leader, 2).err(), Some(Refused::Status(2, 6)), "a second one");
    for round in 0..10 {
        leader.start(&Command::read(0, 64));
        until_acknowledged(&mut leader);
        let mut again = join(&daemon, &mut leader, 1);
        // The same session: no unit attention tells of a lost nexus.
        assert_eq!(again.good(&Command::read(3, 1)), blocks(3, 1), "round {round}");
        let mut old = std::mem::replace(&mut leader, again);
        while old.receive().is_ok() {}
    }
    leader.logout();
}

#[test]
fn ses_05_who_asks_for_the_place_and_does_not_come_costs_what_he_replaced() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead_at_level_2(&daemon, 2, 20);
    let mut two = join(&daemon, &mut leader, 2);
    for _ in 0..20 {
        // The new connection is gone before its answer: what it replaced is logged out, the session goes on.
        let mut seeker = daemon.connect();
        seeker.share(&mut leader, 2);
        let login = Login::normal(TARGET).joining(&leader, 2);
        let header = login.request(TRANSIT | 0x07, 0);
        seeker.send(&Frame::new(header, &login.text()));
        let _ = socket2::SockRef::from(seeker.socket()).set_linger(Some(Duration::ZERO));
        drop(seeker);
        two.expect_closed();
        leader.good(&Command::test_unit_ready());
        two = join(&daemon, &mut leader, 2);
        two.good(&Command::test_unit_ready());
    }
}

#[test]
fn chp_13_all_connections_of_a_session_are_of_one_account() {
    let daemon = with_chap();
    let mut leader = daemon.connect();
    leader.chap_login(&login(4), &user()).expect("the session");
    leader.take_attentions();
    let joining = Login::normal(TARGET).joining(&leader, 2);
    assert_eq!(daemon.connect().try_login(&joining).err(), Some(Refused::Status(2, 1)), "without a word");
    let none = joining.clone().key("AuthMethod", "None");
    assert_eq!(daemon.connect().try_login(&none).err(), Some(Refused::Status(2, 1)), "as nobody");
    assert_eq!(
        daemon.connect().chap_login(&joining, &Chap::new("user", "another secret of it")).err(),
        Some(Refused::Status(2, 1))
    );
    let other = Chap::new("other", "other-secret-5678");
    assert_eq!(daemon.connect().chap_login(&joining, &other).err(), Some(Refused::Status(2, 1)), "another account");
    leader.good(&Command::test_unit_ready());
    let mut two = daemon.connect();
    two.share(&mut leader, 2);
    two.chap_login(&joining, &user()).expect("the same account");
    two.good(&Command::test_unit_ready());
    leader.good(&Command::test_unit_ready());
}

#[test]
fn log_11_the_portals_of_a_session_are_those_of_one_group() {
    let (same, other) = (free_address(), free_address());
    let arguments = ["--listen", &same.to_string(), "--listen", &format!("{other},group=20")];
    let daemon = Daemon::start_with(LUNETTE, &["ram:4M"], &arguments, &[]);
    let mut leader = lead(&daemon, 4);
    let joining = Login::normal(TARGET).joining(&leader, 2);
    let elsewhere = Client::connect(other).try_login(&joining).err();
    assert_eq!(elsewhere, Some(Refused::Status(2, 10)), "another group has no such session");
    let mut two = Client::connect(same);
    two.share(&mut leader, 2);
    two.login(&joining);
    two.good(&Command::write(5, &blocks(5, 1)));
    assert_eq!(leader.good(&Command::read(5, 1)), blocks(5, 1));
}
