//! Faults of networks and initiators under the oracle against the real binary (reliability.md section 6,
//! F07 and F31 to F35): a block holds its last acknowledged write or a later one, and nothing of a dead session
//! or of a fenced initiator lands later.

use sim::daemon::{Folder, TARGET};
use sim::oracle::Shadow;
use sim::proxy::{Action, Direction, Plan, Proxy};
use sim::raw::{Client, Command, Condition, Ended, Login};
use sim::{Daemon, Random, Refused};
use std::net::SocketAddr;
use std::time::Duration;

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const BLOCKS: u64 = 4096;
const CONFLICT: u8 = 0x18;

fn file_daemon() -> (Daemon, Folder) {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=2M", folder.file("disk.img"))]);
    (daemon, folder)
}

fn session(address: SocketAddr, isid: u8) -> Client {
    let mut client = Client::connect(address);
    client.login(&Login::normal(TARGET).isid(isid));
    client.take_attentions();
    client
}

/// Reads these blocks over a session of its own and judges them.
fn judge(daemon: &Daemon, shadow: &mut Shadow, lba: u64, blocks: u16) {
    let mut client = session(daemon.address(), 0xee);
    let data = client.good(&Command::read(lba as u32, blocks));
    shadow.check(lba, &data).unwrap();
    client.logout();
}

/// A login, a write with its data in the command, one that is asked for, and a read; until something ends it.
fn conversation(address: SocketAddr, shadow: &mut Shadow, lba: u64) -> Result<(), Ended> {
    let mut client = Client::connect(address);
    match client.try_login(&Login::normal(TARGET)) {
        Ok(_) => {}
        Err(Refused::Ended(ended)) => return Err(ended),
        Err(refused) => panic!("{refused:?}"),
    }
    for _ in 0..2 {
        let tag = client.start(&Command::test_unit_ready());
        client.try_finish(tag)?;
    }
    for solicited in [false, true] {
        let (issued, data) = shadow.issue(lba, 2);
        let command = Command::write(lba as u32, &data);
        let tag = client.start(&if solicited { command.solicited() } else { command });
        let answer = client.try_finish(tag)?;
        assert!(answer.is_good(), "{answer:?}");
        shadow.acknowledged(&issued);
    }
    let tag = client.start(&Command::read(lba as u32, 2));
    let answer = client.try_finish(tag)?;
    assert!(answer.is_good(), "{answer:?}");
    shadow.check(lba, &answer.data).unwrap();
    Ok(())
}

