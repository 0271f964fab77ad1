//! A running target that becomes another one under its sessions: targets, rules, accounts, units, portals, and what
//! whoever administers it does with sessions. The door and its workers in this process, real sockets, and initiators
//! that look at every frame.

use block::pure::Ram;
use io::engine::{Choice, Engines};
use iscsi::auth::{Account, Algorithm, Secret};
use iscsi::wire::{AsyncMessage, ReadyToTransfer};
use lun::{GroupSettings, Identity, LogicalUnit, LunEntry, LunMap, Options, TargetPortGroups};
use scsi::inquiry::TargetPortGroupSupport;
use sim::raw::{Chap, Client, Command, Condition, Login, Refused};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use target::{
    Access, Changed, Chap as Accounts, Closed, Discovery, Disturbance, Disturbed, Door, Initiators, Limits, NoAccess,
    Portal, Rule, Sessions, Target, Targets, WorkerHandle, bind,
};
use tokio::runtime::Handle;

const ONE: &str = "iqn.2026-01.org.example:one";
const TWO: &str = "iqn.2026-01.org.example:two";
const NOT_SUPPORTED: Condition = Condition(5, 0x25, 0x00);
const LUNS_CHANGED: Condition = Condition(6, 0x3f, 0x0e);
const NOT_FOUND: Refused = Refused::Status(2, 3);

/// The door, with threads of its own.
struct House {
    runtime: Handle,
    door: Arc<Door>,
    address: SocketAddr,
    /// The door's thread ends with this.
    _stop: tokio::sync::oneshot::Sender<()>,
}

fn unit(number: u8) -> Arc<LogicalUnit> {
    let identity = Identity {
        uuid: [number; 16],
        vendor: "LUNETTE".into(),
        product: "Disk".into(),
        revision: "1".into(),
        serial: number.to_string(),
    };
    LogicalUnit::new(identity, Options::default(), Ram::new(512, 4096))
}

fn map(units: &[(u16, &Arc<LogicalUnit>)]) -> Arc<LunMap> {
    let entry = |(number, unit): &(u16, &Arc<LogicalUnit>)| LunEntry {
        number: *number,
        unit: Arc::clone(unit),
        read_only: false,
    };
    Arc::new(LunMap { entries: units.iter().map(entry).collect() })
}

fn rule(label: &str, units: &Arc<LunMap>) -> Rule {
    Rule {
        label: label.into(),
        initiators: Initiators::Any,
        networks: Vec::new(),
        chap: None,
        units: Arc::clone(units),
        target_resets: true,
        redirection: None,
        limiter: Arc::default(),
    }
}

fn account(user: &str, secret: &str) -> Account {
    Account { user: user.into(), secret: Secret::new(secret).unwrap() }
}

fn named(label: &str, name: &str, units: &Arc<LunMap>) -> Rule {
    Rule { initiators: Initiators::Named(vec![name.parse().unwrap()]), ..rule(label, units) }
}

impl House {
    fn new() -> House {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || runtime.block_on(stopped));
        let limits = Arc::new(Limits { failure_delay: Duration::ZERO, ..Limits::default() });
        let worker =
            |number| WorkerHandle::start(number, 2, Engines::new(Choice::Inline), Arc::clone(&limits)).unwrap();
        let workers = vec![worker(0), worker(1)];
        let targets = Targets::new(Vec::new(), Discovery::Open, vec![Algorithm::Sha256]);
        let door = Door::new(targets, Arc::clone(&limits), workers);
        let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = handle.block_on(async { door.open_portal(listener, 1) }).unwrap();
        House { runtime: handle, door, address, _stop: stop }
    }

    fn target(&self, name: &str, rules: Vec<Rule>) -> Target {
        self.target_of(name, rules, &[1])
    }

    fn target_of(&self, name: &str, rules: Vec<Rule>, groups: &[u16]) -> Target {
        let settings: Vec<_> = groups.iter().map(|group| GroupSettings::new(*group)).collect();
        Target {
            name: name.into(),
            alias: None,
            offline: false,
            access: Access { rules: rules.into_iter().map(Arc::new).collect() },
            portals: vec![Portal { address: self.address, group: 1, advertise: None }],
            groups: TargetPortGroups::new(&settings, TargetPortGroupSupport::Implicit),
            units: Arc::default(),
        }
    }

    fn change(&self, next: Targets, sessions: Sessions) -> Result<Changed, Vec<Disturbance>> {
        self.runtime.block_on(self.door.change(next, sessions))
    }

    /// Adds or replaces a target, and disturbs nobody.
    fn add(&self, target: Target) -> Changed {
        self.change(self.door.targets().with(target), Sessions::Spare).expect("nobody is disturbed")
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn client(&self, target: &str, isid: u8) -> Client {
        let mut client = self.connect();
        client.login(&Login::normal(target).isid(isid));
        client
    }

    fn session(&self, client: &Client) -> target::SessionOverview {
        let tsih = client.agreed().tsih;
        let workers = self.runtime.block_on(self.door.workers());
        let all = workers.into_iter().flatten().flat_map(|worker| worker.sessions);
        all.into_iter().find(|session| session.tsih == tsih).expect("the session is listed")
    }
}

