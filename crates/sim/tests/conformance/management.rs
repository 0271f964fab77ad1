//! TMF: task management (RFC 7143 §11.5, §11.6; SAM-5 clause 7).

use crate::help::{BLOCKS, Simulated, alone, goes_on, normal, pattern, rejected, session, target};
use block::layer::{Delay, Valve};
use block::pure::Ram;
use iscsi::wire::{RESERVED_TAG, ReadyToTransfer, TaskManagementResponse};
use sim::raw::{Client, Command, Condition};
use sim::world::{Network, Setup, Shared, Wire};
use sim::{Frame, Random};
use std::time::Duration;

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_TASK_SET: u8 = 4;
const LUN_RESET: u8 = 5;
const WARM_RESET: u8 = 6;

/// A WRITE of one block whose data is not sent, and its R2T.
fn held(client: &mut Simulated, lba: u32) -> (u32, ReadyToTransfer) {
    client.hold_data = true;
    let tag = client.start(&Command::write(lba, &[0xbd; 512]).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    client.hold_data = false;
    (tag, asked)
}

/// Sends a function for LUN 1 and returns its tag.
fn ask(client: &mut Simulated, function: u8, referenced: u32, ref_cmd_sn: u32) -> u32 {
    let header = client.task_management_header(function, referenced, ref_cmd_sn);
    client.send(&Frame::new(header, b""));
    header.initiator_task_tag.get()
}

fn answer(client: &mut Simulated, function: u32) -> u8 {
    client.response::<TaskManagementResponse>(function).0.response
}

#[test]
fn tmf_01_abort_task_ends_a_task_or_counts_it_as_received_or_says_that_there_is_none() {
    let mut client = alone(&normal());
    let (tag, asked) = held(&mut client, 0);
    let cmd_sn = client.cmd_sn.wrapping_sub(1);
    assert_eq!(client.task_management(ABORT_TASK, tag, cmd_sn), 0, "it is there");
    // Its data comes late and goes nowhere.
    client.answer_ready_to_transfer(&asked);
    client.forget(tag);
    assert_eq!(client.task_management(ABORT_TASK, tag, cmd_sn), 1, "it was there");
    // Not received, inside the window and below the function's CmdSN.
    let missing = client.take_cmd_sn();
    assert_eq!(client.task_management(ABORT_TASK, 0x6666, missing), 0);
    let next = client.cmd_sn;
    client.cmd_sn = missing;
    let mut late = client.prepare(&Command::write(0, &[0xbd; 512])).remove(0);
    client.forget(late.basic().initiator_task_tag.get());
    late.header[16..20].copy_from_slice(&0x6666u32.to_be_bytes());
    client.send(&late);
    client.cmd_sn = next;
    client.expect_silence(Duration::from_millis(1));
    assert_eq!(client.good(&Command::read(0, 1)), [0; 512], "what comes later is not executed");
    for outside in [client.cmd_sn, client.cmd_sn.wrapping_sub(1), client.cmd_sn.wrapping_add(1 << 30)] {
        assert_eq!(client.task_management(ABORT_TASK, 0x6667, outside), 1, "no such number is missing");
    }
    goes_on(&mut client);
}

#[test]
fn tmf_02_nothing_of_a_task_follows_the_answer_to_the_function_that_ended_it() {
    // The capture complains about whatever comes of a task behind the response that covers it.
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let valve = Valve::open();
        let world = Shared::new(Delay::new(Ram::new(512, BLOCKS), valve.clone()), Some(valve.clone()));
        let network = Network { seed, piece_bytes: 1 + random.size(200), ..Network::default() };
        let mut client = Client::over(world.connect(network));
        client.login(&normal().key("MaxRecvDataSegmentLength", 512).key("MaxBurstLength", 1024));
        client.take_attentions();
        for _ in 0..20 {
            if random.once_in(2) {
                valve.hold();
            } else {
                valve.release_all();
            }
            let first = client.cmd_sn;
            let mut tags = Vec::new();
            for _ in 0..1 + random.size(6) {
                let blocks = 1 + random.size(8);
                tags.push(client.start(&match random.once_in(2) {
                    true => Command::read(random.size(64) as u32, blocks as u16),
                    false => Command::write(random.size(64) as u32, &pattern(blocks * 512, 1)),
                }));
            }
            if random.once_in(3) {
                client.ping(b"");
            }
            match random.size(3) {
                0 => drop(client.task_management(ABORT_TASK_SET, RESERVED_TAG, 0)),
                1 => drop(client.task_management(LUN_RESET, RESERVED_TAG, 0)),
                _ => {
                    for (at, tag) in tags.iter().enumerate() {
                        client.task_management(ABORT_TASK, *tag, first.wrapping_add(at as u32));
                    }
                }
            }
            tags.into_iter().for_each(|tag| client.forget(tag));
            valve.release_all();
            client.take_attentions();
        }
        world.settle();
        assert_eq!((world.tasks(), world.taken_bytes()), (0, 0), "seed {seed}");
    }
}

