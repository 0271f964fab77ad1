//! LOG and KEY: the login phase and what it agrees on (RFC 7143 §6, §11.12, §11.13, §13).

use crate::help::{BLOCKS, Simulated, alone, connect, goes_on, immediate, normal, pattern, session, target};
use block::pure::Ram;
use iscsi::auth::{Account, Algorithm, Challenge, Rules, Secret};
use iscsi::key::Offers;
use iscsi::text;
use iscsi::wire::{
    DataOut, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, NopOut, Opcode, Pdu, ReadyToTransfer,
    ScsiCommand, SnackRequest, TaskManagementRequest, TextRequest,
};
use sim::raw::{Client, Command, Login};
use sim::world::{Network, Setup, Shared, Wire};
use sim::{Digests, Frame, Refused};
use std::collections::HashMap;
use std::io::Read;

/// What a login of one request is answered with.
fn answers(login: &Login) -> HashMap<String, String> {
    let text = connect(&target()).login(login);
    text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
}

fn refused(login: &Login) -> Refused {
    connect(&target()).try_login(login).expect_err("it is let in")
}

/// Sends one request of a login made by hand.
fn exchange(client: &mut Simulated, flags: u8, text: &[u8]) -> Result<(LoginResponse, String), Refused> {
    let (response, data) = client.login_exchange(&Frame::new(normal().request(flags, client.exp_stat_sn), text))?;
    Ok((response, String::from_utf8(data).unwrap().replace('\0', "\n")))
}

#[test]
fn log_01_the_first_pdu_is_a_login_request_or_the_connection_is_closed() {
    let target = target();
    for opcode in (0x00..0x40).filter(|opcode| *opcode != 0x03) {
        let mut client = connect(&target);
        let mut frame = immediate::<NopOut>(1);
        frame.header[0] = 0x40 | opcode;
        client.send(&frame);
        assert!(client.expect_closed().is_empty(), "opcode {opcode:02x}h");
    }
    assert_eq!((target.tasks(), target.taken_bytes()), (0, 0));
    goes_on(&mut session(&target, &normal()));
}

#[test]
fn log_02_during_login_nothing_else_is_taken() {
    let target = target();
    for frame in [
        immediate::<NopOut>(1),
        immediate::<ScsiCommand>(1),
        immediate::<TextRequest>(1),
        immediate::<SnackRequest>(1),
        immediate::<TaskManagementRequest>(1),
        immediate::<LogoutRequest>(1),
        immediate::<DataOut>(1),
    ] {
        let mut client = connect(&target);
        exchange(&mut client, 0x04, &normal().text()).unwrap();
        assert_eq!(client.login_exchange(&frame).unwrap_err(), Refused::Status(2, 11), "{}", frame.summary());
        assert!(client.expect_closed().is_empty());
    }
}

#[test]
fn log_04_version_0_has_to_be_among_the_initiator_s() {
    let request = |flags, min, max, stat_sn| {
        let request = normal().request(flags, stat_sn);
        LoginRequest { version_min: min, version_max: max, ..request }
    };
    for (min, max) in [(1, 1), (1, 9), (255, 255)] {
        let mut client = connect(&target());
        let refused = client.login_exchange(&Frame::new(request(0x87, min, max, 0), &normal().text()));
        assert_eq!(refused.unwrap_err(), Refused::Status(2, 5));
        client.expect_closed();
    }
    let mut client = connect(&target());
    let (response, _) = client.login_exchange(&Frame::new(request(0x87, 0, 7, 0), &normal().text())).unwrap();
    assert_eq!((response.version_max, response.version_active), (0, 0));
    let mut client = connect(&target());
    client.login_exchange(&Frame::new(request(0x04, 0, 7, 0), &normal().text())).unwrap();
    let changed = Frame::new(request(0x87, 0, 0, client.exp_stat_sn), b"");
    assert_eq!(client.login_exchange(&changed).unwrap_err(), Refused::Status(2, 0));
}