#[test]
fn f07_a_session_that_is_cut_at_every_byte_executes_no_partial_pdu_and_leaves_nothing() {
    let (daemon, _folder) = file_daemon();
    let mut shadow = Shadow::default();
    let whole = Proxy::start(daemon.address(), Vec::new());
    conversation(whole.address(), &mut shadow, 0).unwrap();
    let lengths = [Direction::ToTarget, Direction::ToInitiator].map(|direction| (direction, whole.passed(direction)));
    drop(whole);
    let before = daemon.descriptors().unwrap();
    let actions = [Action::Reset, Action::Close, Action::HalfClose];
    let plans: Vec<Plan> = lengths
        .iter()
        .flat_map(|(direction, length)| (0..*length).map(|at| (*direction, at)))
        .enumerate()
        .map(|(number, (direction, at))| Plan::fault(direction, at, actions[number % actions.len()]))
        .collect();
    let count = plans.len();
    assert!(count > 2500, "{lengths:?}");
    let proxy = Proxy::start(daemon.address(), plans);
    let mut ended = 0;
    for number in 0..count {
        let lba = number as u64 % 64 * 2;
        ended += usize::from(conversation(proxy.address(), &mut shadow, lba).is_err());
        if number % 64 == 63 {
            judge(&daemon, &mut shadow, 0, 128);
        }
    }
    // The last bytes belong to a status that was understood before.
    assert!(ended + 16 > count, "only {ended} of {count} were cut");
    judge(&daemon, &mut shadow, 0, 128);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while daemon.descriptors().unwrap() > before + 4 {
        assert!(std::time::Instant::now() < end, "{} descriptors, {before} before", daemon.descriptors().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn reserve_out(action: u8, kind: u8, key: u64, other: u64, aptpl: u8) -> Command {
    let list = [&key.to_be_bytes()[..], &other.to_be_bytes(), &[0, 0, 0, 0, aptpl, 0, 0, 0]].concat();
    Command::writing(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
}

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
/// Write Exclusive, Registrants Only.
const REGISTRANTS: u8 = 5;

/// PRGENERATION and the registered keys.
fn keys(client: &mut Client) -> (u32, Vec<u64>) {
    let data = client.good(&Command::reading(&[0x5e, 0, 0, 0, 0, 0, 0, 0x10, 0, 0], 4096));
    let generation = u32::from_be_bytes(data[..4].try_into().unwrap());
    let keys = data[8..].chunks_exact(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect();
    (generation, keys)
}

#[test]
fn f31_nothing_of_a_preempted_initiator_lands_behind_the_preemption() {
    let daemon = Daemon::start(LUNETTE, &["ram:2M"]);
    let mut survivor = session(daemon.address(), 2);
    survivor.good(&reserve_out(REGISTER, 0, 0, 2, 0));
    for round in 0..50u8 {
        let mut victim = session(daemon.address(), 1);
        victim.good(&reserve_out(REGISTER_AND_IGNORE, 0, 0, 1, 0));
        victim.good(&reserve_out(RESERVE, REGISTRANTS, 1, 0, 0));
        // It stops with a write whose data was asked for, one whose data is on its way, and some that wait.
        victim.hold_data = true;
        victim.start(&Command::write(8, &[round | 0x80; 4096]).solicited());
        let (asked, _) = victim.expect::<iscsi::wire::ReadyToTransfer>();
        for at in 0..4 {
            victim.start(&Command::write(16 + at * 8, &[round | 0x80; 4096]));
        }
        survivor.good(&reserve_out(PREEMPT_AND_ABORT, REGISTRANTS, 2, 1, 0));
        // What the survivor writes now is what stays.
        for at in 0..5 {
            survivor.good(&Command::write(8 + at * 8, &[round; 4096]));
        }
        // The victim goes on where it was stopped.
        victim.answer_ready_to_transfer(&asked);
        victim.hold_data = false;
        let late = victim.start(&Command::write(8, &[0xff; 512]));
        match victim.try_finish(late) {
            // The loss of its registration comes first (SPC-5 5.14.11.2.3), then the conflict.
            Ok(answer) if answer.status == 2 => {
                assert_eq!(answer.condition(), Some(Condition(6, 0x2a, 5)), "round {round}");
                assert_eq!(victim.execute(&Command::write(8, &[0xff; 512])).status, CONFLICT);
            }
            Ok(answer) => assert_eq!(answer.status, CONFLICT, "round {round}: {answer:?}"),
            Err(ended) => panic!("round {round}: {ended:?}"),
        }
        assert!(survivor.good(&Command::read(8, 40)).iter().all(|byte| *byte == round), "round {round}");
        survivor.good(&reserve_out(2, REGISTRANTS, 2, 0, 0));
        victim.capture = sim::Capture::default();
    }
}

#[test]
fn f31_of_two_who_preempt_at_once_exactly_one_wins() {
    let daemon = Daemon::start(LUNETTE, &["ram:2M"]);
    let mut victim = session(daemon.address(), 1);
    let mut rivals = [session(daemon.address(), 2), session(daemon.address(), 3)];
    for round in 0..40u32 {
        victim.good(&reserve_out(REGISTER_AND_IGNORE, 0, 0, 1, 0));
        victim.good(&reserve_out(RESERVE, REGISTRANTS, 1, 0, 0));
        for (key, rival) in (2..).zip(&mut rivals) {
            rival.good(&reserve_out(REGISTER_AND_IGNORE, 0, 0, key, 0));
        }
        let tags: Vec<u32> = (2..)
            .zip(&mut rivals)
            .map(|(key, rival)| rival.start(&reserve_out(PREEMPT, REGISTRANTS, key, 1, 0)))
            .collect();
        let outcomes: Vec<u8> = tags.iter().zip(&mut rivals).map(|(tag, rival)| rival.finish(*tag).status).collect();
        let mut sorted = outcomes.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, CONFLICT], "round {round}");
        let (_, mut registered) = keys(&mut rivals[0]);
        registered.sort_unstable();
        assert_eq!(registered, [2, 3], "round {round}");
        let holder = rivals[0].good(&Command::reading(&[0x5e, 1, 0, 0, 0, 0, 0, 0, 64, 0], 64));
        let winner = if outcomes[0] == 0 { 2 } else { 3 };
        assert_eq!(holder[8..16], u64::to_be_bytes(winner), "round {round}");
        let at = winner as usize - 2;
        rivals[at].good(&reserve_out(3, REGISTRANTS, winner, 0, 0));
        for client in rivals.iter_mut().chain([&mut victim]) {
            client.take_attentions();
        }
    }
}

#[test]
fn f32_reservations_outlive_a_sigkill_where_that_was_asked_for_and_only_there() {
    let folder = Folder::new();
    let store = format!("{},size=2M", folder.file("disk.img"));
    let mut daemon = Daemon::start(LUNETTE, &[&store]);
    // More registrants than any table of a fixed size has room for (CVE-2025-57275).
    let count = 40u8;
    for aptpl in [1, 0, 1] {
        let mut clients: Vec<Client> = (0..count).map(|isid| session(daemon.address(), isid)).collect();
        for (client, key) in clients.iter_mut().zip(1..) {
            client.good(&reserve_out(REGISTER_AND_IGNORE, 0, 0, key, aptpl));
        }
        clients[0].good(&reserve_out(RESERVE, REGISTRANTS, 1, 0, 0));
        let (generation, mut registered) = keys(&mut clients[0]);
        registered.sort_unstable();
        assert_eq!(registered, (1..=u64::from(count)).collect::<Vec<_>>());
        assert!(generation >= u32::from(count));
        for client in &mut clients {
            client.capture = sim::Capture::default();
        }
        daemon.kill();
        drop(clients);
        daemon.restart();
        let mut stranger = Client::connect(daemon.address());
        stranger.login(&Login::normal(TARGET).isid(200));
        let attentions = stranger.take_attentions();
        assert_eq!(attentions.first().map(|condition| (condition.0, condition.1)), Some((6, 0x29)), "power on");
        let (generation, mut registered) = keys(&mut stranger);
        registered.sort_unstable();
        let write = stranger.execute(&Command::write(0, &[1; 512])).status;
        if aptpl == 1 {
            assert_eq!(registered, (1..=u64::from(count)).collect::<Vec<_>>(), "restored");
            assert_eq!(write, CONFLICT);
            let mut holder = session(daemon.address(), 0);
            holder.good(&Command::write(0, &[2; 512]));
            holder.good(&reserve_out(3, REGISTRANTS, 1, 0, 0));
        } else {
            assert_eq!((registered, write), (vec![], 0), "nothing was to be kept");
        }
        assert_eq!(generation, 0, "the generation begins anew (SPC-5 6.16.2)");
    }
}

#[test]
fn f33_a_write_whose_status_was_lost_never_lands_behind_a_newer_one() {
    let (daemon, _folder) = file_daemon();
    let (mut shadow, mut random) = (Shadow::default(), Random::new(33));
    let mut lost = 0;
    // How many bytes come back until the first write is answered.
    let measured = Proxy::start(daemon.address(), Vec::new());
    let mut client = session(measured.address(), 1);
    let quiet = measured.passed(Direction::ToInitiator);
    client.logout();
    drop(measured);
    for round in 0..24u64 {
        // The answers: an R2T or two, then the status. Somewhere in them the connection ends.
        let at = quiet + round * 7 % 200;
        let action = if round % 2 == 0 { Action::Reset } else { Action::Close };
        let proxy = Proxy::start(daemon.address(), vec![Plan::fault(Direction::ToInitiator, at, action)]);
        let mut client = session(proxy.address(), 1);
        let (lba, blocks) = (random.below(BLOCKS - 1024), 512 + random.below(512));
        let (old, data) = shadow.issue(lba, blocks);
        let tag = client.start(&Command::write(lba as u32, &data).forced());
        let outcome = client.try_finish(tag);
        if outcome.as_ref().is_ok_and(|answer| answer.is_good()) {
            shadow.acknowledged(&old);
        }
        lost += u32::from(outcome.is_err());
        client.capture = sim::Capture::default();
        // The same port again: the old session is dead before this login has succeeded (SES-01).
        let mut again = Client::connect(daemon.address());
        again.login(&Login::normal(TARGET).isid(1));
        let (new, data) = shadow.issue(lba, blocks);
        // Unit attentions, of which there may be two, are no refusal.
        while !again.execute(&Command::write(lba as u32, &data)).is_good() {}
        shadow.acknowledged(&new);
        for _ in 0..3 {
            shadow.check(lba, &again.good(&Command::read(lba as u32, blocks as u16))).unwrap();
        }
        drop(again);
        judge(&daemon, &mut shadow, lba, blocks as u16);
    }
    assert!(lost >= 8, "only {lost} of 24 lost their status");
}

#[test]
fn f34_what_lingers_in_a_half_open_session_never_executes_behind_its_reinstatement() {
    let (daemon, _folder) = file_daemon();
    let mut shadow = Shadow::default();
    let measured = Proxy::start(daemon.address(), Vec::new());
    let mut client = session(measured.address(), 1);
    let quiet = measured.passed(Direction::ToTarget);
    client.logout();
    drop(measured);
    // In the header of the first write, in its data, and in what is queued behind it.
    for (round, behind) in [10, 48, 1000, 4096, 5000, 20_000].into_iter().enumerate() {
        let stall = Action::Stall(Duration::from_millis(600));
        let proxy = Proxy::start(daemon.address(), vec![Plan::fault(Direction::ToTarget, quiet + behind, stall)]);
        let mut old = session(proxy.address(), 1);
        let lba = round as u64 * 64;
        for at in 0..8 {
            let (_unknown, data) = shadow.issue(lba + at * 8, 8);
            old.start(&Command::write((lba + at * 8) as u32, &data));
        }
        let mut new = session(daemon.address(), 1);
        for at in 0..8 {
            let (issued, data) = shadow.issue(lba + at * 8, 8);
            new.good(&Command::write((lba + at * 8) as u32, &data));
            shadow.acknowledged(&issued);
        }
        // The black hole gives back what it held.
        std::thread::sleep(Duration::from_millis(900));
        shadow.check(lba, &new.good(&Command::read(lba as u32, 64))).unwrap();
        old.capture = sim::Capture::default();
    }
}

#[test]
fn f35_compare_and_write_on_four_paths_that_fail_loses_and_doubles_no_increment() {
    let (daemon, _folder) = file_daemon();
    let address = daemon.address();
    let paths: Vec<_> = (0..4u8).map(|path| std::thread::spawn(move || count_up(address, path))).collect();
    let (mut acknowledged, mut unknown) = (0, 0);
    for path in paths {
        let (sure, unsure) = path.join().expect("a path that keeps the rules");
        acknowledged += sure;
        unknown += unsure;
    }
    let mut client = session(address, 0xee);
    let data = client.good(&Command::read(0, 1));
    let count = u64::from_be_bytes(data[..8].try_into().unwrap());
    assert!(acknowledged >= 40, "{acknowledged} increments");
    assert!(unknown > 0, "no path has failed");
    assert!((acknowledged..=acknowledged + unknown).contains(&count), "{count}: {acknowledged} and {unknown} unknown");
}

/// Increments the number in block 0 over one path that is cut now and then: how many increments were
/// acknowledged, and of how many nobody knows.
fn count_up(address: SocketAddr, path: u8) -> (u64, u64) {
    let mut random = Random::new(u64::from(path));
    let (mut acknowledged, mut unknown) = (0, 0);
    for _ in 0..12 {
        let at = 700 + random.below(9000);
        let plan = Plan { piece_bytes: 700, seed: at, ..Plan::fault(Direction::ToInitiator, at, Action::Reset) };
        let proxy = Proxy::start(address, vec![plan]);
        let mut client = Client::connect(proxy.address());
        if client.try_login(&Login::normal(TARGET).isid(path)).is_err() {
            client.capture = sim::Capture::default();
            continue;
        }
        for _ in 0..30 {
            let tag = client.start(&Command::read(0, 1));
            let Ok(read) = client.try_finish(tag) else { break };
            if !read.is_good() {
                continue;
            }
            let old = u64::from_be_bytes(read.data[..8].try_into().unwrap());
            let mut new = read.data.clone();
            new[..8].copy_from_slice(&(old + 1).to_be_bytes());
            let mut cdb = [0u8; 16];
            (cdb[0], cdb[13]) = (0x89, 1);
            let tag = client.start(&Command::writing(&cdb, &[read.data, new].concat()));
            match client.try_finish(tag) {
                Ok(answer) if answer.is_good() => acknowledged += 1,
                // Another path was first, which is seen exactly.
                Ok(answer) => {
                    let condition = answer.condition();
                    assert!(matches!(condition, Some(Condition(0x0e, 0x1d, 0) | Condition(6, ..))), "{answer:?}");
                }
                Err(_) => {
                    unknown += 1;
                    break;
                }
            }
        }
        client.capture = sim::Capture::default();
    }
    (acknowledged, unknown)
}
