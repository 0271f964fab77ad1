//! Several portal groups against the real binary: discovery, the groups' states and who changes them
//! (RFC 7143 §4.4, §13.9; SPC-5 5.16.2).

use scsi::port_groups::{self, AccessState};
use sim::Daemon;
use sim::daemon::{Folder, TARGET, free_address};
use sim::raw::{Client, Command, Condition, Login, Refused};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const CHANGED: Condition = Condition(0x06, 0x2a, 0x06);
const STANDBY: Condition = Condition(0x02, 0x04, 0x0b);
const UNAVAILABLE: Condition = Condition(0x02, 0x04, 0x0c);

/// Group 1 at the daemon's own address, active/optimized; group 20 at the other, not optimized. Each session
/// is on another worker.
fn two_groups(more: &[&str]) -> (Daemon, SocketAddr) {
    let second = free_address();
    let listen = format!("{second},group=20,state=non-optimized");
    let mut arguments = vec!["--threads", "2", "--listen", &listen];
    arguments.extend_from_slice(more);
    (Daemon::start_with(LUNETTE, &["ram:16M", "ram:1M"], &arguments, &[]), second)
}

fn session(portal: SocketAddr) -> Client {
    let mut client = Client::connect(portal);
    client.login(&Login::normal(TARGET));
    // The power on, of each unit; whatever the port lets through.
    for unit in [1, 2] {
        assert_eq!(client.execute(&Command::test_unit_ready().at(unit)).condition().map(|one| one.0), Some(6));
    }
    client
}

/// Group, state and status code of all groups.
fn report(client: &mut Client) -> Vec<(u16, u8, u8)> {
    let data = client.good(&Command::reading(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], 255));
    let groups = port_groups::parse(&data).unwrap();
    assert!(groups.iter().all(|group| group.ports == [group.number]));
    groups.iter().map(|group| (group.number, group.state, group.cause)).collect()
}

fn set(client: &mut Client, group: u16, state: AccessState) {
    let [high, low] = group.to_be_bytes();
    let list = [0, 0, 0, 0, state as u8, 0, high, low];
    client.good(&Command::writing(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &list));
}

fn ready(client: &mut Client) -> Option<Condition> {
    client.execute(&Command::test_unit_ready()).condition()
}