#[test]
fn log_05_the_identifiers_of_a_login_do_not_change() {
    let changes: [fn(&mut LoginRequest); 4] = [
        |request| request.isid[5] = 9,
        |request| request.tsih = 3.into(),
        |request| request.cid = 2.into(),
        |request| request.initiator_task_tag = 6.into(),
    ];
    for change in changes {
        let mut client = connect(&target());
        exchange(&mut client, 0x04, &normal().text()).unwrap();
        let mut request = normal().request(0x87, client.exp_stat_sn);
        change(&mut request);
        let refused = client.login_exchange(&Frame::new(request, b"")).unwrap_err();
        assert_eq!(refused, Refused::Status(2, 0));
        assert!(client.expect_closed().is_empty());
    }
}

#[test]
fn log_07_stages_go_forward_and_no_further_than_was_asked() {
    let mut client = connect(&target());
    let (response, _) = exchange(&mut client, 0x00, &normal().text()).unwrap();
    assert_eq!(response.flags, 0x00, "T is the initiator's to set");
    assert_eq!(exchange(&mut client, 0x81, b"").unwrap().0.flags, 0x81, "to the operational stage and not beyond");
    assert_eq!(exchange(&mut client, 0x04, b"").unwrap().0.flags, 0x04);
    let mut back = connect(&target());
    exchange(&mut back, 0x81, &normal().text()).unwrap();
    assert_eq!(exchange(&mut back, 0x00, b"").unwrap_err(), Refused::Status(2, 0), "back to security");
    assert_eq!(exchange(&mut client, 0x87, b"").unwrap().0.flags, 0x87);
    // From security straight to the full feature phase.
    assert_eq!(exchange(&mut connect(&target()), 0x83, &normal().text()).unwrap().0.flags, 0x83);
    for flags in [0x0c, 0x8e, 0x86, 0x84, 0x85, 0x80] {
        let refused = exchange(&mut connect(&target()), flags, &normal().text()).unwrap_err();
        assert_eq!(refused, Refused::Status(2, 0), "flags {flags:02x}");
    }
}

#[test]
fn log_08_a_response_that_goes_to_the_next_stage_asks_nothing() {
    // What was asked is answered; beside that there are declarations.
    let declared = ["TargetPortalGroupTag", "TargetAlias", "MaxRecvDataSegmentLength"];
    for (flags, keys) in [
        (0x87u8, &b""[..]),
        (0x87, b"MaxBurstLength=4096\0HeaderDigest=CRC32C,None\0"),
        (0x81, b""),
        (0x81, b"AuthMethod=None\0"),
        (0x83, b"InitiatorAlias=a\0"),
    ] {
        let asked = [&normal().text(), keys].concat();
        let (response, text) = exchange(&mut connect(&target()), flags, &asked).unwrap();
        assert_eq!(response.flags & 0x80, 0x80);
        let names: Vec<&str> = text::pairs(&asked).flatten().map(|(key, _)| key).collect();
        for (key, _) in text.lines().filter_map(|line| line.split_once('=')) {
            assert!(names.contains(&key) || declared.contains(&key), "{key} would have to be answered");
        }
    }
}

#[test]
fn log_09_one_of_both_stages_takes_place_in_its_order() {
    assert_eq!(exchange(&mut connect(&target()), 0x87, &normal().text()).unwrap().0.flags, 0x87);
    assert_eq!(exchange(&mut connect(&target()), 0x83, &normal().text()).unwrap().0.flags, 0x83);
    for flags in [0x8f, 0x0c] {
        assert_eq!(exchange(&mut connect(&target()), flags, &normal().text()).unwrap_err(), Refused::Status(2, 0));
    }
    let mut client = connect(&target());
    exchange(&mut client, 0x81, &[&normal().text(), &b"AuthMethod=None\0"[..]].concat()).unwrap();
    assert_eq!(exchange(&mut client, 0x87, b"MaxBurstLength=512\0").unwrap().0.flags, 0x87);
    assert_eq!(client.agreed().max_burst_length, 512);
}

