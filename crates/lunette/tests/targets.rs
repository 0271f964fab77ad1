//! Several targets behind the same portals, from a configuration file: who is told of which, at which
//! addresses, and where they have gone (RFC 7143 §4.3, §7.4.2, §11.13.5, Appendix C).

use iscsi::wire::{FINAL, LoginResponse, Opcode, RESERVED_TAG, TextRequest, TextResponse};
use sim::raw::{Chap, Client, Command, Condition, Login, Refused};
use sim::{Daemon, Digests, Frame};
use std::fmt::Write;
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const CLIENT: &str = "iqn.2026-01.org.example:client";
const OTHER: &str = "iqn.2026-01.org.example:other";

fn target(name: &str) -> String {
    format!("iqn.2026-01.org.example:{name}")
}

/// Targets `a` for the client, `b` for everybody, `c` for the client at another address, `d` for nobody; a
/// second portal in group 2 for `b` and `c` alone, at which others see another address.
fn four() -> Daemon {
    Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
threads = 1

[[portal]]
listen = "127.0.0.1:0"

[[portal]]
listen = "127.0.0.2:0"
group = 2
advertise = "nas.example.org:13260"

[[target]]
name = "iqn.2026-01.org.example:a"
alias = "iqn.2026-01.org.example:c"
groups = [1]
[[target.lun]]
store = "ram:1M"
[[target.rule]]
initiators = "iqn.2026-01.org.example:cl*"
addresses = "127.0.0.0/8"

[[target]]
name = "iqn.2026-01.org.example:b"
[[target.lun]]
store = "ram:2M"
[[target.rule]]
initiators = "any"

[[target]]
name = "iqn.2026-01.org.example:c"
groups = [2]
[[target.rule]]
initiators = "iqn.2026-01.org.example:client"
addresses = "192.0.2.0/24"

[[target]]
name = "iqn.2026-01.org.example:d"
"#,
    )
}

fn discover(client: &mut Client, initiator: &str, question: &str) -> String {
    client.login(&Login::discovery().initiator(initiator));
    let answer = client.text(format!("SendTargets={question}\0").as_bytes());
    String::from_utf8(answer).unwrap().replace('\0', "\n")
}

fn refused(client: Client, login: &Login) -> Refused {
    let mut client = client;
    client.try_login(login).expect_err("it is let in")
}

#[test]
fn dsc_03_each_initiator_is_told_of_the_targets_that_it_may_use_at_all_their_addresses() {
    let daemon = four();
    let portals = daemon.portals();
    let [first, second] = portals[..] else { panic!("{portals:?}") };
    let advertised = "TargetAddress=nas.example.org:13260,2\n";
    let (a, b) = (target("a"), target("b"));
    let listed_a = format!("TargetName={a}\nTargetAddress={first},1\n");
    let listed_b = format!("TargetName={b}\nTargetAddress={first},1\n{advertised}");
    for portal in [first, second] {
        let ask = |initiator, question: &str| discover(&mut Client::connect(portal), initiator, question);
        assert_eq!(ask(CLIENT, "All"), format!("{listed_a}{listed_b}"));
        assert_eq!(ask(OTHER, "All"), listed_b, "what it may not use is not there");
        assert_eq!(ask(CLIENT, &a.to_uppercase()), listed_a, "NAM-03: names are compared as prepared");
        assert_eq!(ask(OTHER, &a), "");
        assert_eq!(ask(CLIENT, &target("c")), "", "its name alone is not enough");
        assert_eq!(ask(CLIENT, &target("none")), "");
        assert_eq!(ask(CLIENT, ""), "", "a discovery session is logged in to no target");
    }
}

#[test]
fn log_13_a_target_is_there_for_those_whom_a_rule_fits_at_its_portals() {
    let daemon = four();
    let portals = daemon.portals();
    let at = |portal: usize| Client::connect(portals[portal]);
    at(0).login(&Login::normal(&target("a")));
    let mut b = at(1);
    b.login(&Login::normal(&target("b")).initiator(OTHER));
    assert_eq!(String::from_utf8(b.text(b"SendTargets=All\0")).unwrap(), "SendTargets=Reject\0", "KEY-03");
    let own = String::from_utf8(b.text(format!("SendTargets={}\0", target("B")).as_bytes())).unwrap();
    assert!(own.starts_with("TargetName=iqn.2026-01.org.example:b\0TargetAddress="), "{own}");
    assert_eq!(String::from_utf8(b.text(format!("SendTargets={}\0", target("a")).as_bytes())).unwrap(), "");
    let not_found = Refused::Status(2, 3);
    for (portal, name, initiator, why) in [
        (0, "a", OTHER, "the target's only rule does not fit"),
        (1, "a", CLIENT, "the target is not served at portal group 2"),
        (1, "c", CLIENT, "has the initiator's name but not its address"),
        (0, "d", CLIENT, "the target has no rules, so that it admits nobody"),
        (0, "none", CLIENT, "there is no target of this name"),
    ] {
        assert_eq!(refused(at(portal), &Login::normal(&target(name)).initiator(initiator)), not_found, "{name}");
        let log = daemon.log();
        assert!(log.contains(&format!("{initiator} for {}: ", target(name))) && log.contains(why), "{why}\n{log}");
    }
    assert!(daemon.log().contains("lunette.toml:34:1 has the initiator's name"), "which rule: {}", daemon.log());
}