/// TEST UNIT READY until its condition is this one, which a change by file takes a second for.
fn wait_for(client: &mut Client, wanted: Option<Condition>) {
    let end = Instant::now() + Duration::from_secs(15);
    while ready(client) != wanted {
        assert!(Instant::now() < end, "{wanted:?} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn dsc_02_nam_07_each_address_has_the_tag_of_its_group_and_each_login_that_of_its_portal() {
    let (daemon, second) = two_groups(&[]);
    let first = daemon.address();
    let all = format!("TargetName={TARGET}\0TargetAddress={first},1\0TargetAddress={second},20\0");
    for (portal, tag) in [(first, 1), (second, 20)] {
        let mut client = Client::connect(portal);
        client.login(&Login::discovery());
        assert_eq!(String::from_utf8(client.text(b"SendTargets=All\0")).unwrap(), all);
        client.logout();
        let mut client = Client::connect(portal);
        let answers = client.login(&Login::normal(TARGET));
        assert!(answers.contains(&format!("TargetPortalGroupTag={tag}\n")), "{answers}");
        assert_eq!(String::from_utf8(client.text(b"SendTargets=\0")).unwrap(), all);
        let page = client.good(&Command::inquiry(Some(0x83)));
        let names = scsi::vpd::designation::parse(&page).unwrap();
        let name = format!("{TARGET},t,0x{tag:04x}");
        assert!(names.iter().any(|one| one.name() == Some(&name)), "{names:?}");
        client.logout();
    }
}

#[test]
fn ses_01_one_isid_at_two_groups_is_two_sessions_with_registrations_of_their_own() {
    let (daemon, second) = two_groups(&[]);
    let mut one = session(daemon.address());
    let mut two = session(second);
    assert_eq!((ready(&mut one), ready(&mut two)), (None, None), "neither has taken the other's place");
    let register = |client: &mut Client, key: u8| {
        let list = [[0; 8], [0, 0, 0, 0, 0, 0, 0, key], [0; 8]].concat();
        client.good(&Command::writing(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list));
    };
    register(&mut one, 1);
    register(&mut two, 2);
    // READ KEYS: one for each nexus, although name and ISID are the same.
    let keys = one.good(&Command::reading(&[0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0], 256));
    assert_eq!(keys[4..8], [0, 0, 0, 16]);
    // A connection cannot join the session of another group.
    let login = Login { tsih: 1, ..Login::normal(TARGET) };
    let other = Client::connect(second).try_login(&login);
    assert_eq!(other.unwrap_err(), Refused::Status(2, 0x0a));
}

#[test]
fn spc_11_a_state_set_by_one_initiator_holds_for_all_until_the_restart() {
    let (mut daemon, second) = two_groups(&[]);
    let (mut one, mut two) = (session(daemon.address()), session(second));
    assert_eq!(report(&mut one), [(1, 0, 0), (20, 1, 0)]);
    set(&mut two, 1, AccessState::Standby);
    assert_eq!(ready(&mut one), Some(CHANGED));
    assert_eq!(ready(&mut one), Some(STANDBY));
    assert_eq!(one.execute(&Command::write(0, &[7; 512])).condition(), Some(STANDBY));
    assert_eq!(one.execute(&Command::test_unit_ready().at(2)).condition(), Some(CHANGED));
    assert_eq!(one.execute(&Command::test_unit_ready().at(2)).condition(), Some(STANDBY));
    assert_eq!(two.execute(&Command::test_unit_ready().at(2)).condition(), Some(CHANGED), "told at the other unit");
    assert_eq!(ready(&mut two), None);
    two.good(&Command::write(0, &[9; 512]));
    assert_eq!(report(&mut one), [(1, 2, 1), (20, 1, 0)], "explicit");
    one.good(&Command::read_capacity());
    set(&mut one, 1, AccessState::ActiveOptimized);
    assert_eq!(one.good(&Command::read(0, 1)), [9; 512]);
    assert_eq!(ready(&mut two), Some(CHANGED));
    set(&mut two, 1, AccessState::Unavailable);
    assert_eq!((ready(&mut one), ready(&mut one)), (Some(CHANGED), Some(UNAVAILABLE)));
    drop((one, two));
    assert!(daemon.terminate().success());
    daemon.restart();
    assert_eq!(report(&mut session(daemon.address())), [(1, 0, 0), (20, 1, 0)], "as it was configured");
}

#[test]
fn spc_11_a_file_moves_the_states_while_it_serves_and_an_error_in_it_changes_nothing() {
    let folder = Folder::new();
    let file = folder.file("states");
    std::fs::write(&file, "1 optimized\n20 standby  # the other node\n").unwrap();
    let (daemon, second) = two_groups(&["--access-states", &file]);
    let replace = |text: &str| {
        std::fs::write(folder.file("new"), text).unwrap();
        std::fs::rename(folder.file("new"), &file).unwrap();
    };
    let (mut one, mut two) = (session(daemon.address()), session(second));
    assert_eq!(report(&mut one), [(1, 0, 0), (20, 2, 0)], "the file stands above the options");
    assert_eq!(ready(&mut two), Some(STANDBY));
    replace("1 standby\n20 optimized\n");
    wait_for(&mut two, Some(CHANGED));
    assert_eq!(ready(&mut two), None);
    assert_eq!((ready(&mut one), ready(&mut one)), (Some(CHANGED), Some(STANDBY)));
    assert_eq!(report(&mut one), [(1, 2, 2), (20, 0, 2)], "implicit");
    replace("1 optimized\n2 optimized\n");
    let end = Instant::now() + Duration::from_secs(15);
    while !daemon.log().contains("states:2: '2' is no portal group") {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(report(&mut one), [(1, 2, 2), (20, 0, 2)], "nothing of a wrong file is done");
    // An initiator may go its own way until the file is written again.
    set(&mut one, 1, AccessState::ActiveNonOptimized);
    assert_eq!(ready(&mut two), Some(CHANGED));
    replace("1 unavailable\n");
    wait_for(&mut one, Some(CHANGED));
    assert_eq!(ready(&mut one), Some(UNAVAILABLE));
    assert_eq!(report(&mut one), [(1, 3, 2), (20, 0, 2)], "a group that is not named keeps its state");
    assert_eq!(daemon.log().matches("is no portal group").count(), 1, "told once");
}

#[test]
fn spc_11_where_only_the_target_changes_states_the_file_still_does() {
    let folder = Folder::new();
    let file = folder.file("states");
    std::fs::write(&file, "").unwrap();
    let (daemon, second) = two_groups(&["--access-states", &file, "--access-management", "implicit"]);
    let mut client = session(second);
    let list = [0, 0, 0, 0, 0, 0, 0, 20];
    let refused = client.execute(&Command::writing(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &list));
    assert_eq!(refused.condition(), Some(Condition(0x05, 0x24, 0x00)));
    let inquiry = scsi::inquiry::parse(&client.good(&Command::inquiry(None))).unwrap();
    assert_eq!(inquiry.target_port_groups, 1);
    std::fs::write(&file, "20 standby\n").unwrap();
    wait_for(&mut client, Some(CHANGED));
    assert_eq!(ready(&mut client), Some(STANDBY));
    assert_eq!(report(&mut session(daemon.address())), [(1, 0, 0), (20, 2, 2)]);
}

#[test]
fn a_target_of_one_group_tells_of_it_and_wrong_options_end_with_one_line() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M", "ram:1M"]);
    assert_eq!(report(&mut session(daemon.address())), [(1, 0, 0)]);
    let folder = Folder::new();
    let states = folder.file("states");
    std::fs::write(&states, "1 standby\n9 standby\n").unwrap();
    let contradiction = ["--listen", "127.0.0.1:0,state=standby", "--listen", "127.0.0.1:0,state=unavailable"];
    let file = ["--listen", "127.0.0.1:0", "--access-states", &states];
    for (arguments, why) in [(contradiction, "group 1 is standby"), (file, "states:2: '9' is no portal group")] {
        let output = std::process::Command::new(LUNETTE).args(["serve", "ram:1M"]).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
}
