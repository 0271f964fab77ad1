//! PL2: what RFC 7144 adds at protocol level 2.

use crate::help::{Simulated, alone, connect, goes_on, normal, session, target};
use iscsi::wire::{AsyncMessage, RESERVED_TAG, ReadyToTransfer, ScsiResponse, TaskManagementResponse};
use sim::Frame;
use sim::raw::{Command, Condition, Login};

const QUERY_TASK: u8 = 9;
const QUERY_TASK_SET: u8 = 10;
const I_T_NEXUS_RESET: u8 = 11;
const QUERY_ASYNCHRONOUS_EVENT: u8 = 12;

fn level(level: u32) -> Login {
    normal().key("iSCSIProtocolLevel", level)
}

/// Whether a version descriptor of INQUIRY is this one (SPC-5 6.7.2, bytes 58 to 73).
fn claims(client: &mut Simulated, version: u16) -> bool {
    let data = client.good(&Command::inquiry(None));
    data[58..74].chunks(2).any(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]) == version)
}

#[test]
fn pl2_01_nothing_of_level_2_is_there_before_it_was_agreed() {
    for login in [normal(), level(1), level(0)] {
        let mut client = alone(&login);
        client.capture.record();
        for priority in [0x00, 0xf0, 0x10] {
            let mut frame = client.prepare(&Command::write(0, &[1; 512])).remove(0);
            frame.header[2] = priority;
            client.send(&frame);
            assert!(client.finish(frame.basic().initiator_task_tag.get()).is_good(), "the priority is ignored");
        }
        client.execute(&Command::cdb(&[0xff; 6]));
        for function in [QUERY_TASK, QUERY_TASK_SET, I_T_NEXUS_RESET, QUERY_ASYNCHRONOUS_EVENT] {
            assert_eq!(client.task_management(function, RESERVED_TAG, 0), 5, "function {function}");
        }
        for (_, frame) in client.capture.recorded() {
            if frame.view::<ScsiResponse>().is_some() {
                assert_eq!(frame.header[8..10], [0, 0], "no status qualifier");
            }
            if frame.view::<TaskManagementResponse>().is_some() {
                assert_eq!(frame.header[8..12], [0; 4], "no additional response information");
            }
        }
        goes_on(&mut client);
    }
}

#[test]
fn pl2_02_the_functions_of_sam_5_are_answered_at_level_2_and_never_with_a_reject() {
    let mut client = alone(&level(2));
    assert_eq!(client.task_management(QUERY_TASK, 0x1234, 0), 0);
    assert_eq!(client.task_management(QUERY_TASK_SET, RESERVED_TAG, 0), 0);
    assert_eq!(client.task_management(QUERY_ASYNCHRONOUS_EVENT, RESERVED_TAG, 0), 0);
    for function in [QUERY_TASK_SET, QUERY_ASYNCHRONOUS_EVENT] {
        let mut header = client.task_management_header(function, RESERVED_TAG, 0);
        header.lun = [0, 77, 0, 0, 0, 0, 0, 0];
        client.send(&Frame::new(header, b""));
        let (answer, _) = client.response::<TaskManagementResponse>(header.initiator_task_tag.get());
        assert_eq!(answer.response, 2, "no such LUN");
    }
    // REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS says so: QTS; QAES, QTSS, ITNRS.
    let supported = |client: &mut Simulated| {
        client.good(&Command::reading(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0], 4))[..2].to_vec()
    };
    assert_eq!(supported(&mut client), [0xde, 0x07]);
    assert_eq!(supported(&mut alone(&level(1))), [0xda, 0x00]);
    assert_eq!(client.task_management(I_T_NEXUS_RESET, RESERVED_TAG, 0), 0);
    client.expect_closed();
}

#[test]
fn pl2_03_a_query_tells_whether_a_task_is_there() {
    let mut client = alone(&level(2));
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &[1; 512]).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    assert_eq!(client.task_management(QUERY_TASK, tag, 0), 7);
    assert_eq!(client.task_management(QUERY_TASK_SET, RESERVED_TAG, 0), 7);
    let reset = client.task_management_header(5, RESERVED_TAG, 0);
    client.send(&Frame::new(reset, b""));
    assert_eq!(client.task_management(QUERY_TASK, reset.initiator_task_tag.get(), 0), 255, "a function is no task");
    client.answer_ready_to_transfer(&asked);
    client.response::<TaskManagementResponse>(reset.initiator_task_tag.get());
    client.forget(tag);
    client.hold_data = false;
    client.take_attentions();
    assert_eq!(client.task_management(QUERY_TASK, tag, 0), 0, "it has ended");
    assert_eq!(client.task_management(QUERY_TASK_SET, RESERVED_TAG, 0), 0);
}