/// What TEST UNIT READY at this LUN comes to, attention by attention.
fn attentions(client: &mut Client, lun: u8) -> Vec<Condition> {
    let mut told = Vec::new();
    loop {
        let answer = client.execute(&Command::test_unit_ready().at(lun));
        match answer.condition() {
            Some(condition) => told.push(condition),
            None => return told,
        }
        assert!(told.len() < 10);
    }
}

fn last_event(client: &mut Client) -> u8 {
    let frames = client.expect_closed();
    frames.last().and_then(|frame| frame.view::<AsyncMessage>()).expect("a last word").event
}

#[test]
fn a_target_comes_without_anybody_noticing_and_goes_only_by_force() {
    let house = House::new();
    let (disk, other) = (unit(1), unit(2));
    assert_eq!(house.connect().try_login(&Login::normal(ONE)), Err(NOT_FOUND));
    house.add(house.target(ONE, vec![rule("all", &map(&[(1, &disk)]))]));
    let mut client = house.client(ONE, 1);
    client.take_attentions();
    client.good(&Command::write(0, &[1; 512]).at(1));
    let changed = house.add(house.target(TWO, vec![rule("all", &map(&[(1, &other)]))]));
    assert_eq!((changed.units_changed, changed.pending), (0, 0));
    let mut second = house.client(TWO, 1);
    assert_eq!(attentions(&mut client, 1), [], "nothing has changed for it");
    let mut discovery = house.connect();
    discovery.login(&Login::discovery());
    let listed = |client: &mut Client| {
        let text = String::from_utf8(client.text(b"SendTargets=All\0")).unwrap();
        text.split('\0').filter_map(|line| line.strip_prefix("TargetName=").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut discovery), [ONE, TWO]);

    let without = house.door.targets().without(TWO);
    let disturbed = house.change(without, Sessions::Spare).unwrap_err();
    let [one] = &disturbed[..] else { panic!("{disturbed:?}") };
    assert_eq!((one.target.as_str(), &one.how), (TWO, &Disturbed::Dropped(NoAccess::NoTarget)));
    assert!(one.to_string().contains("org.example:client (127.0.0.1) at"), "{one}");
    assert_eq!(attentions(&mut second, 1), [Condition(6, 0x29, 0)], "it was not even disturbed");
    let without = house.door.targets().without(TWO);
    assert_eq!(house.door.disturbed_by(&without), disturbed);
    let changed = house.change(without, Sessions::Disturb).unwrap();
    assert_eq!((changed.disturbed.len(), changed.pending), (1, 0));
    assert_eq!(last_event(&mut second), 3, "all connections are dropped");
    assert_eq!(house.connect().try_login(&Login::normal(TWO)), Err(NOT_FOUND));
    assert_eq!(listed(&mut discovery), [ONE], "a discovery session sees what is served now");
    assert_eq!(client.good(&Command::read(0, 1).at(1)), [1; 512]);
    house.runtime.block_on(other.retire()).unwrap();
    assert_eq!(Arc::strong_count(&other), 1, "nobody has the unit any more");
}