#[test]
fn tmf_03_a_function_is_no_task_that_could_be_aborted() {
    let mut client = alone(&normal());
    let (tag, asked) = held(&mut client, 0);
    let reset = ask(&mut client, LUN_RESET, RESERVED_TAG, 0);
    let number = client.cmd_sn;
    assert_eq!(client.task_management(ABORT_TASK, reset, number), 255);
    client.answer_ready_to_transfer(&asked);
    assert_eq!(answer(&mut client, reset), 0, "the reset itself goes on");
    client.forget(tag);
    client.take_attentions();
}

#[test]
fn tmf_05_a_function_affects_what_came_before_it_and_waits_for_its_data() {
    for function in [ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET] {
        let target = target();
        let mut client = session(&target, &normal());
        let mut other = session(&target, &normal().isid(7));
        let (tag, asked) = held(&mut client, 0);
        let (theirs, their_r2t) = held(&mut other, 1);
        let asked_for = ask(&mut client, function, RESERVED_TAG, 0);
        // A later command is none of the function's.
        let later = client.start(&Command::write(9, &[4; 512]));
        client.expect_silence(Duration::from_millis(1));
        client.answer_ready_to_transfer(&asked);
        assert_eq!(answer(&mut client, asked_for), 0, "function {function}");
        client.forget(tag);
        let outcome = client.finish(later);
        assert!(outcome.is_good() || outcome.condition() == Some(Condition(6, 0x29, 3)) || function == WARM_RESET);
        client.take_attentions();
        assert_eq!(client.good(&Command::read(0, 1)), [0; 512]);
        other.answer_ready_to_transfer(&their_r2t);
        if function == ABORT_TASK_SET {
            assert!(other.finish(theirs).is_good(), "the task of another nexus goes on");
        } else {
            other.forget(theirs);
            assert!(!other.take_attentions().is_empty(), "function {function} is told to others");
            assert_eq!(client.good(&Command::read(1, 1)), [0; 512]);
        }
    }
}

#[test]
fn tmf_06_a_reset_ends_tasks_and_reservations_but_not_persistent_ones() {
    let target = target();
    let mut client = session(&target, &normal());
    let mut other = session(&target, &normal().isid(7));
    other.good(&Command::cdb(&[0x16, 0, 0, 0, 0, 0]));
    assert_eq!(client.execute(&Command::read(0, 1)).status, 0x18);
    let (tag, asked) = held(&mut other, 0);
    assert_eq!(client.task_management(LUN_RESET, RESERVED_TAG, 0), 0);
    other.answer_ready_to_transfer(&asked);
    other.forget(tag);
    assert_eq!(other.take_attentions(), [Condition(6, 0x29, 3)], "the others learn of it");
    assert_eq!(client.take_attentions(), [Condition(6, 0x29, 3)]);
    assert_eq!(client.good(&Command::read(0, 1)), [0; 512], "the reservation is gone and so is the write");

    // PERSISTENT RESERVE OUT: REGISTER the key 1, then RESERVE for exclusive access.
    let mut list = [0; 24];
    list[15] = 1;
    other.good(&Command::writing(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list));
    list.swap(7, 15);
    other.good(&Command::writing(&[0x5f, 1, 0x03, 0, 0, 0, 0, 0, 24, 0], &list));
    assert_eq!(client.task_management(LUN_RESET, RESERVED_TAG, 0), 0);
    client.take_attentions();
    assert_eq!(client.execute(&Command::write(0, &[1; 512])).status, 0x18, "it is kept");
}

#[test]
fn tmf_07_tas_says_whether_the_tasks_of_others_end_with_a_status() {
    for tas in [false, true] {
        let target = target();
        let mut client = session(&target, &normal());
        let mut other = session(&target, &normal().isid(7));
        // MODE SELECT (6) of the Control page as it is, but for TAS.
        let sense = client.good(&Command::reading(&[0x1a, 0x08, 0x0a, 0, 255, 0], 255));
        let mut list = sense.clone();
        list[0] = 0;
        list[2] = 0;
        let page = 4 + usize::from(sense[3]);
        list[page] &= 0x3f;
        list[page + 5] = list[page + 5] & !0x40 | if tas { 0x40 } else { 0 };
        let select = Command::writing(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list);
        client.good(&select);
        other.take_attentions();
        let (tag, asked) = held(&mut other, 0);
        assert_eq!(client.task_management(CLEAR_TASK_SET, RESERVED_TAG, 0), 0);
        other.answer_ready_to_transfer(&asked);
        if tas {
            assert_eq!(other.finish(tag).status, 0x40, "TASK ABORTED");
        } else {
            other.forget(tag);
            assert_eq!(other.take_attentions(), [Condition(6, 0x2f, 0)], "COMMANDS CLEARED BY ANOTHER INITIATOR");
        }
        assert_eq!(client.good(&Command::read(0, 1)), [0; 512]);
    }
}

