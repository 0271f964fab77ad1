//! Who may use which target and which of its LUNs, against the real binary: rules, CHAP for each of them, what
//! strangers learn, masking and other numbers (RFC 7143 §9.2, §11.13.5; SPC-4).

use scsi::copy::list::{CopyList, Cscd, Form, Segment};
use scsi::copy::token::{self, Populate, Range, WriteUsing};
use sim::raw::{Chap, Client, Command, Condition, Login, Refused};
use sim::{Daemon, Frame};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const NO_LUN: Condition = Condition(0x05, 0x25, 0x00);
const PROTECTED: Condition = Condition(0x07, 0x27, 0x00);
const AUTHENTICATION: Refused = Refused::Status(2, 1);
const NOT_FOUND: Refused = Refused::Status(2, 3);

fn name(of: &str) -> String {
    format!("iqn.2026-01.org.example:{of}")
}

fn login(target: &str, initiator: &str) -> Login {
    Login::normal(&name(target)).initiator(&name(initiator))
}

fn alice() -> Chap {
    Chap::new("alice", "alice-secret-12")
}

fn bob() -> Chap {
    Chap::new("bob", "bob-secret-1234")
}

/// `open` for everybody, `one` for node1 as alice and node2 as bob, `two` for node2 as bob.
fn closed(discovery: &str) -> Daemon {
    let configuration = r#"
[daemon]
state-dir = "FOLDER/state"
threads = 1
[limits]
failure-delay = 0
[[portal]]
listen = "127.0.0.1:0"

[account.alice]
secret = "alice-secret-12"
[account.bob]
secret = "bob-secret-1234"
[account.bob-of-two]
user = "bob"
secret = "bobs-other-secret"
[account.one]
secret = "secret-of-one-12"
[account.two]
secret = "secret-of-two-12"
[account.finder]
secret = "finder-secret-12"

DISCOVERY

[[target]]
name = "iqn.2026-01.org.example:open"
[[target.lun]]
store = "ram:1M"
[[target.rule]]
initiators = "any"

[[target]]
name = "iqn.2026-01.org.example:one"
alias = "the first"
accounts = ["alice"]
mutual = "one"
[[target.rule]]
initiators = "iqn.2026-01.org.example:node1"
[[target.rule]]
initiators = "iqn.2026-01.org.example:node2"
accounts = ["bob"]
mutual = "two"

[[target]]
name = "iqn.2026-01.org.example:two"
[[target.rule]]
initiators = "iqn.2026-01.org.example:node2"
accounts = ["bob", "bob-of-two"]
"#;
    let finder = if discovery.contains("finder") { "" } else { "[account.finder]\nsecret = \"finder-secret-12\"\n" };
    let configuration = configuration.replace(finder, "").replace("DISCOVERY", discovery);
    Daemon::configured(LUNETTE, &configuration)
}

fn outcome(daemon: &Daemon, login: &Login, chap: &Chap) -> Result<String, Refused> {
    daemon.connect().chap_login(login, chap)
}

#[test]
fn chp_12_a_secret_opens_to_the_initiator_whose_it_is_and_to_no_other() {
    let daemon = closed("");
    assert!(outcome(&daemon, &login("one", "node1"), &alice()).is_ok());
    assert!(outcome(&daemon, &login("one", "node2"), &bob()).is_ok(), "each rule has its own accounts");
    assert_eq!(outcome(&daemon, &login("one", "node2"), &alice()), Err(AUTHENTICATION));
    assert_eq!(outcome(&daemon, &login("one", "node1"), &bob()), Err(AUTHENTICATION));
    assert_eq!(outcome(&daemon, &login("one", "node3"), &alice()), Err(AUTHENTICATION));
    let log = daemon.log();
    assert!(log.contains("no rule that fits the initiator takes CHAP account \"alice\""), "{log}");
}

