//! The full feature phase against the real binary: data in every way, digests, pings, rejects, task
//! management, logout (RFC 7143 §4, §11).

use iscsi::wire::{
    DataOut, Header, LogoutResponse, NopIn, Pdu, RESERVED_TAG, ReadyToTransfer, Reject, ScsiCommand,
    TaskManagementResponse,
};
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Condition, Ended, Login};
use sim::{Daemon, Frame};
use std::time::Duration;

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

fn daemon() -> Daemon {
    Daemon::start(LUNETTE, &["ram:16M"])
}

fn session(daemon: &Daemon, login: &Login) -> Client {
    let mut client = daemon.connect();
    client.login(login);
    client.take_attentions();
    client
}

fn pattern(bytes: usize, salt: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at / 512) as u8 ^ salt ^ at as u8).collect()
}

#[test]
fn dat_01_data_travels_in_every_way_that_can_be_agreed_on() {
    let daemon = daemon();
    for initial_r2t in ["Yes", "No"] {
        for immediate in ["Yes", "No"] {
            for (first, burst, outstanding, segment) in
                [(512, 512, 1, 512), (4096, 16384, 4, 8192), (65536, 262_144, 8, 65536)]
            {
                let login = Login::normal(TARGET)
                    .key("InitialR2T", initial_r2t)
                    .key("ImmediateData", immediate)
                    .key("FirstBurstLength", first)
                    .key("MaxBurstLength", burst)
                    .key("MaxOutstandingR2T", outstanding)
                    .key("MaxRecvDataSegmentLength", segment);
                let mut client = session(&daemon, &login);
                for (salt, blocks) in [(1u8, 1usize), (2, 3), (3, 64), (4, 301)] {
                    let data = pattern(blocks * 512, salt);
                    let answer = client.execute(&Command::write(64, &data));
                    assert!(answer.is_good() && answer.residual == 0, "{answer:?}");
                    let read = client.execute(&Command::read(64, blocks as u16));
                    assert!(read.data == data, "{login:?}, {blocks} blocks");
                    assert!(read.collapsed, "the status comes with the data");
                    client.good(&Command::write(64, &pattern(blocks * 512, salt + 9)).solicited());
                }
                client.logout();
            }
        }
    }
}

#[test]
fn dig_01_digests_protect_both_directions() {
    let daemon = daemon();
    for (header, data) in [(true, false), (false, true), (true, true)] {
        let mut client = session(&daemon, &Login::normal(TARGET).digests(header, data));
        let bytes = pattern(40_960, 7);
        client.good(&Command::write(8, &bytes));
        assert!(client.good(&Command::read(8, 80)) == bytes);
        client.logout();
    }
}

#[test]
fn dig_04_dig_05_a_wrong_header_digest_costs_the_connection_and_a_wrong_data_digest_the_pdu() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET).digests(true, true));
    let frames = client.prepare(&Command::write(0, &[9; 512]));
    let mut bytes = frames[0].encode(sim::Digests { header: true, data: true });
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    client.send_bytes(&bytes);
    let (reject, _) = client.expect::<Reject>();
    assert_eq!(reject.reason, 0x02, "data digest error");
    let tag = frames[0].basic().initiator_task_tag.get();
    // Its number is a gap, which the same command fills.
    client.send(&frames[0]);
    assert!(client.finish(tag).is_good());
    let mut bytes = Frame::new(client.ping_header(77), b"").encode(sim::Digests { header: true, data: true });
    bytes[50] ^= 1;
    client.send_bytes(&bytes);
    client.expect_closed();
}

#[test]
fn rsp_04_residuals_both_ways() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET));
    assert_eq!(client.execute(&Command::read(0, 2).expecting(512)).residual, 512, "overflow");
    assert_eq!(client.execute(&Command::read(0, 2).expecting(4096)).residual, -3072, "underflow");
    assert_eq!(client.execute(&Command::read(0, 2).expecting(0)).residual, 1024);
    let answer = client.execute(&Command::inquiry(None).expecting(4));
    assert_eq!(answer.data.len(), 4);
    let mut short = Command::write(0, &[1; 1024]);
    short.expected = 512;
    short.data.truncate(512);
    let answer = client.execute(&short);
    assert_eq!((answer.is_good(), answer.residual), (true, 512), "only what came was written");
    assert!(client.good(&Command::read(0, 2))[512..].iter().all(|byte| *byte == 0));
}