#[test]
fn log_10_who_skips_the_security_stage_of_a_target_that_wants_it_learns_nothing() {
    let account = |user: &str| Account { user: user.into(), secret: Secret::weak("a-secret-of-16-b") };
    let rules = Rules {
        algorithms: Algorithm::ALL.to_vec(),
        accounts: [account("alice")].into(),
        own: None,
        challenge: Challenge { identifier: 0, bytes: [7; 32] },
    };
    let setup = Setup {
        units: vec![Ram::new(512, BLOCKS)],
        rules: Some(rules),
        alias: Some("nobody's business".into()),
        ..Setup::default()
    };
    let world = Shared::with(setup);
    for flags in [0x87, 0x04, 0x83, 0x81] {
        let mut client: Client<Wire> = Client::over(world.connect(Network::default()));
        client.capture.record();
        assert_eq!(exchange(&mut client, flags, &normal().text()).unwrap_err(), Refused::Status(2, 1), "{flags:02x}");
        let (_, frame) = client.capture.recorded().last().unwrap();
        assert!(frame.data.is_empty(), "no word with it");
        assert!(client.expect_closed().is_empty());
    }
}

#[test]
fn log_20_there_is_no_second_login_on_a_connection() {
    let target = target();
    for tsih in [0, 1] {
        let mut client = session(&target, &normal());
        let mut request = normal().request(0x87, client.exp_stat_sn);
        request.tsih = tsih.into();
        let frame = Frame::new(request, &normal().text());
        client.send_bytes(&frame.encode(Digests::default()));
        assert!(client.expect_closed().is_empty());
        target.settle();
    }
}