#[test]
fn key_06_an_alias_is_told_to_sessions_and_opens_nothing() {
    let daemon = four();
    let answers = daemon.connect().login(&Login::normal(&target("a")));
    assert!(answers.contains(&format!("TargetAlias={}\n", target("c"))), "{answers}");
    let answers = daemon.connect().login(&Login::normal(&target("b")));
    assert!(!answers.contains("TargetAlias"), "{answers}");
    // The alias of `a` is the name of `c`, and an InitiatorAlias is no name.
    assert_eq!(refused(daemon.connect(), &Login::normal(&target("c"))), Refused::Status(2, 3));
    let alias = Login::normal(&target("a")).initiator(OTHER).key("InitiatorAlias", CLIENT);
    assert_eq!(refused(daemon.connect(), &alias), Refused::Status(2, 3));
}

#[test]
fn nam_02_names_of_223_bytes_are_names_and_longer_ones_are_not() {
    let long = |bytes: usize| format!("iqn.2026-01.org.example:{}", "n".repeat(bytes - 24));
    let (name, initiator) = (long(223), format!("iqn.2026-01.org.example:{}", "i".repeat(199)));
    let configuration = format!(
        "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\nname = \"{name}\"\n\
         [[target.lun]]\nstore = \"ram:1M\"\n[[target.rule]]\ninitiators = \"{initiator}\"\n"
    );
    let daemon = Daemon::configured(LUNETTE, &configuration);
    let mut client = daemon.connect();
    client.login(&Login::normal(&name).initiator(&initiator));
    client.take_attentions();
    client.good(&Command::read(0, 1));
    for (name, initiator) in [(long(224), initiator.clone()), (name.clone(), format!("{initiator}i"))] {
        assert_eq!(refused(daemon.connect(), &Login::normal(&name).initiator(&initiator)), Refused::Status(2, 0));
    }
    let listed = discover(&mut daemon.connect(), &initiator, "All");
    assert!(listed.contains(&format!("TargetName={name}\n")));
}

#[test]
fn nam_07_portals_of_one_group_show_one_port_and_one_inventory() {
    let daemon = Daemon::configured(
        LUNETTE,
        "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\ngroup = 7\n[[portal]]\n\
         listen = \"127.0.0.2:0\"\ngroup = 7\n[[target]]\nname = \"iqn.2026-01.org.example:disk\"\n[[target.lun]]\n\
         store = \"ram:1M\"\n[[target.lun]]\nnumber = 5\nstore = \"ram:1M\"\n[[target.rule]]\ninitiators = \"any\"\n",
    );
    let seen: Vec<_> = daemon
        .portals()
        .into_iter()
        .map(|portal| {
            let mut client = Client::connect(portal);
            let answers = client.login(&Login::normal(&target("disk")));
            assert!(answers.contains("TargetPortalGroupTag=7\n"), "{answers}");
            client.take_attentions();
            let luns = client.good(&Command::reading(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256));
            (luns, client.good(&Command::inquiry(Some(0x83))))
        })
        .collect();
    assert!(seen.len() == 2 && seen[0] == seen[1], "{seen:?}");
}

#[test]
fn nam_08_portals_of_ipv6_and_of_a_host_name_are_found_and_reached() {
    let daemon = Daemon::configured(
        LUNETTE,
        "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"[::1]:0\"\n[[portal]]\nlisten = \"localhost:0\"\n\
         [[target]]\nname = \"iqn.2026-01.org.example:disk\"\n[[target.rule]]\ninitiators = \"any\"\n",
    );
    for portal in daemon.portals() {
        let listed = discover(&mut Client::connect(portal), CLIENT, "All");
        assert!(listed.contains(&format!("TargetAddress={portal},1\n")), "{listed}");
        Client::connect(portal).login(&Login::normal(&target("disk")));
    }
    assert!(daemon.portals().iter().any(|portal| portal.to_string().starts_with("[::1]:")), "{}", daemon.log());
}