#[test]
fn spc_05_a_lun_comes_and_goes_under_a_session_at_work() {
    let house = House::new();
    let (disk, other) = (unit(1), unit(2));
    house.add(house.target(ONE, vec![rule("all", &map(&[(1, &disk)]))]));
    let mut client = house.client(ONE, 1);
    let mut second = house.client(ONE, 2);
    for client in [&mut client, &mut second] {
        attentions(client, 1);
    }
    let changed = house.add(house.target(ONE, vec![rule("all", &map(&[(1, &disk), (2, &other)]))]));
    assert_eq!(changed.units_changed, 2);
    for client in [&mut client, &mut second] {
        assert_eq!(attentions(client, 1), [LUNS_CHANGED]);
        assert_eq!(attentions(client, 2), [Condition(6, 0x29, 0)]);
    }
    assert_eq!(house.session(&client).luns, [1, 2]);
    client.good(&Command::write(8, &[2; 512]).at(2));
    assert_eq!(second.good(&Command::read(8, 1).at(2)), [2; 512]);

    let only = || house.door.targets().with(house.target(ONE, vec![rule("all", &map(&[(1, &disk)]))]));
    let disturbed = house.change(only(), Sessions::Spare).unwrap_err();
    assert_eq!(disturbed.len(), 2);
    assert_eq!(disturbed[0].how, Disturbed::Units { lost: vec![2], protected: Vec::new() });
    // A write that waits for its data when its LUN goes.
    second.hold_data = true;
    let tag = second.start(&Command::write(0, &[3; 8192]).at(2).solicited());
    let (asked, _) = second.expect::<ReadyToTransfer>();
    assert_eq!(house.change(only(), Sessions::Disturb).unwrap().pending, 0);
    second.hold_data = false;
    // An answer waits for the data that was asked for.
    second.answer_ready_to_transfer(&asked);
    assert_eq!(second.finish(tag).condition(), Some(NOT_SUPPORTED));
    assert_eq!(client.execute(&Command::read(8, 1).at(2)).condition(), Some(NOT_SUPPORTED));
    house.runtime.block_on(other.retire()).unwrap();
    assert_eq!(Arc::strong_count(&other), 1);
    for client in [&mut client, &mut second] {
        assert_eq!(attentions(client, 1), [LUNS_CHANGED]);
        client.good(&Command::write(9, &[4; 512]).at(1));
    }
}

#[test]
fn ses_08_whoever_is_admitted_no_more_is_told_and_the_others_go_on() {
    let house = House::new();
    let units = map(&[(1, &unit(1))]);
    let (first, second) = ("iqn.2026-01.org.example:first", "iqn.2026-01.org.example:second");
    let both = || vec![named("first", first, &units), named("second", second, &units)];
    house.add(house.target(ONE, both()));
    let log_in = |name: &str| {
        let mut client = house.connect();
        client.login(&Login::normal(ONE).initiator(name));
        client
    };
    let (mut stays, mut goes) = (log_in(first), log_in(second));
    attentions(&mut stays, 1);
    let less = || house.door.targets().with(house.target(ONE, vec![named("first", first, &units)]));
    let disturbed = house.change(less(), Sessions::Spare).unwrap_err();
    assert!(matches!(&disturbed[..], [one] if one.initiator == second && one.to_string().contains("rule")));
    house.change(less(), Sessions::Disturb).unwrap();
    assert_eq!(last_event(&mut goes), 3);
    assert_eq!(attentions(&mut stays, 1), []);
    assert_eq!(house.connect().try_login(&Login::normal(ONE).initiator(second)), Err(NOT_FOUND));
    // The rule is another one that fits as well: nobody notices.
    house.add(house.target(ONE, vec![rule("everybody", &units)]));
    assert_eq!(house.session(&stays).rule, "everybody");
    attentions(&mut log_in(second), 1);
    assert_eq!(attentions(&mut stays, 1), []);
}