#[test]
fn tmf_09_what_cannot_be_done_has_its_response() {
    let mut client = alone(&normal());
    for function in [ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET] {
        let mut header = client.task_management_header(function, RESERVED_TAG, 0);
        header.lun = [0, 99, 0, 0, 0, 0, 0, 0];
        client.send(&Frame::new(header, b""));
        assert_eq!(answer(&mut client, header.initiator_task_tag.get()), 2, "no such LUN, function {function}");
    }
    for function in [0, 13, 100] {
        let code = client.task_management(function, RESERVED_TAG, 0);
        assert!(code == 5 || code == 255, "function {function}: {code}");
    }
    assert_eq!(client.task_management(8, 0x1234, 0), 4, "TASK REASSIGN below recovery level 2");
    let (tag, asked) = held(&mut client, 0);
    assert_eq!(client.task_management(8, tag, 0), 4);
    client.answer_ready_to_transfer(&asked);
    assert!(client.finish(tag).is_good());
    // A tag that is in use, and none.
    let (tag, asked) = held(&mut client, 0);
    let reset = ask(&mut client, LUN_RESET, RESERVED_TAG, 0);
    for wrong in [reset, RESERVED_TAG] {
        let mut header = client.task_management_header(ABORT_TASK_SET, RESERVED_TAG, 0);
        header.initiator_task_tag = wrong.into();
        let frame = Frame::new(header, b"");
        client.send(&frame);
        assert_eq!(rejected(&mut client, &frame), 0x09);
    }
    client.answer_ready_to_transfer(&asked);
    assert_eq!(answer(&mut client, reset), 0);
    client.forget(tag);
    client.take_attentions();
}

#[test]
fn tmf_12_behind_the_answer_to_an_abort_the_medium_is_still() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let valve = Valve::open();
        let world = Shared::new(Delay::new(Ram::new(512, BLOCKS), valve.clone()), Some(valve.clone()));
        let mut client: Client<Wire> = Client::over(world.connect(Network { seed, ..Network::default() }));
        client.login(&normal());
        client.take_attentions();
        client.good(&Command::write(0, &pattern(8192, 1)));
        valve.hold();
        let cmd_sn = client.cmd_sn;
        let tag = client.start(&Command::write(0, &pattern(8192, 2)));
        if random.once_in(2) {
            valve.release(1);
        }
        client.task_management(ABORT_TASK, tag, cmd_sn);
        client.forget(tag);
        valve.release_all();
        let first = client.good(&Command::read(0, 16));
        client.good(&Command::write(100, &[1; 512]));
        world.settle();
        assert!(client.good(&Command::read(0, 16)) == first, "seed {seed}");
        assert!(client.good(&Command::read(100, 1)) == [1; 512], "what was acknowledged stays");
    }
}

#[test]
fn tmf_15_a_store_that_never_answers_holds_up_no_function_of_another_unit() {
    let valve = Valve::closed();
    let stuck = Delay::new(Ram::new(512, BLOCKS), valve.clone());
    let world = Shared::with(Setup { units: vec![stuck, Ram::new(512, BLOCKS)], ..Setup::default() });
    let mut client = crate::help::connect(&world);
    client.login(&normal());
    client.take_attentions();
    let tag = client.start(&Command::read(0, 1));
    let other = client.start(&Command::test_unit_ready().at(2));
    assert_eq!(client.finish(other).status, 2, "its unit attention");
    let mut header = client.task_management_header(LUN_RESET, RESERVED_TAG, 0);
    header.lun = [0, 2, 0, 0, 0, 0, 0, 0];
    client.send(&Frame::new(header, b""));
    assert_eq!(answer(&mut client, header.initiator_task_tag.get()), 0);
    assert_eq!(client.execute(&Command::test_unit_ready().at(2)).condition(), Some(Condition(6, 0x29, 3)));
    client.good(&Command::write(0, &[1; 512]).at(2));
    valve.release_all();
    assert!(client.finish(tag).is_good());
}