#[test]
fn pl2_04_a_nexus_reset_ends_the_session_at_once_and_no_other() {
    let target = target();
    let login = level(2).key("DefaultTime2Retain", 20).key("ErrorRecoveryLevel", 2);
    let mut client = session(&target, &login);
    let mut other = session(&target, &level(2).isid(7));
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &[0xbd; 512]).solicited());
    client.expect::<ReadyToTransfer>();
    let header = client.task_management_header(I_T_NEXUS_RESET, RESERVED_TAG, 0);
    client.send(&Frame::new(header, b""));
    client.forget(tag);
    let (answer, _) = client.response::<TaskManagementResponse>(header.initiator_task_tag.get());
    assert_eq!(answer.response, 0, "it does not wait for data");
    let told = client.expect_closed();
    let events: Vec<u8> = told.iter().filter_map(|frame| frame.view::<AsyncMessage>()).map(|one| one.event).collect();
    assert_eq!(events, [3], "all connections are dropped");
    target.settle();
    assert_eq!((target.tasks(), target.taken_bytes()), (0, 0));
    assert_eq!(other.good(&Command::read(0, 1)), [0; 512]);
    let mut again = connect(&target);
    again.login(&login);
    assert!(again.take_attentions().contains(&Condition(6, 0x29, 7)), "I_T NEXUS LOSS OCCURRED");
    goes_on(&mut again);
}

#[test]
fn pl2_05_a_pending_unit_attention_is_told_and_stays() {
    let target = target();
    let mut client = session(&target, &level(2));
    let mut other = session(&target, &level(2).isid(7));
    assert_eq!(other.task_management(5, RESERVED_TAG, 0), 0, "a reset by somebody else");
    for _ in 0..2 {
        let header = client.task_management_header(QUERY_ASYNCHRONOUS_EVENT, RESERVED_TAG, 0);
        client.send(&Frame::new(header, b""));
        client.capture.record();
        let (answer, _) = client.response::<TaskManagementResponse>(header.initiator_task_tag.get());
        assert_eq!(answer.response, 7);
        let (_, frame) = client.capture.recorded().last().unwrap();
        // SAM-5 7.10: sense key, additional sense code and its qualifier.
        assert_eq!(frame.header[8..12], [0x06, 0x29, 0x03, 0]);
    }
    assert_eq!(client.take_attentions(), [Condition(6, 0x29, 3)], "the next command still gets it");
    assert_eq!(client.task_management(QUERY_ASYNCHRONOUS_EVENT, RESERVED_TAG, 0), 0);
}

#[test]
fn pl2_06_key_15_the_version_descriptor_follows_the_level() {
    for (asked, agreed) in [(0u16, 0u16), (1, 1), (2, 2), (31, 2)] {
        let mut client = connect(&target());
        let answers = client.login(&level(asked.into()));
        assert!(answers.contains(&format!("iSCSIProtocolLevel={agreed}\n")), "{answers}");
        client.take_attentions();
        for version in 0..=31 {
            assert_eq!(claims(&mut client, 0x0960 + version), version == agreed, "asked for {asked}");
        }
    }
    let mut silent = alone(&normal());
    assert!(claims(&mut silent, 0x0961), "1 where nothing is said");
}

#[test]
fn pl2_07_sense_data_comes_with_check_condition_alone() {
    // A target may send it with any status at level 2; this one does at none.
    for login in [level(1), level(2)] {
        let target = target();
        let mut client = session(&target, &login);
        let mut other = session(&target, &login.isid(7));
        other.good(&Command::cdb(&[0x16, 0, 0, 0, 0, 0]));
        let conflict = client.execute(&Command::read(0, 1));
        assert_eq!((conflict.status, conflict.sense.len()), (0x18, 0));
        other.good(&Command::cdb(&[0x17, 0, 0, 0, 0, 0]));
        assert!(!client.execute(&Command::cdb(&[0xff; 6])).sense.is_empty());
    }
}