#[test]
fn accounts_change_under_who_has_shown_them() {
    let house = House::new();
    let units = map(&[(1, &unit(1))]);
    let with = |accounts: Vec<Account>| {
        let chap = (!accounts.is_empty()).then_some(Accounts { accounts, own: None });
        house.door.targets().with(house.target(ONE, vec![Rule { chap, ..rule("all", &units) }]))
    };
    house
        .change(with(vec![account("alice", "alice-secret-12"), account("bob", "bob-secret-1234")]), Sessions::Spare)
        .unwrap();
    let log_in = |isid: u8, user: &str, secret: &str| {
        let mut client = house.connect();
        let answer = client.chap_login(&Login::normal(ONE).isid(isid), &Chap::new(user, secret));
        answer.map(|_| client)
    };
    let mut alice = log_in(1, "alice", "alice-secret-12").unwrap();
    attentions(&mut alice, 1);
    // Another secret is for the next login.
    house
        .change(with(vec![account("alice", "alices-new-secret"), account("bob", "bob-secret-1234")]), Sessions::Spare)
        .unwrap();
    assert_eq!(log_in(2, "alice", "alice-secret-12").err(), Some(Refused::Status(2, 1)));
    attentions(&mut log_in(2, "alice", "alices-new-secret").unwrap_or_else(|why| panic!("{why:?}")), 1);
    assert_eq!(attentions(&mut alice, 1), []);
    let disturbed = house.change(with(vec![account("bob", "bob-secret-1234")]), Sessions::Spare).unwrap_err();
    assert!(disturbed.iter().all(|one| matches!(one.how, Disturbed::Dropped(NoAccess::Account { .. }))));
    house.change(with(vec![account("bob", "bob-secret-1234")]), Sessions::Disturb).unwrap();
    assert_eq!(last_event(&mut alice), 3);
    let mut bob = log_in(1, "bob", "bob-secret-1234").unwrap();
    attentions(&mut bob, 1);
    // Nobody has to show anything; and then again.
    house.change(with(Vec::new()), Sessions::Spare).unwrap();
    let mut open = house.client(ONE, 3);
    attentions(&mut open, 1);
    house.change(with(vec![account("bob", "bob-secret-1234")]), Sessions::Spare).unwrap();
    assert_eq!((attentions(&mut open, 1), attentions(&mut bob, 1)), (Vec::new(), Vec::new()));
    assert!(house.connect().try_login(&Login::normal(ONE)).is_err());
}

#[test]
fn a_login_under_way_is_judged_by_what_is_served_when_it_is_complete() {
    let house = House::new();
    let (disk, other) = (unit(1), unit(2));
    let chap = || Some(Accounts { accounts: vec![account("alice", "alice-secret-12")], own: None });
    let with = |units: &Arc<LunMap>| house.target(ONE, vec![Rule { chap: chap(), ..rule("all", units) }]);
    house.add(with(&map(&[(1, &disk)])));
    let mut storm = Vec::new();
    for isid in 0..8 {
        let address = house.address;
        storm.push(std::thread::spawn(move || {
            let mut client = Client::connect(address);
            let login = Login::normal(ONE).isid(isid);
            client.chap_login(&login, &Chap::new("alice", "alice-secret-12")).map(|_| client).ok()
        }));
    }
    house.change(house.door.targets().with(with(&map(&[(2, &other)]))), Sessions::Disturb).unwrap();
    let clients: Vec<Client> = storm.into_iter().filter_map(|login| login.join().unwrap()).collect();
    assert!(!clients.is_empty(), "{:?}", house.door.view().refusals);
    house.runtime.block_on(disk.retire()).unwrap();
    for mut client in clients {
        assert_eq!(client.execute(&Command::test_unit_ready().at(1)).condition(), Some(NOT_SUPPORTED));
        attentions(&mut client, 2);
        client.good(&Command::read(0, 1).at(2));
    }
    assert_eq!(Arc::strong_count(&disk), 1, "whichever came when, none has the old unit");
}