#[test]
fn nop_01_pings_are_answered_with_their_data() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET).key("MaxRecvDataSegmentLength", 4096));
    for length in [0, 1, 3, 4, 4096] {
        let data = pattern(length, 3);
        assert!(client.ping(&data) == data, "{length}");
    }
    assert_eq!(client.ping(&pattern(5000, 1)).len(), 4096, "as much as the initiator takes");
}

#[test]
fn rej_01_what_cannot_be_taken_is_sent_back() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET));
    let mut header: Header = *Command::test_unit_ready().header().header();
    header.opcode_byte = 0x1c;
    client.send(&Frame { header: zerocopy_bytes(&header), data: Vec::new() });
    let (reject, refused) = client.expect::<Reject>();
    assert_eq!((reject.reason, &refused[..]), (0x05, &zerocopy_bytes(&header)[..]), "command not supported");
    let mut snack = header;
    snack.opcode_byte = 0x10;
    client.send(&Frame { header: zerocopy_bytes(&snack), data: Vec::new() });
    assert_eq!(client.expect::<Reject>().0.reason, 0x05, "nothing is sent again at recovery level 0");
    let mut stray = DataOut::empty();
    stray.flags = 0x80;
    stray.initiator_task_tag = 0x7777.into();
    stray.target_transfer_tag = RESERVED_TAG.into();
    client.send(&Frame::new(stray, &[1; 512]));
    assert_eq!(client.expect::<Reject>().0.reason, 0x09, "data for no task");
    assert!(client.execute(&Command::test_unit_ready()).is_good(), "the connection goes on");
}

fn zerocopy_bytes(header: &Header) -> Vec<u8> {
    let command = ScsiCommand::view(header);
    Frame::new(*command, b"").header
}

#[test]
fn csn_03_commands_outside_the_window_are_ignored() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET));
    let expected = client.cmd_sn;
    client.cmd_sn = expected.wrapping_add(5000);
    client.start(&Command::test_unit_ready());
    client.cmd_sn = expected.wrapping_sub(1);
    client.start(&Command::test_unit_ready());
    client.expect_silence(Duration::from_millis(200));
    client.cmd_sn = expected;
    assert!(client.execute(&Command::test_unit_ready()).is_good());
}

#[test]
fn csn_02_commands_run_in_their_order_whatever_order_they_come_in() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET));
    let mut frames: Vec<Frame> = Vec::new();
    for salt in 0..4u8 {
        frames.extend(client.prepare(&Command::write(3, &[salt; 512])));
    }
    frames.reverse();
    let tags: Vec<u32> = frames.iter().map(|frame| frame.basic().initiator_task_tag.get()).collect();
    client.send_together(&frames);
    for tag in tags {
        assert!(client.finish(tag).is_good());
    }
    assert_eq!(client.good(&Command::read(3, 1)), [3; 512]);
}

#[test]
fn tmf_01_task_management() {
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET).key("ImmediateData", "No"));
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &[1; 4096]));
    let cmd_sn = client.cmd_sn.wrapping_sub(1);
    client.expect::<ReadyToTransfer>();
    assert_eq!(client.task_management(1, tag, cmd_sn), 0, "ABORT TASK");
    client.forget(tag);
    assert_eq!(client.task_management(1, tag, cmd_sn), 1, "task does not exist");
    let tag = client.start(&Command::write(0, &[1; 4096]));
    client.expect::<ReadyToTransfer>();
    // The initiator answers no R2T any more, as open-iscsi does after a reset.
    let request = client.task_management_header(5, RESERVED_TAG, 0);
    let function = request.initiator_task_tag.get();
    client.send(&Frame::new(request, b""));
    let (answer, _) = client.response::<TaskManagementResponse>(function);
    assert_eq!(answer.response, 0, "TMF-15: LOGICAL UNIT RESET does not wait for ever");
    client.forget(tag);
    assert_eq!(client.take_attentions(), [Condition(6, 0x29, 3)]);
    for function in [2, 4, 6] {
        assert_eq!(client.task_management(function, RESERVED_TAG, 0), 0, "function {function}");
    }
    client.take_attentions();
    assert_eq!(client.task_management(8, RESERVED_TAG, 0), 4, "no reassignment at recovery level 0");
    assert_eq!(client.task_management(9, RESERVED_TAG, 0), 5, "no query at protocol level 1");
    assert!(client.good(&Command::read(0, 8)).iter().all(|byte| *byte == 0), "nothing of the aborted was written");
}