#[test]
fn key_01_digests_are_agreed_for_each_connection_by_itself() {
    let target = target();
    let mut clients = Vec::new();
    for (number, (header, data)) in [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate()
    {
        let mut client = session(&target, &normal().isid(10 + number as u8).digests(header, data));
        client.good(&Command::write(number as u32 * 8, &pattern(4096, number as u8)));
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for other in 0..4u32 {
            assert_eq!(client.good(&Command::read(other * 8, 8)), pattern(4096, other as u8), "{number} reads {other}");
        }
    }
    assert_eq!(alone(&normal()).agreed().digests, Digests { header: false, data: false }, "none unless asked for");
    for key in ["HeaderDigest", "DataDigest"] {
        assert_eq!(answers(&normal().key(key, "CRC32C,None"))[key], "CRC32C");
        assert_eq!(answers(&normal().key(key, "None"))[key], "None");
    }
}

#[test]
fn key_04_names_come_first_and_once() {
    let named = |initiator: &str, target: &str| -> Vec<u8> { [initiator, target].concat().into_bytes() };
    let (initiator, target_name) =
        ("InitiatorName=iqn.2026-01.org.example:client\0", "TargetName=iqn.2026-01.org.example:disk\0");
    for text in [named("", target_name), named(initiator, ""), named("", "")] {
        assert_eq!(exchange(&mut connect(&target()), 0x87, &text).unwrap_err(), Refused::Status(2, 7));
    }
    for again in [
        initiator,
        target_name,
        "InitiatorName=iqn.2026-01.org.example:other\0",
        "TargetName=iqn.2026-01.org.example:other\0",
        "SessionType=Discovery\0",
    ] {
        let mut client = connect(&target());
        let first = format!("{initiator}{target_name}SessionType=Normal\0");
        exchange(&mut client, 0x04, first.as_bytes()).unwrap();
        assert_eq!(exchange(&mut client, 0x87, again.as_bytes()).unwrap_err(), Refused::Status(2, 0), "{again}");
    }
    assert!(connect(&target()).try_login(&Login::discovery()).is_ok(), "discovery needs no TargetName");
}

#[test]
fn key_05_the_portal_group_tag_is_in_the_first_response_that_may_have_text() {
    let tag = "TargetPortalGroupTag=1\n";
    assert!(exchange(&mut connect(&target()), 0x87, &normal().text()).unwrap().1.contains(tag));
    assert!(exchange(&mut connect(&target()), 0x00, &normal().text()).unwrap().1.contains(tag));
    let mut client = connect(&target());
    let text = normal().text();
    assert_eq!(exchange(&mut client, 0x44, &text[..20]).unwrap().1, "", "not while the request goes on");
    assert!(exchange(&mut client, 0x04, &text[20..]).unwrap().1.contains(tag));
    assert!(!exchange(&mut client, 0x87, b"").unwrap().1.contains(tag), "and once");
    // A discovery session that names a target is told too; one that does not is not.
    let named = Login { target: Some(sim::daemon::TARGET.to_owned()), ..Login::discovery() };
    assert!(connect(&target()).login(&named).contains(tag));
    assert!(!connect(&target()).login(&Login::discovery()).contains("TargetPortalGroupTag"));
}

#[test]
fn key_07_the_four_combinations_decide_which_data_may_come_unasked() {
    for (initial_r2t, immediate_data) in [("Yes", "Yes"), ("Yes", "No"), ("No", "Yes"), ("No", "No")] {
        for offered in [(true, true), (false, true), (false, false), (true, false)] {
            let mut offers = Offers::default();
            (offers.session.initial_r2t, offers.session.immediate_data) = offered;
            let setup = Setup { units: vec![Ram::new(512, BLOCKS)], offers, ..Setup::default() };
            let login = normal()
                .key("InitialR2T", initial_r2t)
                .key("ImmediateData", immediate_data)
                .key("FirstBurstLength", 1024);
            let mut client = session(&Shared::with(setup), &login);
            // OR and AND.
            let r2t = initial_r2t == "Yes" || offered.0;
            let immediate = immediate_data == "Yes" && offered.1;
            assert_eq!((client.agreed().initial_r2t, client.agreed().immediate_data), (r2t, immediate));
            let command = Command::write(0, &pattern(2048, 1)).in_chunks(512);
            let frames = client.prepare(&command);
            let unasked: usize = frames.iter().map(|frame| frame.data.len()).sum();
            // Immediate data is as long as it may be, which is all of the first burst.
            assert_eq!(unasked, if immediate || !r2t { 1024 } else { 0 });
            client.send_together(&frames);
            let answer = client.finish(frames[0].basic().initiator_task_tag.get());
            assert!(answer.is_good() && answer.ready_to_transfers == 1, "{answer:?}");
            assert_eq!(client.good(&Command::read(0, 4)), pattern(2048, 1));
        }
    }
    let silent = connect_with(&normal());
    assert_eq!((silent.agreed().initial_r2t, silent.agreed().immediate_data), (true, true), "the defaults");
}

fn connect_with(login: &Login) -> Simulated {
    let mut client = connect(&target());
    client.login(login);
    client
}

#[test]
fn key_09_bursts_have_bounds_and_no_meaning_in_discovery() {
    for key in ["MaxBurstLength", "FirstBurstLength"] {
        for (value, answer) in [("511", "Reject"), ("512", "512"), ("16777216", "Reject")] {
            assert_eq!(answers(&normal().key(key, value))[key], answer);
        }
        assert!(answers(&normal().key(key, 16_777_215))[key].parse::<u32>().unwrap() >= 65_536);
        assert_eq!(answers(&Login::discovery().key(key, 4096))[key], "Irrelevant");
    }
    let neither = normal().key("InitialR2T", "Yes").key("ImmediateData", "No").key("FirstBurstLength", 4096);
    let answer = &answers(&neither)["FirstBurstLength"];
    assert!(answer == "Irrelevant" || answer == "4096", "{answer}");
    let silent = connect_with(&normal());
    assert_eq!((silent.agreed().max_burst_length, silent.agreed().first_burst_length), (262_144, 65_536));
    let mut client = alone(&normal().key("MaxBurstLength", 262_144));
    assert_eq!(client.execute(&Command::write(0, &pattern(262_144 * 2, 1)).solicited()).ready_to_transfers, 2);
}

#[test]
fn key_10_times_are_agreed_and_told_at_logout() {
    for (asked, agreed) in [((0, 0), (2, 0)), ((2, 20), (2, 20)), ((3600, 3600), (3600, 20)), ((7, 5), (7, 5))] {
        let login = normal().key("DefaultTime2Wait", asked.0).key("DefaultTime2Retain", asked.1);
        let answers = answers(&login);
        let (wait, retain) = (&answers["DefaultTime2Wait"], &answers["DefaultTime2Retain"]);
        assert_eq!((wait.as_str(), retain.as_str()), (&*agreed.0.to_string(), &*agreed.1.to_string()));
        let mut client = alone(&login);
        let header = client.logout_header(0);
        client.send(&Frame::new(header, b""));
        let (answer, _) = client.response::<LogoutResponse>(header.initiator_task_tag.get());
        assert_eq!((answer.time_2_wait.get(), answer.time_2_retain.get()), agreed);
    }
    for key in ["DefaultTime2Wait", "DefaultTime2Retain"] {
        assert_eq!(answers(&normal().key(key, 3601))[key], "Reject");
    }
}

#[test]
fn key_11_outstanding_r2ts_are_as_many_as_agreed_and_data_is_in_order() {
    for (asked, agreed) in [("1", 1usize), ("3", 3), ("65535", 8)] {
        let login = normal().key("MaxOutstandingR2T", asked).key("MaxBurstLength", 512);
        assert_eq!(answers(&login)["MaxOutstandingR2T"], agreed.to_string());
        let mut client = alone(&login);
        client.hold_data = true;
        let tag = client.start(&Command::write(0, &pattern(512 * 10, 1)).solicited());
        let mut asked_for = Vec::new();
        while let Ok(frame) = client.receive() {
            asked_for.push(*frame.view::<ReadyToTransfer>().unwrap());
        }
        assert_eq!(asked_for.len(), agreed);
        client.hold_data = false;
        asked_for.iter().for_each(|one| client.answer_ready_to_transfer(one));
        assert!(client.finish(tag).is_good());
    }
    for key in ["DataPDUInOrder", "DataSequenceInOrder"] {
        for value in ["Yes", "No"] {
            assert_eq!(answers(&normal().key(key, value))[key], "Yes", "OR with a target that says Yes");
        }
    }
    assert_eq!(answers(&normal().key("MaxOutstandingR2T", 0))["MaxOutstandingR2T"], "Reject");
    assert_eq!(answers(&normal().key("MaxOutstandingR2T", 65_536))["MaxOutstandingR2T"], "Reject");
}

#[test]
fn key_12_no_level_is_agreed_that_was_not_offered_by_both() {
    for ours in 0..=2 {
        for theirs in 0..=2u32 {
            let mut offers = Offers::default();
            offers.session.error_recovery_level = ours;
            let setup = Setup { units: vec![Ram::new(512, BLOCKS)], offers, ..Setup::default() };
            let mut client = connect(&Shared::with(setup));
            let text = client.login(&normal().key("ErrorRecoveryLevel", theirs));
            let agreed = ours.min(theirs);
            assert!(text.contains(&format!("ErrorRecoveryLevel={agreed}\n")), "{text}");
            client.take_attentions();
            // What belongs to the level is there, what does not is refused with its own code.
            let mut snack = immediate::<SnackRequest>(0xffff_ffff);
            snack.header[0] &= 0x3f;
            snack.header[1] = 0x81;
            snack.header[20..24].fill(0xff);
            snack.header[40..44].copy_from_slice(&client.exp_stat_sn.wrapping_sub(1).to_be_bytes());
            snack.header[47] = 1;
            // What was sent before comes again, which the checker would take for a mistake.
            client.send_bytes(&snack.encode(Digests::default()));
            let mut bytes = [0; 4096];
            let count = client.transport().read(&mut bytes).unwrap();
            assert!(count >= 48);
            let expected = if agreed == 0 { Opcode::Reject } else { Opcode::ScsiResponse };
            assert_eq!(bytes[0], expected as u8, "ours {ours}, theirs {theirs}");
        }
    }
    assert_eq!(answers(&normal().key("ErrorRecoveryLevel", 3))["ErrorRecoveryLevel"], "Reject");
}

#[test]
fn key_13_a_session_is_normal_or_for_discovery() {
    for kind in ["Other", "normal", "DISCOVERY", ""] {
        let refused = refused(&normal().key("SessionType", kind));
        assert!([Refused::Status(2, 9), Refused::Status(2, 0)].contains(&refused), "{kind}: {refused:?}");
    }
    goes_on(&mut alone(&normal().key("SessionType", "Normal")));
    goes_on(&mut alone(&normal()));
    assert!(connect(&target()).try_login(&Login::discovery()).is_ok());
    // In the first request or not at all.
    let mut client = connect(&target());
    exchange(&mut client, 0x04, b"InitiatorName=iqn.2026-01.org.example:client\0SessionType=Discovery\0").unwrap();
    assert_eq!(exchange(&mut client, 0x87, b"").unwrap().0.flags, 0x87);
}

#[test]
fn key_14_the_first_task_reporting_that_is_known_is_agreed() {
    for (asked, agreed) in [
        ("RFC3720", "RFC3720"),
        ("ResponseFence,RFC3720", "ResponseFence"),
        ("FastAbort,ResponseFence,RFC3720", "FastAbort"),
        ("Foo,RFC3720,ResponseFence", "RFC3720"),
        ("Foo", "Reject"),
    ] {
        assert_eq!(answers(&normal().key("TaskReporting", asked))["TaskReporting"], agreed);
    }
    assert_eq!(answers(&Login::discovery().key("TaskReporting", "RFC3720"))["TaskReporting"], "Irrelevant");
    // RFC3720 and ResponseFence wait for data behind a function; FastAbort does not (§4.2.3.4).
    for (reporting, waits) in
        [("RFC3720", true), ("ResponseFence,RFC3720", true), ("FastAbort,ResponseFence,RFC3720", false)]
    {
        let mut client = alone(&normal().key("TaskReporting", reporting));
        client.hold_data = true;
        let tag = client.start(&Command::write(0, &[1; 512]).solicited());
        let (asked, _) = client.expect::<ReadyToTransfer>();
        let header = client.task_management_header(2, 0xffff_ffff, 0);
        client.send(&Frame::new(header, b""));
        client.forget(tag);
        let at_once = matches!(client.receive(), Ok(frame) if frame.opcode() == 0x22);
        assert_eq!(at_once, !waits, "{reporting}");
        if waits {
            let out = DataOut {
                flags: 0x80,
                lun: asked.lun,
                initiator_task_tag: asked.initiator_task_tag,
                target_transfer_tag: asked.target_transfer_tag,
                exp_stat_sn: client.exp_stat_sn.into(),
                ..DataOut::empty()
            };
            client.send(&Frame::new(out, &[1; 512]));
            client.response::<iscsi::wire::TaskManagementResponse>(header.initiator_task_tag.get());
        }
        client.hold_data = false;
        goes_on(&mut client);
        assert_eq!(client.good(&Command::read(0, 1)), [0; 512]);
    }
}

#[test]
fn key_16_markers_are_refused_and_the_login_goes_on() {
    let login = normal()
        .key("IFMarker", "Yes")
        .key("OFMarker", "Yes")
        .key("IFMarkInt", "2048~8192")
        .key("OFMarkInt", "2048~8192");
    let answers = answers(&login);
    for key in ["IFMarker", "OFMarker"] {
        assert!(["No", "Reject"].contains(&answers[key].as_str()), "{key}");
    }
    for key in ["IFMarkInt", "OFMarkInt"] {
        assert_eq!(answers[key], "Reject");
    }
    goes_on(&mut alone(&login));
}

#[test]
fn isr_01_rdma_is_declined_and_the_session_is_plain() {
    let login = normal().key("RDMAExtensions", "Yes");
    assert!(["No", "NotUnderstood"].contains(&answers(&login)["RDMAExtensions"].as_str()));
    goes_on(&mut alone(&login));
}