#[test]
fn chp_01_each_rule_shows_its_own_account_to_initiators_that_ask() {
    let daemon = closed("");
    let as_one = alice().mutual("one", "secret-of-one-12");
    let answers = outcome(&daemon, &login("one", "node1"), &as_one).unwrap();
    assert!(answers.contains("CHAP_N=one\n") && answers.contains("TargetAlias=the first\n"), "KEY-06: {answers}");
    let as_two = bob().mutual("two", "secret-of-two-12");
    assert!(outcome(&daemon, &login("one", "node2"), &as_two).unwrap().contains("CHAP_N=two\n"));
    // No account of its own: it cannot show itself, and says so to nobody but the log.
    assert_eq!(outcome(&daemon, &login("two", "node2"), &as_two), Err(AUTHENTICATION));
    assert!(daemon.log().contains("no account of ours is set"), "{}", daemon.log());
}

#[test]
fn chp_17_accounts_of_one_name_are_told_apart_by_their_secrets() {
    let daemon = closed("");
    let other = Chap::new("bob", "bobs-other-secret");
    assert!(outcome(&daemon, &login("two", "node2"), &other).is_ok());
    assert!(outcome(&daemon, &login("two", "node2"), &bob()).is_ok());
    // It is one of node2's, but not one of this target's.
    assert_eq!(outcome(&daemon, &login("one", "node2"), &other), Err(NOT_FOUND));
    assert!(daemon.log().contains("does not take CHAP account \"bob\""), "{}", daemon.log());
}

/// All that a login hears, whatever comes of it: for each request the status, and the keys without the
/// values that are made for each login.
fn heard(daemon: &Daemon, login: &Login, requests: &[(u8, &str)]) -> Vec<(u8, u8, u8, Vec<String>)> {
    let mut client = daemon.connect();
    let mut heard = Vec::new();
    for (at, (flags, text)) in requests.iter().enumerate() {
        let names = if at == 0 { login.text() } else { Vec::new() };
        let text = [names, text.replace('\n', "\0").into_bytes()].concat();
        client.send(&Frame::new(login.request(*flags, client.exp_stat_sn), &text));
        let Ok(frame) = client.receive() else { break };
        let response = *frame.view::<iscsi::wire::LoginResponse>().unwrap();
        let said = String::from_utf8(frame.data.clone()).unwrap();
        let keys = said.split('\0').map(|pair| match pair.split_once('=') {
            Some((key @ ("CHAP_I" | "CHAP_C"), _)) => key.to_owned(),
            _ => pair.to_owned(),
        });
        heard.push((response.flags, response.status_class, response.status_detail, keys.collect()));
        if response.status_class != 0 {
            assert!(client.expect_closed().is_empty());
            break;
        }
    }
    heard
}

#[test]
fn log_13_who_has_not_shown_who_he_is_cannot_tell_targets_that_are_there_from_others() {
    let daemon = closed("");
    let response = "CHAP_N=alice\nCHAP_R=0x00112233445566778899aabbccddeeff\n";
    let unknown = "CHAP_N=nobody\nCHAP_R=0x00112233445566778899aabbccddeeff\n";
    let back = format!("{response}CHAP_I=9\nCHAP_C=0x00112233445566778899aabbccddeeff\n");
    let scripts: &[&[(u8, &str)]] = &[
        &[(0x87, "")],
        &[(0x81, "AuthMethod=None\n")],
        &[(0x81, "")],
        &[(0x00, "AuthMethod=CHAP,None\n"), (0x00, "CHAP_A=5\n"), (0x81, response)],
        &[(0x00, "AuthMethod=CHAP\n"), (0x00, "CHAP_A=5\n"), (0x81, unknown)],
        &[(0x00, "AuthMethod=CHAP\n"), (0x00, "CHAP_A=5\n"), (0x81, &back)],
        &[(0x00, "AuthMethod=CHAP\n"), (0x00, "CHAP_A=5\n"), (0x81, "CHAP_N=alice\n")],
        &[(0x00, "AuthMethod=CHAP\n"), (0x00, "CHAP_A=99\n")],
        &[(0x00, "AuthMethod=CHAP\n"), (0x87, "HeaderDigest=None\n")],
        &[(0x00, "AuthMethod=KRB5\n")],
        &[(0x81, "AuthMethod=CHAP\nMaxBurstLength=0\n"), (0x00, "")],
    ];
    for script in scripts {
        // One that is there for him, one for others, and two that are nowhere.
        let all: Vec<_> = ["one", "two", "none", "nothing"]
            .map(|target| heard(&daemon, &login(target, "node1"), script))
            .into_iter()
            .collect();
        assert!(all.iter().all(|one| *one == all[0]), "{script:?}: {all:#?}");
        assert!(all[0].last().is_some_and(|last| last.1 == 2), "{all:?}");
        let stranger = ["one", "two", "none"].map(|target| heard(&daemon, &login(target, "stranger"), script));
        assert!(stranger.iter().all(|one| *one == all[0]), "names of initiators are not told either: {stranger:#?}");
    }
    // Who has shown who he is may know that there is nothing for him; as little which of the two it is.
    assert_eq!(outcome(&daemon, &login("two", "node1"), &alice()), Err(NOT_FOUND));
    assert_eq!(outcome(&daemon, &login("none", "node1"), &alice()), Err(NOT_FOUND));
    assert_eq!(outcome(&daemon, &login("two", "node1"), &bob()), Err(AUTHENTICATION));
    assert_eq!(outcome(&daemon, &login("none", "node1"), &bob()), Err(AUTHENTICATION));
    daemon.connect().login(&login("open", "stranger"));
}