#[test]
fn dsc_04_a_thousand_targets_come_in_segments_of_512_bytes() {
    let daemon = thousand();
    let mut client = daemon.connect();
    client.login(&Login::discovery().key("MaxRecvDataSegmentLength", 512));
    let answer = String::from_utf8(client.text(b"SendTargets=All\0")).unwrap();
    let names: Vec<_> = answer.split('\0').filter_map(|pair| pair.strip_prefix("TargetName=")).collect();
    let wanted: Vec<_> =
        (0..1000).filter(|number| number % 10 != 9).map(|number| target(&format!("{number:04}"))).collect();
    assert_eq!(names, wanted);
    // Half way the initiator asks for something else: what was is forgotten, and its tag leads nowhere.
    let tag = client.tag();
    let header = client.text_header(tag, FINAL, RESERVED_TAG);
    client.send(&Frame::new(header, b"SendTargets=All\0"));
    let (first, data) = client.response::<TextResponse>(tag);
    assert!(data.len() <= 512 && first.flags & FINAL == 0 && first.target_transfer_tag.get() != RESERVED_TAG);
    let one = String::from_utf8(client.text(format!("SendTargets={}\0", wanted[3]).as_bytes())).unwrap();
    assert!(one.starts_with(&format!("TargetName={}\0", wanted[3])), "{one}");
    let stale = client.text_header(tag, FINAL, first.target_transfer_tag.get());
    client.send(&Frame::new(stale, b""));
    let frame = client.receive().unwrap();
    assert_eq!(frame.opcode(), Opcode::Reject as u8, "{}", frame.summary());
    client.logout();
}

#[test]
fn dsc_01_dsc_06_a_discovery_session_takes_questions_and_its_logout_and_nothing_else() {
    let daemon = four();
    let mut client = daemon.connect();
    client.login(&Login::discovery());
    for frame in [
        Frame::new(Command::test_unit_ready().header(), b""),
        Frame::new(client.ping_header(0x77), b"ping"),
        Frame::new(client.task_management_header(5, RESERVED_TAG, 0), b""),
    ] {
        let opcode = frame.opcode();
        client.send(&frame);
        let answer = client.receive().unwrap();
        assert_eq!(answer.opcode(), Opcode::Reject as u8, "{opcode:02x}: {}", answer.summary());
    }
    let tag = client.tag();
    let header: TextRequest = client.text_header(tag, FINAL, RESERVED_TAG);
    client.send(&Frame::new(header, b"SendTargets=All\0"));
    let (answer, _) = client.response::<TextResponse>(tag);
    assert_eq!((answer.flags & FINAL, answer.target_transfer_tag.get()), (FINAL, RESERVED_TAG), "DSC-05, DSC-06");
    client.logout();
}

#[test]
fn dsc_08_discovery_is_of_level_0_and_nothing_comes_unasked() {
    let daemon = Daemon::configured(
        LUNETTE,
        "[daemon]\nstate-dir = \"FOLDER/state\"\n[limits]\nnop-interval = \"200ms\"\nnop-timeout = \"200ms\"\n\
         [[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\nname = \"iqn.2026-01.org.example:disk\"\n\
         [[target.rule]]\ninitiators = \"any\"\n",
    );
    let mut client = daemon.connect();
    let answers = client.login(&Login::discovery().key("ErrorRecoveryLevel", 2).key("MaxConnections", 8));
    assert!(answers.contains("ErrorRecoveryLevel=0\n"), "{answers}");
    client.expect_silence(Duration::from_millis(1200));
    client.logout();
}

#[test]
fn dsc_09_discovery_sessions_take_the_place_of_their_like_at_one_portal() {
    let daemon = four();
    let portals = daemon.portals();
    let open = |portal: usize, login: &Login| {
        let mut client = Client::connect(portals[portal]);
        client.login(login);
        client
    };
    let unnamed = Login::discovery();
    let mut normal = open(0, &Login::normal(&target("b")));
    let mut first = open(0, &unnamed);
    let mut elsewhere = open(1, &unnamed);
    let mut another = open(0, &unnamed.clone().isid(9));
    let mut named = open(0, &Login { target: Some(target("b")), ..unnamed.clone() });
    let mut second = open(0, &unnamed);
    assert!(first.expect_closed().is_empty(), "it went without a word");
    for (client, what) in [
        (&mut elsewhere, "another portal"),
        (&mut another, "another ISID"),
        (&mut named, "a named one"),
        (&mut second, ""),
    ] {
        assert!(!client.text(b"SendTargets=All\0").is_empty(), "{what}");
    }
    open(0, &Login { target: Some(target("b")), ..unnamed }).text(b"SendTargets=All\0");
    named.expect_closed();
    normal.take_attentions();
    assert!(normal.execute(&Command::test_unit_ready()).is_good(), "a normal session is not disturbed");
}