#[test]
fn a_portal_opens_closes_and_can_be_opened_again_at_once() {
    let house = House::new();
    house.add(house.target_of(ONE, vec![rule("all", &map(&[(1, &unit(1))]))], &[1, 2]));
    let mut first = house.client(ONE, 1);
    attentions(&mut first, 1);
    for round in 0..20 {
        let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = house.runtime.block_on(async { house.door.open_portal(listener, 2) }).unwrap();
        assert!(house.door.listening().contains(&(address, 2)));
        let taken = bind(address, false).err().map(|error| error.kind());
        assert_eq!(taken, Some(std::io::ErrorKind::AddrInUse), "two never share an address");
        let mut client = Client::connect(address);
        client.login(&Login::normal(ONE).isid(2));
        attentions(&mut client, 1);
        let session = house.session(&client);
        assert_eq!(session.portal_group, 2);
        let there = house.runtime.block_on(house.door.sessions_at(address));
        assert_eq!(there, [(session.tsih, 1)]);
        assert!(house.runtime.block_on(house.door.close_portal(address)), "{round}");
        assert!(std::net::TcpStream::connect(address).is_err());
        assert_eq!(attentions(&mut client, 1), [], "who has come stays");
        let again = bind(address, false).expect("the address is free at once");
        house.runtime.block_on(async { house.door.open_portal(again, 1) }).unwrap();
        assert!(house.door.regroup_portal(address, 2));
        let mut other = Client::connect(address);
        other.login(&Login::normal(ONE).isid(3));
        attentions(&mut other, 1);
        assert_eq!(house.session(&other).portal_group, 2);
        client.logout();
        other.logout();
        assert!(house.runtime.block_on(house.door.close_portal(address)));
        assert!(!house.runtime.block_on(house.door.close_portal(address)) && !house.door.regroup_portal(address, 1));
    }
    assert_eq!(attentions(&mut first, 1), []);
}

#[test]
fn a_target_that_leaves_a_portal_group_drops_who_came_by_it() {
    let house = House::new();
    let units = map(&[(1, &unit(1))]);
    house.add(house.target(ONE, vec![rule("all", &units)]));
    let mut client = house.client(ONE, 1);
    let next = || house.door.targets().with(house.target_of(ONE, vec![rule("all", &units)], &[2]));
    let disturbed = house.change(next(), Sessions::Spare).unwrap_err();
    assert_eq!(disturbed[0].how, Disturbed::Dropped(NoAccess::PortalGroup(1)));
    house.change(next(), Sessions::Disturb).unwrap();
    assert_eq!(last_event(&mut client), 3);
}

#[test]
fn ses_08_a_session_is_dropped_by_hand_and_may_come_again() {
    let house = House::new();
    house.add(house.target(ONE, vec![rule("all", &map(&[(1, &unit(1))]))]));
    let mut client = house.client(ONE, 1);
    let mut other = house.client(ONE, 2);
    attentions(&mut other, 1);
    let session = house.session(&client);
    assert_eq!((session.target.as_str(), session.initiator.as_str()), (ONE, "iqn.2026-01.org.example:client"));
    assert_eq!((session.isid[5], session.rule.as_str(), &session.luns[..]), (1, "all", &[1][..]));
    assert!(session.max_cmd_sn.wrapping_sub(session.exp_cmd_sn) < 1 << 16);
    let [connection] = &session.connections[..] else { panic!("one connection") };
    assert_eq!((connection.cid, connection.local), (1, house.address));
    assert!(connection.stat_sn.wrapping_sub(connection.exp_stat_sn) < 16);
    assert!(house.runtime.block_on(house.door.drop_session(session.tsih)));
    assert_eq!(last_event(&mut client), 3);
    assert!(!house.runtime.block_on(house.door.drop_session(session.tsih)), "it is gone");
    house.client(ONE, 1).logout();
    assert_eq!(attentions(&mut other, 1), []);
}

fn lead(house: &House, level: u8) -> (Client, Client) {
    let login = || Login::normal(ONE).key("MaxConnections", 4).key("ErrorRecoveryLevel", level);
    let mut leader = house.connect();
    leader.login(&login());
    attentions(&mut leader, 1);
    let mut two = house.connect();
    two.share(&mut leader, 2);
    two.login(&Login::normal(ONE).joining(&leader, 2));
    two.ping(b"");
    (leader, two)
}