#[test]
fn chp_18_every_refusal_is_explained_in_the_log_and_no_secret_is() {
    let daemon = closed("");
    let _ = outcome(&daemon, &login("one", "node1"), &Chap::new("alice", "not-the-secret-1"));
    let _ = outcome(&daemon, &login("one", "node1"), &Chap::new("carol", "carols-secret-12"));
    let _ = outcome(&daemon, &login("none", "node1"), &Chap::new("carol", "carols-secret-12"));
    let _ = outcome(&daemon, &login("one", "node1"), &alice().algorithms(&[]));
    let log = daemon.log();
    for line in [
        "the secret of CHAP account \"alice\" is another than the initiator's",
        "there is no CHAP account \"carol\"",
        "there is no CHAP account \"carol\"; besides, there is no target of this name",
        "CHAP_A= has none of SHA3-256, SHA-256, SHA-1, MD5",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    for secret in ["alice-secret-12", "bob-secret-1234", "secret-of-one-12", "not-the-secret-1", "carols-secret"] {
        assert!(!log.contains(secret), "CHP-18: {log}");
    }
}

fn discovered(daemon: &Daemon, initiator: &str, chap: Option<&Chap>) -> Result<Vec<String>, Refused> {
    let login = Login::discovery().initiator(&name(initiator));
    let mut client = daemon.connect();
    match chap {
        Some(chap) => client.chap_login(&login, chap)?,
        None => client.try_login(&login)?,
    };
    let answer = String::from_utf8(client.text(b"SendTargets=All\0")).unwrap();
    Ok(answer
        .split('\0')
        .filter_map(|pair| pair.strip_prefix("TargetName=iqn.2026-01.org.example:"))
        .map(Into::into)
        .collect())
}

#[test]
fn chp_17_discovery_asks_for_what_the_targets_ask_for_unless_it_has_accounts_of_its_own() {
    let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let daemon = closed("");
    assert_eq!(discovered(&daemon, "node1", None), Err(AUTHENTICATION));
    assert_eq!(discovered(&daemon, "node1", Some(&alice())), names(&["open", "one"]));
    assert_eq!(discovered(&daemon, "node2", Some(&bob())), names(&["open", "one", "two"]));
    assert_eq!(discovered(&daemon, "node2", Some(&Chap::new("bob", "bobs-other-secret"))), names(&["open", "two"]));
    assert_eq!(discovered(&daemon, "node2", Some(&alice())), Err(AUTHENTICATION));
    let daemon = closed("[discovery]\naccounts = [\"finder\"]\nmutual = \"one\"");
    let finder = Chap::new("finder", "finder-secret-12");
    assert_eq!(discovered(&daemon, "node1", None), Err(AUTHENTICATION));
    assert_eq!(discovered(&daemon, "node1", Some(&alice())), Err(AUTHENTICATION));
    assert_eq!(discovered(&daemon, "node1", Some(&finder)), names(&["open", "one"]));
    assert_eq!(
        discovered(&daemon, "stranger", Some(&finder.clone().mutual("one", "secret-of-one-12"))),
        names(&["open"])
    );
    assert_eq!(outcome(&daemon, &login("one", "node1"), &finder), Err(AUTHENTICATION), "it discovers, no more");
    let daemon = closed("[discovery]\nopen = true");
    assert_eq!(discovered(&daemon, "node2", None), names(&["open", "one", "two"]));
    assert_eq!(discovered(&daemon, "stranger", None), names(&["open"]));
}

/// LUNs 1 to 3 for `all`; for `some` 2 as 0 and 3, which it may not write; all of them read-only for `reader`.
fn masked() -> Daemon {
    Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
threads = 2
[[portal]]
listen = "127.0.0.1:0"
[[target]]
name = "iqn.2026-01.org.example:disk"
[[target.lun]]
store = "ram:1M"
[[target.lun]]
store = "ram:1M"
[[target.lun]]
store = "ram:1M"
[[target.rule]]
initiators = "iqn.2026-01.org.example:all"
[[target.rule]]
initiators = "iqn.2026-01.org.example:some"
luns = [{ lun = 2, as = 0 }, { lun = 3, read-only = true }]
[[target.rule]]
initiators = "iqn.2026-01.org.example:reader"
read-only = true
[[target.rule]]
initiators = "iqn.2026-01.org.example:none"
luns = []
"#,
    )
}

