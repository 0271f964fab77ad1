//! NAM, LOG: names, stages, refusals and redirections, and logins that never end.

use crate::help::{LAST, answered, entering, level, lines, refused};
use iscsi::login::Status;
use iscsi::login::initiator::{Authentication, Failure};
use iscsi::wire::{LoginRequest, Opcode, Pdu};
use sim::Frame;
use sim::scripted::driven::Entry;
use zerocopy::IntoBytes;

fn failed(entry: Entry) -> Failure {
    match entry {
        Entry::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nam_02_names_of_223_bytes_are_sent_whole() {
    let name = format!("iqn.2026-01.org.example:{}", "n".repeat(223 - 24));
    let (.., said) = entering(|wanted| {
        wanted.initiator_name.clone_from(&name);
        wanted.target_name = Some(name.clone());
    });
    assert!(said.contains(&format!("InitiatorName={name}\n")) && said.contains(&format!("TargetName={name}\n")));
}

#[test]
fn key_04_log_05_names_come_in_the_first_request_and_once_and_identifiers_do_not_change() {
    let (driven, mut target, first, said) = entering(|wanted| {
        wanted.authentication = Authentication::None;
        wanted.isid = [0x80, 1, 2, 3, 4, 5];
        wanted.cid = 9;
    });
    assert_eq!(said.lines().next(), Some("InitiatorName=iqn.2026-01.org.example:client"));
    assert!(said.contains("TargetName=iqn") && said.contains("SessionType=Normal\n"));
    target.answer_login(&first, 0x81, (0, 0), &[("AuthMethod", "None"), ("TargetPortalGroupTag", "1")]);
    let (mut last, mut all) = (first, said);
    for _ in 0..3 {
        let (request, data) = target.expect::<LoginRequest>();
        let same = |one: &LoginRequest| (one.isid, one.tsih, one.cid, one.initiator_task_tag, one.cmd_sn);
        assert_eq!(same(&request), same(&first));
        assert_eq!(request.exp_stat_sn.get(), target.stat_sn);
        all += &lines(&data);
        last = request;
        target.answer_login(&request, 0x04, (0, 0), &[]);
    }
    for key in ["InitiatorName=", "TargetName=", "SessionType="] {
        assert_eq!(all.matches(key).count(), 1, "{key}");
    }
    let (request, _) = target.expect::<LoginRequest>();
    assert_eq!(request.isid, last.isid);
    target.answer_login(&request, LAST, (0, 0), &[]);
    assert_eq!(driven.entry(0), Entry::In);
    // An answer to another login than this one is none.
    for change in 0..2 {
        let (driven, mut target, request, _) = entering(|_| {});
        let mut response = target.login_response(&request, LAST, (0, 0));
        match change {
            0 => response.isid[3] ^= 1,
            _ => response.initiator_task_tag = 5.into(),
        }
        target.send(&Frame::new(response, &[]));
        assert!(matches!(failed(driven.entry(0)), Failure::Target(_)), "{change}");
    }
}

#[test]
fn log_03_any_pdu_but_a_login_response_ends_a_login() {
    for opcode in 0..0x40u8 {
        if opcode == Opcode::LoginResponse as u8 {
            continue;
        }
        let (driven, mut target, request, _) = entering(|_| {});
        let mut response = target.login_response(&request, LAST, (0, 0));
        response.opcode_byte = opcode;
        target.send_bytes(response.as_bytes());
        assert!(matches!(failed(driven.entry(0)), Failure::Target(_)), "opcode {opcode:02x}h");
        assert!(target.expect_closed().is_empty() && driven.inner().session.is_none());
    }
    // Nor may a response be larger than what holds during login, or have more header segments.
    for (length, additional) in [(8193u32, 0u8), (0xff_ffff, 0), (0, 1), (0, 255)] {
        let (driven, mut target, request, _) = entering(|_| {});
        let mut response = target.login_response(&request, LAST, (0, 0));
        response.set_data_segment_bytes(length);
        response.total_ahs_length = additional;
        target.send_bytes(response.as_bytes());
        assert!(matches!(failed(driven.entry(0)), Failure::Target(_)), "{length} {additional}");
    }
}

#[test]
fn log_04_only_version_0_is_spoken() {
    let (driven, mut target, request, _) = entering(|_| {});
    assert_eq!((request.version_max, request.version_min), (0, 0));
    let mut response = target.login_response(&request, LAST, (0, 0));
    (response.version_max, response.version_active) = (2, 1);
    target.send(&Frame::new(response, &[]));
    assert!(matches!(failed(driven.entry(0)), Failure::Target(why) if why.contains("version 1")));
    let (_, entry) = answered(|_| {}, &[]);
    assert_eq!(entry, Entry::In);
}

#[test]
fn log_09_stages_come_in_their_order_and_a_target_that_jumps_is_refused() {
    // CSG, NSG and T that no request asked for.
    for flags in [0x81, 0x83, 0x00, 0x80, 0x84, 0x85, 0x86, 0x8b, 0x8f, 0xc7, 0x0c] {
        let (driven, mut target, request, _) = entering(|_| {});
        assert_eq!(request.flags, LAST, "from the operational stage to the full feature phase");
        target.answer_login(&request, flags, (0, 0), &[]);
        assert!(matches!(failed(driven.entry(0)), Failure::Target(why) if why.contains("stage")), "{flags:02x}");
    }
    let (driven, mut target, request, _) = entering(|wanted| wanted.authentication = Authentication::None);
    assert_eq!(request.flags, 0x81, "security comes first");
    target.answer_login(&request, 0x83, (0, 0), &[("AuthMethod", "None")]);
    assert!(
        matches!(failed(driven.entry(0)), Failure::Target(_)),
        "the operational stage was not offered to be left out"
    );
}

#[test]
fn log_14_log_17_a_refused_login_is_closed_and_says_with_what_status() {
    for (class, detail) in [(2, 0), (2, 1), (2, 3), (2, 99), (3, 0), (3, 1), (3, 2), (4, 0), (255, 255)] {
        let (driven, mut target, request, _) = entering(|_| {});
        // Numbers are not valid then, and not looked at.
        target.stat_sn = 0xdead_beef;
        let mut response = target.login_response(&request, 0xff, (class, detail));
        (response.isid, response.tsih) = ([0; 6], 0.into());
        target.send(&Frame::new(response, b"Anything=at all\0"));
        assert_eq!(failed(driven.entry(0)), Failure::Refused(Status(class, detail)));
        assert!(target.expect_closed().is_empty());
    }
}

#[test]
fn log_16_a_redirection_names_where_to_or_is_an_error() {
    for stage in [0, 1] {
        let (driven, mut target, request, _) = entering(|wanted| {
            if stage == 0 {
                wanted.authentication = Authentication::None;
            }
        });
        let keys = [("TargetAddress", "[2001:db8::1]:3260,7"), ("TargetAddress", "storage.example")];
        target.answer_login(&request, 0, (1, 1), &keys);
        let addresses = keys.map(|(_, address)| address.to_owned()).to_vec();
        assert_eq!(driven.entry(0), Entry::Redirected(addresses));
        assert!(target.expect_closed().is_empty());
    }
    for keys in [&[][..], &[("TargetAlias", "x")]] {
        let (driven, mut target, request, _) = entering(|_| {});
        target.answer_login(&request, 0, (1, 2), keys);
        assert!(matches!(failed(driven.entry(0)), Failure::Target(why) if why.contains("nowhere")));
    }
}

#[test]
fn log_19_txt_19_a_login_without_end_is_ended_after_a_bounded_number_of_exchanges() {
    for text in [&b""[..], b"X-com.example.key=1\0"] {
        let (driven, mut target, mut request, _) = entering(|_| {});
        let mut exchanges = 1;
        loop {
            let response = target.login_response(&request, 0x04, (0, 0));
            target.send(&Frame::new(response, text));
            match target.receive() {
                Ok(frame) => request = *frame.view::<LoginRequest>().expect("a login request"),
                Err(_) => break,
            }
            exchanges += 1;
            assert!(exchanges < 1000, "for ever");
        }
        assert!(matches!(failed(driven.entry(0)), Failure::Target(_)));
        assert!(text.len() > 1 || exchanges >= 6, "{exchanges}: six have to be possible");
    }
}

#[test]
fn log_20_a_login_response_in_the_full_feature_phase_ends_the_session() {
    let (driven, mut target) = level(0);
    let header = iscsi::wire::LoginResponse::empty();
    target.say(header, &[]);
    crate::help::format_error(&driven);
}

#[test]
fn ssn_01_status_numbers_count_during_the_login_already() {
    let (driven, mut target, request, _) = entering(|_| {});
    target.answer_login(&request, 0x04, (0, 0), &[]);
    let (request, _) = target.expect::<LoginRequest>();
    target.stat_sn += 3;
    target.answer_login(&request, LAST, (0, 0), &[]);
    assert!(matches!(failed(driven.entry(0)), Failure::Target(why) if why.contains("StatSN")));
}

#[test]
fn ses_02_the_session_is_the_one_that_was_joined_and_no_session_is_number_0() {
    let (driven, mut target, request, _) = entering(|_| {});
    let mut response = target.login_response(&request, LAST, (0, 0));
    response.tsih = 0.into();
    target.send(&Frame::new(response, &[]));
    assert!(matches!(failed(driven.entry(0)), Failure::Target(why) if why.contains("TSIH")));
    let (driven, mut target, request, said) =
        entering(|wanted| wanted.joins = Some((0x77, iscsi::key::SessionParameters::default())));
    assert!(!said.contains("SessionType") && request.tsih.get() == 0x77);
    let mut response = target.login_response(&request, LAST, (0, 0));
    response.tsih = 0x78.into();
    target.send(&Frame::new(response, &[]));
    assert!(matches!(failed(driven.entry(0)), Failure::Target(why) if why.contains("TSIH")));
}

#[test]
fn isr_01_rdma_is_not_asked_for_and_declined() {
    let (driven, mut target, request, said) = entering(|_| {});
    assert!(!said.contains("RDMAExtensions"));
    target.answer_login(&request, 0x04, (0, 0), &[("RDMAExtensions", "Yes")]);
    let (request, data) = target.expect::<LoginRequest>();
    assert_eq!(lines(&data), "RDMAExtensions=No\n");
    target.answer_login(&request, LAST, (0, 0), &[]);
    assert_eq!(driven.entry(0), Entry::In);
    refused(|_| {}, &[("RDMAExtensions", "Yes")], "RDMAExtensions");
}