#[test]
fn tmf_08_a_cold_reset_ends_all_sessions() {
    let daemon = daemon();
    let mut one = session(&daemon, &Login::normal(TARGET));
    let mut other = session(&daemon, &Login::normal(TARGET).isid(5));
    assert_eq!(one.task_management(7, RESERVED_TAG, 0), 0);
    one.expect_closed();
    other.expect_closed();
    let mut again = daemon.connect();
    again.login(&Login::normal(TARGET));
    again.take_attentions();
}

#[test]
fn out_01_logout_of_both_kinds() {
    let daemon = daemon();
    for (reason, cid, response) in [(0, 1, 0), (1, 1, 0)] {
        let mut client = session(&daemon, &Login::normal(TARGET));
        let mut header = client.logout_header(reason);
        header.cid = cid.into();
        let tag = header.initiator_task_tag.get();
        client.send(&Frame::new(header, b""));
        assert_eq!(client.response::<LogoutResponse>(tag).0.response, response);
        client.expect_closed();
    }
    let mut client = session(&daemon, &Login::normal(TARGET));
    let mut header = client.logout_header(1);
    header.cid = 9.into();
    let tag = header.initiator_task_tag.get();
    client.send(&Frame::new(header, b""));
    assert_eq!(client.response::<LogoutResponse>(tag).0.response, 1, "CID not found");
    assert!(client.execute(&Command::test_unit_ready()).is_good());
}

#[test]
fn pdu_06_lengths_that_lie_end_the_connection_and_nothing_else() {
    let daemon = daemon();
    let mut bystander = session(&daemon, &Login::normal(TARGET).isid(9));
    for bytes in [
        // A data segment of 16 MiB; additional headers that do not add up; a login in the wrong phase.
        [&[0x01u8, 0x81, 0, 0, 0, 0xff, 0xff, 0xff][..], &[0; 40]].concat(),
        [&[0x01, 0x81, 0, 0, 1, 0, 0, 0], &[0; 40][..], &[0xff, 0xff, 1, 0]].concat(),
        [&[0x43, 0x87, 0, 0, 0, 0, 0, 0], &[0; 40][..]].concat(),
    ] {
        let mut client = session(&daemon, &Login::normal(TARGET));
        client.send_bytes(&bytes);
        let ended = loop {
            match client.receive() {
                Ok(_) => {}
                Err(ended) => break ended,
            }
        };
        assert_eq!(ended, Ended::Closed, "{:02x?}", &bytes[..8]);
    }
    assert!(bystander.execute(&Command::test_unit_ready()).is_good());
}

#[test]
fn nop_05_the_target_s_ping_is_answered_by_whoever_lives() {
    // The daemon pings after 15 s; the protocol's timer itself is tested beside its code.
    let daemon = daemon();
    let mut client = session(&daemon, &Login::normal(TARGET));
    let mut unasked = client.ping_header(RESERVED_TAG);
    unasked.target_transfer_tag = 12345.into();
    client.send(&Frame::new(unasked, b""));
    client.expect_silence(Duration::from_millis(100));
    let _: Option<NopIn> = None;
    assert!(client.execute(&Command::test_unit_ready()).is_good(), "an answer to no ping is no offence");
}

#[test]
fn r2t_06_writes_that_are_announced_and_not_sent_do_not_take_the_memory() {
    let daemon = daemon();
    let mut greedy = session(&daemon, &Login::normal(TARGET).key("MaxBurstLength", 1 << 20));
    greedy.hold_data = true;
    let before = daemon.resident_bytes().unwrap();
    for _ in 0..100 {
        let mut command = Command::write(0, &[1; 512]);
        command.expected = 2 << 20;
        command.cdb[7..9].copy_from_slice(&4096u16.to_be_bytes());
        greedy.start(&command);
    }
    let mut other = session(&daemon, &Login::normal(TARGET).isid(7));
    other.good(&Command::write(8, &pattern(4096, 1)));
    assert!(other.good(&Command::read(8, 8)) == pattern(4096, 1), "others go on");
    let grown = daemon.resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes");
}