fn session(daemon: &Daemon, initiator: &str, luns: &[u8]) -> Client {
    let mut client = daemon.connect();
    client.login(&login("disk", initiator));
    for lun in luns {
        while client.execute(&Command::test_unit_ready().at(*lun)).condition().is_some_and(|one| one.0 == 6) {}
    }
    client
}

/// REPORT LUNS.
fn luns(client: &mut Client, by: u8) -> Vec<u16> {
    let data = client.good(&Command::reading(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256).at(by));
    assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize, data.len() - 8);
    data[8..].chunks_exact(8).map(|lun| u16::from_be_bytes([lun[0], lun[1]])).collect()
}

fn designator(client: &mut Client, lun: u8) -> Vec<u8> {
    let page = client.good(&Command::inquiry(Some(0x83)).at(lun));
    assert_eq!(page[4..8], [1, 3, 0, 16]);
    page[8..24].to_vec()
}

#[test]
fn luns_are_those_of_the_rule_with_its_numbers() {
    let daemon = masked();
    let mut all = session(&daemon, "all", &[1, 2, 3]);
    let mut some = session(&daemon, "some", &[0, 3]);
    assert_eq!((luns(&mut all, 1), luns(&mut some, 0)), (vec![0, 1, 2, 3], vec![0, 3]));
    assert_eq!(designator(&mut all, 2), designator(&mut some, 0), "another number, the same disk");
    all.good(&Command::write(7, &[0x5a; 512]).at(2));
    assert_eq!(some.good(&Command::read(7, 1).at(0)), [0x5a; 512]);
    for lun in [1, 2] {
        assert_eq!(some.execute(&Command::read(7, 1).at(lun)).condition(), Some(NO_LUN));
        assert_eq!(some.execute(&Command::write(7, &[1; 512]).at(lun)).condition(), Some(NO_LUN));
        // What is not there says so (SPC-4 6.4.2): qualifier 011b, type 1Fh.
        assert_eq!(some.good(&Command::inquiry(None).at(lun))[0], 0x7f);
    }
    assert_eq!(all.good(&Command::read(7, 1).at(2)), [0x5a; 512]);
    let mut none = session(&daemon, "none", &[]);
    // LUN 0 answers what every target has to (SAM-5 4.7.3).
    assert_eq!(luns(&mut none, 0), [0]);
    assert_eq!(none.good(&Command::inquiry(None).at(0))[0], 0x0c, "a controller, no disk");
    assert_eq!(none.execute(&Command::read(0, 1).at(1)).condition(), Some(NO_LUN));
}