#[test]
fn tmf_08_a_cold_reset_ends_the_sessions_of_its_target_alone() {
    let daemon = four();
    let open = |name: &str, isid| {
        let mut client = daemon.connect();
        client.login(&Login::normal(&target(name)).isid(isid));
        client.take_attentions();
        client
    };
    let (mut a, mut other_a, mut b) = (open("a", 1), open("a", 2), open("b", 1));
    assert_eq!(a.task_management(7, RESERVED_TAG, 0), 0);
    other_a.expect_closed();
    assert!(b.execute(&Command::test_unit_ready()).is_good());
    assert_eq!(b.take_attentions(), [] as [Condition; 0]);
}

/// The whole answer to a login request, whatever its status.
fn answer(client: &mut Client, login: &Login, flags: u8, text: &[u8]) -> (u8, u8, String) {
    client.send(&Frame::new(login.request(flags, client.exp_stat_sn), text));
    let frame = client.receive().unwrap();
    let response = frame.view::<LoginResponse>().unwrap();
    let said = String::from_utf8(frame.data.clone()).unwrap().replace('\0', "\n");
    (response.status_class, response.status_detail, said)
}

#[test]
fn log_15_a_target_that_has_gone_says_where_after_the_login_that_it_asks_for() {
    let daemon = Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
[[portal]]
listen = "127.0.0.1:0"
[account.alice]
secret = "alice-secret-12"

[[target]]
name = "iqn.2026-01.org.example:moved"
redirect = { address = "[2001:db8::7]", permanent = true }
[[target.rule]]
initiators = "any"

[[target]]
name = "iqn.2026-01.org.example:shared"
accounts = ["alice"]
[[target.rule]]
initiators = "iqn.2026-01.org.example:client"
redirect = "nas2.example.org:3261"
[[target.rule]]
initiators = "any"
"#,
    );
    let login = Login::normal(&target("moved"));
    let mut client = daemon.connect();
    let permanent = (1, 2, "TargetAddress=[2001:db8::7]:3260\n".to_owned());
    assert_eq!(answer(&mut client, &login, 0x87, &login.text()), permanent);
    client.expect_closed();
    let login = Login::normal(&target("shared"));
    assert_eq!(refused(daemon.connect(), &login), Refused::Status(2, 1), "a stranger is not told where it is");
    let moved = daemon.connect().chap_login(&login, &Chap::new("alice", "alice-secret-12"));
    assert_eq!(moved, Err(Refused::Status(1, 1)));
    let wrong = daemon.connect().chap_login(&login, &Chap::new("alice", "alices-other-secret"));
    assert_eq!(wrong, Err(Refused::Status(2, 1)));
    let other = daemon.connect().chap_login(&login.initiator(OTHER), &Chap::new("alice", "alice-secret-12"));
    assert!(other.is_ok(), "it has gone for some only");
    let log = daemon.log();
    assert!(log.contains("login redirected") && log.contains("nas2.example.org:3261"), "{log}");
}

/// A thousand targets, of which each tenth is for another initiator.
fn thousand() -> Daemon {
    let mut configuration = "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for number in 0..1000 {
        let for_whom = if number % 10 == 9 { OTHER } else { CLIENT };
        let _ = write!(
            configuration,
            "[[target]]\nname = \"iqn.2026-01.org.example:{number:04}\"\n[[target.rule]]\ninitiators = \"{for_whom}\"\n"
        );
    }
    Daemon::configured(LUNETTE, &configuration)
}

#[test]
fn dsc_04_questions_without_end_hold_up_nobodys_login() {
    let daemon = thousand();
    let mut curious: Vec<_> = (0..16)
        .map(|isid| {
            let mut client = daemon.connect();
            client.login(&Login::discovery().isid(isid).key("MaxRecvDataSegmentLength", 512));
            client
        })
        .collect();
    let header = curious[0].text_header(7, FINAL, RESERVED_TAG);
    let question = Frame::new(header, b"SendTargets=All\0").encode(Digests::default());
    let flood = question.repeat(4096);
    // Nobody reads the answers; what is not taken any more is not sent.
    for client in &mut curious {
        client.socket().set_nonblocking(true).unwrap();
        let _ = std::io::Write::write(&mut client.socket(), &flood);
    }
    let begun = Instant::now();
    for _ in 0..5 {
        let mut client = daemon.connect();
        client.login(&Login::normal(&target("0001")));
        client.logout();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for five logins", begun.elapsed());
}