#[test]
fn one_connection_of_several_is_closed() {
    let house = House::new();
    house.add(house.target(ONE, vec![rule("all", &map(&[(1, &unit(1))]))]));
    // An initiator that logs out when it is asked to, at level 0.
    let (mut leader, mut two) = lead(&house, 0);
    let tsih = leader.agreed().tsih;
    let polite = std::thread::spawn(move || {
        let (message, _) = two.expect::<AsyncMessage>();
        assert_eq!(message.event, 1, "it is asked to log out");
        let mut header = two.logout_header(1);
        header.cid = 2.into();
        two.send(&sim::Frame::new(header, &[]));
        two.expect_closed();
    });
    assert_eq!(house.runtime.block_on(house.door.close_connection(tsih, 2)), Closed::Connection);
    polite.join().unwrap();
    leader.good(&Command::write(0, &[1; 512]).at(1));
    assert_eq!(house.session(&leader).connections.len(), 1);
    assert_eq!(house.runtime.block_on(house.door.close_connection(tsih, 7)), Closed::Absent);
    // The only one takes the session with it.
    assert_eq!(house.runtime.block_on(house.door.close_connection(tsih, 1)), Closed::Session);
    assert_eq!(last_event(&mut leader), 3);
}

#[test]
fn a_connection_that_is_not_logged_out_stays_below_level_2_and_goes_at_level_2() {
    let house = House::new();
    house.add(house.target(ONE, vec![rule("all", &map(&[(1, &unit(1))]))]));
    let (mut leader, mut two) = lead(&house, 0);
    let tsih = leader.agreed().tsih;
    assert_eq!(house.runtime.block_on(house.door.close_connection(tsih, 2)), Closed::Stays);
    let (message, _) = two.expect::<AsyncMessage>();
    assert_eq!(message.event, 1);
    two.good(&Command::write(0, &[1; 512]).at(1));
    leader.logout();
    let (mut leader, mut two) = lead(&house, 2);
    let tsih = leader.agreed().tsih;
    assert_eq!(house.runtime.block_on(house.door.close_connection(tsih, 2)), Closed::Connection);
    let events: Vec<_> =
        two.expect_closed().iter().filter_map(|frame| frame.view::<AsyncMessage>().map(|one| one.event)).collect();
    assert_eq!(events, [1, 2]);
    let (message, _) = leader.expect::<AsyncMessage>();
    assert_eq!((message.event, message.parameter_1.get()), (2, 2), "the others hear of it");
    leader.good(&Command::write(0, &[1; 512]).at(1));
    assert_eq!(house.session(&leader).recovering, [2]);
}

#[test]
fn a_disk_is_resized_under_load_and_goes_offline_and_back() {
    let house = House::new();
    let disk = unit(1);
    house.add(house.target(ONE, vec![rule("all", &map(&[(1, &disk)]))]));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (1..=3u8)
        .map(|isid| {
            let (mut client, stop) = (house.client(ONE, isid), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (mut done, mut attended, mut away) = (0u32, 0u32, 0u32);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let data = [done as u8; 4096];
                    let at = u32::from(isid) * 64;
                    let written = client.execute(&Command::write(at, &data).at(1));
                    match written.condition() {
                        None => {
                            let read = client.execute(&Command::read(at, 8).at(1));
                            if read.is_good() {
                                assert!(read.data == data, "what was written is read");
                                done += 1;
                            }
                        }
                        Some(Condition(6, ..)) => attended += 1,
                        Some(Condition(2, 0x04, 0x03)) => away += 1,
                        Some(Condition(7, 0x27, 0)) => away += 1,
                        Some(other) => panic!("{other:?}"),
                    }
                }
                client.logout();
                (done, attended, away)
            })
        })
        .collect();
    house.runtime.block_on(async {
        for round in 0..30u64 {
            let bytes = if round % 2 == 0 { 1 << 20 } else { 2 << 20 };
            target::resize(&disk, bytes).await.unwrap();
            disk.take_offline().await.unwrap();
            assert!(!disk.standing().online);
            disk.bring_online();
            disk.set_read_only(true).await.unwrap();
            disk.set_read_only(false).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(target::resize(&disk, 1000).await.is_err());
    });
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in load {
        let (done, attended, away) = client.join().unwrap();
        assert!(done > 10 && attended > 10, "{done} {attended} {away}");
    }
}