#[test]
fn what_is_read_only_for_some_is_so_for_them_alone() {
    let daemon = masked();
    let mut all = session(&daemon, "all", &[1, 2, 3]);
    let mut some = session(&daemon, "some", &[0, 3]);
    let mut reader = session(&daemon, "reader", &[1, 2, 3]);
    some.good(&Command::write(0, &[1; 512]).at(0));
    assert_eq!(some.execute(&Command::write(0, &[2; 512]).at(3)).condition(), Some(PROTECTED));
    for lun in [1, 2, 3] {
        assert_eq!(reader.execute(&Command::write(0, &[2; 512]).at(lun)).condition(), Some(PROTECTED));
        // UNMAP, WRITE SAME, FORMAT UNIT, SANITIZE: whatever changes the medium.
        let unmap = [&[0, 22, 0, 16, 0, 0, 0, 0], &[0; 8][..], &[0, 0, 0, 8, 0, 0, 0, 0]].concat();
        let commands = [
            Command::writing(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap),
            Command::writing(&[0x41, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[0; 512]),
            Command::cdb(&[0x04, 0, 0, 0, 0, 0]),
            Command::cdb(&[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for command in commands {
            let answer = reader.execute(&command.clone().at(lun));
            assert_eq!(answer.condition(), Some(PROTECTED), "{:02x?}", command.cdb);
        }
        // MODE SENSE says so, and only to him.
        let sense = Command::reading(&[0x1a, 0, 0x3f, 0, 255, 0], 255);
        assert_eq!(reader.good(&sense.clone().at(lun))[2] & 0x80, 0x80);
        assert_eq!(all.good(&sense.at(lun))[2] & 0x80, 0);
    }
    all.good(&Command::write(0, &[3; 512]).at(3));
    assert_eq!(reader.good(&Command::read(0, 1).at(3)), [3; 512]);
    assert_eq!(some.good(&Command::read(0, 1).at(3)), [3; 512]);
}

fn named(designator: Vec<u8>) -> Cscd {
    Cscd { code_set: 1, designator_type: 3, designator, block_length: 512, null: false, at: 0 }
}

fn copy(client: &mut Client, lun: u8, source: Vec<u8>, destination: Vec<u8>) -> Option<Condition> {
    let segment = Segment {
        source: 0,
        destination: 1,
        counts_destination: false,
        blocks: 8,
        source_block: 0,
        destination_block: 0,
        at: 0,
    };
    let cscds = vec![named(source), named(destination)];
    let bytes = CopyList { identifier: None, immediate: false, cscds, segments: vec![segment] }.encode(Form::Lid1);
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    cdb[10..14].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
    client.execute(&Command::writing(&cdb, &bytes).at(lun)).condition()
}

#[test]
fn spc_13_a_copy_reaches_no_disk_that_is_masked_and_writes_none_that_is_read_only() {
    let daemon = masked();
    let mut all = session(&daemon, "all", &[1, 2, 3]);
    let mut some = session(&daemon, "some", &[0, 3]);
    let disks: Vec<_> = [1, 2, 3].iter().map(|lun| designator(&mut all, *lun)).collect();
    all.good(&Command::write(0, &[0x11; 4096]).at(1));
    all.good(&Command::write(0, &[0x22; 4096]).at(2));
    all.good(&Command::write(0, &[0x33; 4096]).at(3));
    let unreachable = Some(Condition(0xa, 0x08, 0x04));
    assert_eq!(copy(&mut some, 0, disks[0].clone(), disks[1].clone()), unreachable, "from the masked one");
    assert_eq!(copy(&mut some, 0, disks[1].clone(), disks[0].clone()), unreachable, "to the masked one");
    assert!(copy(&mut some, 0, disks[1].clone(), disks[2].clone()).is_some(), "to the one that it may only read");
    for (lun, byte) in [(1, 0x11), (2, 0x22), (3, 0x33)] {
        assert_eq!(all.good(&Command::read(0, 8).at(lun)), [byte; 4096]);
    }
    assert_eq!(copy(&mut some, 0, disks[2].clone(), disks[1].clone()), None, "what it may, it may");
    assert_eq!(all.good(&Command::read(0, 8).at(2)), [0x33; 4096]);
    assert!(daemon.log().contains("a copy names a disk that this initiator does not have"), "{}", daemon.log());
}

#[test]
fn spc_13_a_token_of_a_masked_disk_opens_nothing_to_who_has_come_by_it() {
    let daemon = masked();
    let mut all = session(&daemon, "all", &[1]);
    let mut some = session(&daemon, "some", &[0]);
    all.good(&Command::write(0, &[0x11; 4096]).at(1));
    let ranges = vec![Range { block: 0, blocks: 8 }];
    let list = Populate { immediate: false, rod_type: None, inactivity_timeout: 0, ranges: ranges.clone() };
    let list = token::encode_populate(&list);
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x83, 0x10);
    cdb[6..10].copy_from_slice(&1u32.to_be_bytes());
    cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
    all.good(&Command::writing(&cdb, &list).at(1));
    let mut receive = [0; 16];
    (receive[0], receive[1]) = (0x84, 0x07);
    receive[2..6].copy_from_slice(&1u32.to_be_bytes());
    receive[10..14].copy_from_slice(&1024u32.to_be_bytes());
    let told = all.good(&Command::reading(&receive, 1024).at(1));
    let token = told[38..].into();
    let using = token::encode_write_using(&WriteUsing { immediate: false, forget: false, offset: 0, token, ranges });
    (cdb[0], cdb[1]) = (0x83, 0x11);
    cdb[10..14].copy_from_slice(&(using.len() as u32).to_be_bytes());
    let answer = some.execute(&Command::writing(&cdb, &using).at(0));
    assert!(answer.condition().is_some(), "{answer:?}");
    assert_eq!(some.good(&Command::read(0, 8).at(0)), [0; 4096], "nothing of it came through");
}

#[test]
fn spc_11_a_change_of_access_states_is_told_at_units_that_its_author_does_not_see() {
    let daemon = masked();
    let mut all = session(&daemon, "all", &[1, 2, 3]);
    let mut some = session(&daemon, "some", &[0, 3]);
    let list = [0, 0, 0, 0, 1, 0, 0, 1];
    some.good(&Command::writing(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &list).at(0));
    let changed = Some(Condition(0x06, 0x2a, 0x06));
    for lun in [1, 2, 3] {
        assert_eq!(all.execute(&Command::test_unit_ready().at(lun)).condition(), changed, "LUN {lun}");
    }
}

#[test]
fn chp_13_a_session_is_joined_by_its_own_rule_and_account_alone() {
    let daemon = Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
[[portal]]
listen = "127.0.0.1:0"
[[target]]
name = "iqn.2026-01.org.example:disk"
[[target.lun]]
store = "ram:1M"
[[target.rule]]
initiators = "any"
addresses = "127.0.0.2"
luns = []
[[target.rule]]
initiators = "any"
"#,
    );
    let from = |address: [u8; 4]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&daemon.address().into()).unwrap();
        Client::over(std::net::TcpStream::from(socket))
    };
    let login = login("disk", "node1");
    let mut client = from([127, 0, 0, 1]);
    let frame = Frame::new(login.request(0x87, 0), &login.text());
    let tsih = client.login_exchange(&frame).unwrap().0.tsih.get();
    let again = Login { tsih, ..login };
    let text = again.text();
    let join = |client: &mut Client| client.login_exchange(&Frame::new(again.request(0x87, 0), &text)).map(drop);
    assert_eq!(join(&mut from([127, 0, 0, 2])), Err(AUTHENTICATION), "there it may see no disk");
    assert_eq!(join(&mut from([127, 0, 0, 1])), Ok(()));
    assert!(daemon.log().contains("or by another rule"), "{}", daemon.log());
}

#[test]
fn tmf_08_who_has_not_all_of_a_target_may_not_reset_it() {
    let daemon = masked();
    let mut all = session(&daemon, "all", &[1, 2, 3]);
    let mut some = session(&daemon, "some", &[0, 3]);
    let mut reader = session(&daemon, "reader", &[1]);
    for function in [6, 7] {
        for client in [&mut some, &mut reader] {
            assert_eq!(client.task_management(function, iscsi::wire::RESERVED_TAG, 0), 6, "not authorized");
        }
    }
    for lun in [1, 2, 3] {
        assert!(all.execute(&Command::test_unit_ready().at(lun)).is_good(), "nobody else is disturbed");
    }
    assert!(
        some.execute(&Command::test_unit_ready().at(3)).is_good() && reader.execute(&Command::read(0, 1)).is_good()
    );
    assert_eq!(all.task_management(6, iscsi::wire::RESERVED_TAG, 0), 0);
    assert_eq!(some.execute(&Command::test_unit_ready().at(3)).condition().map(|one| one.0), Some(6));
}
