//! What means all connections of a session: fences, aborts, resets of the nexus, format errors (RFC 7143
//! §4.2.2.3, §4.2.3, §7.7; RFC 7144 §6.3).

use crate::help::*;
use iscsi::wire::{
    AsyncMessage, DataOut, FINAL, IMMEDIATE, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, TaskManagementResponse,
};
use sim::Frame;
use sim::daemon::Daemon;
use sim::raw::{Client, Command, Condition};
use std::time::Duration;

/// Acknowledges everything that came on this connection.
fn acknowledge(client: &mut Client) {
    let header = client.ping_header(RESERVED_TAG);
    client.send(&Frame::new(header, b""));
}

#[test]
fn rsp_10_a_fenced_response_waits_for_what_the_other_connections_were_sent() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut one = daemon.connect();
    one.login(&login(2).key("TaskReporting", "ResponseFence,RFC3720"));
    one.take_attentions();
    let mut two = join(&daemon, &mut one, 2);
    // A status on the second connection that nobody acknowledges.
    two.good(&Command::read(0, 1));
    let header = one.task_management_header(2, RESERVED_TAG, 0);
    one.send(&Frame::new(header, b""));
    one.expect_silence(Duration::from_millis(150));
    acknowledge(&mut two);
    let (answer, _) = one.response::<TaskManagementResponse>(header.initiator_task_tag.get());
    assert_eq!(answer.response, 0);
    acknowledge(&mut one);
    assert!(two.execute(&Command::test_unit_ready()).is_good());
}

#[test]
fn tmf_11_fast_abort_is_told_on_the_other_connections_and_waits_for_no_data() {
    for (reporting, fast) in [("FastAbort,ResponseFence,RFC3720", true), ("RFC3720", false)] {
        let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
        let mut one = daemon.connect();
        one.login(&login(2).key("TaskReporting", reporting).key("InitialR2T", "Yes").key("ImmediateData", "No"));
        one.take_attentions();
        let mut two = join(&daemon, &mut one, 2);
        two.hold_data = true;
        let tag = two.start(&Command::write(0, &[0xbd; 512]));
        let (asked, _) = two.expect::<ReadyToTransfer>();
        let header = one.task_management_header(5, RESERVED_TAG, 0);
        one.send(&Frame::new(header, b""));
        two.forget(tag);
        if fast {
            let (message, _) = two.expect::<AsyncMessage>();
            assert_eq!((message.event, message.lun), (5, asked.lun));
            acknowledge(&mut two);
        } else {
            one.expect_silence(Duration::from_millis(150));
        }
        // Its data is no offence, late or awaited.
        let out = DataOut {
            flags: FINAL,
            lun: asked.lun,
            initiator_task_tag: asked.initiator_task_tag,
            target_transfer_tag: asked.target_transfer_tag,
            exp_stat_sn: two.exp_stat_sn.into(),
            ..DataOut::empty()
        };
        two.send(&Frame::new(out, &[0xbd; 512]));
        acknowledge(&mut two);
        let (answer, _) = one.response::<TaskManagementResponse>(header.initiator_task_tag.get());
        assert_eq!(answer.response, 0, "{reporting}");
        acknowledge(&mut one);
        assert!(one.take_attentions().contains(&Condition(6, 0x29, 3)));
        assert_eq!(one.good(&Command::read(0, 1)), [0; 512]);
    }
}

#[test]
fn pdu_09_a_format_error_on_one_connection_closes_them_all() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    for _ in 0..3 {
        let mut one = lead(&daemon, 2);
        let mut two = join(&daemon, &mut one, 2);
        two.send_bytes(&header_of_16_mib());
        two.expect_closed();
        one.expect_closed();
    }
    let mut again = lead(&daemon, 1);
    again.good(&Command::read(0, 1));
}

/// The header of a ping that claims 16 MiB of data.
fn header_of_16_mib() -> Vec<u8> {
    let mut header = vec![0; 48];
    (header[0], header[1]) = (IMMEDIATE | Opcode::NopOut as u8, FINAL);
    header[5..8].fill(0xff);
    header
}

#[test]
fn pl2_04_a_nexus_reset_drops_every_connection_of_its_session_at_once() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut one = daemon.connect();
    one.login(&login(3).key("iSCSIProtocolLevel", 2).key("ErrorRecoveryLevel", 2).key("DefaultTime2Retain", 20));
    one.take_attentions();
    let mut two = join(&daemon, &mut one, 2);
    let mut three = join(&daemon, &mut one, 3);
    let header = two.task_management_header(11, RESERVED_TAG, 0);
    two.send(&Frame::new(header, b""));
    for client in [&mut one, &mut two, &mut three] {
        client.expect_closed();
    }
    // Nothing is kept for Time2Retain: its TSIH means nothing any more.
    assert!(try_join(&daemon, &mut one, 2).is_err());
    let mut again = lead(&daemon, 1);
    again.good(&Command::read(0, 1));
}
