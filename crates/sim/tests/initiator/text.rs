//! TXT: what the text of a target may be.

use crate::help::{LAST, answered, entering, lines, refused, with};
use iscsi::initiator::Event;
use iscsi::key::KEYS;
use iscsi::login::initiator::{Authentication, DigestOffer, Failure};
use iscsi::wire::{FINAL, LoginRequest, RESERVED_TAG, TextRequest};
use sim::Frame;
use sim::scripted::driven::Entry;

/// What comes of a login whose only answer is this text.
fn said(text: &[u8]) -> Entry {
    let (driven, mut target, request, _) = entering(|_| {});
    let response = target.login_response(&request, LAST, (0, 0));
    target.send(&Frame::new(response, text));
    driven.entry(0)
}

fn fails(text: &[u8]) {
    let entry = said(text);
    assert!(matches!(entry, Entry::Failed(Failure::Target(_))), "{}: {entry:?}", lines(text));
}

#[test]
fn txt_01_txt_02_what_is_no_pair_fails_the_login() {
    assert_eq!(said(b"TargetAlias=a disk = a disk\0"), Entry::In);
    let long = format!("{}=1\0", "K".repeat(64));
    for text in
        [&b"TargetAlias"[..], b"TargetAlias=x", b"=x\0", b"Target Alias=x\0", b"targetalias=x\0", long.as_bytes()]
    {
        fails(text);
    }
    let (driven, mut target, request, _) = entering(|_| {});
    let response = target.login_response(&request, LAST, (0, 0));
    target.send(&Frame::new(response, b"TargetAlias=\xff\xfe\0"));
    assert!(matches!(driven.entry(0), Entry::Failed(Failure::Target(_))));
}

#[test]
fn txt_03_txt_14_numbers_are_decimal_or_hexadecimal_within_bounds_and_within_what_was_proposed() {
    for (key, good, bad) in [
        (
            "MaxRecvDataSegmentLength",
            &["512", "0x1000", "16777215"][..],
            &["511", "16777216", "-1", "1e3", "", "0x"][..],
        ),
        ("MaxBurstLength", &["512", "0x200"], &["511", "16777215", "99999999999999999999", "512 ", "Yes"]),
        ("FirstBurstLength", &["512"], &["0", "16777216"]),
        ("MaxConnections", &["1", "2"], &["0", "65536", "17"]),
        ("MaxOutstandingR2T", &["1"], &["0", "65536", "9"]),
        ("ErrorRecoveryLevel", &["0", "1", "2"], &["3", "x"]),
        ("DefaultTime2Wait", &["2", "3600"], &["1", "3601"]),
        ("DefaultTime2Retain", &["0", "20"], &["21", "3601"]),
        ("TargetPortalGroupTag", &["0", "65535", "0x1"], &["65536", "-1", "one"]),
    ] {
        for value in good {
            let (_, entry) = answered(|_| {}, &[(key, value)]);
            assert_eq!(entry, Entry::In, "{key}={value}");
        }
        for value in bad {
            refused(|_| {}, &[(key, value)], key);
        }
    }
}

#[test]
fn txt_04_txt_05_txt_06_an_answer_may_be_cut_anywhere_into_pdus_and_is_bounded() {
    let text = b"TargetAlias=a disk of many words\0MaxBurstLength=4096\0TargetPortalGroupTag=1\0";
    for cut in [1, 11, 12, 32, 33, 50] {
        let (driven, mut target, mut request, _) = entering(|_| {});
        for piece in text.chunks(cut) {
            let last = std::ptr::eq(piece.as_ptr_range().end, text.as_ptr_range().end);
            let response = target.login_response(&request, if last { LAST } else { 0x44 }, (0, 0));
            target.send(&Frame::new(response, piece));
            if !last {
                let (next, data) = target.expect::<LoginRequest>();
                assert!(data.is_empty() && next.flags == 0x04, "an empty request asks for the rest, without T");
                request = next;
                // T is given to who asks for it.
                if text.len() > cut * 31 {
                    break;
                }
            }
        }
        drop(driven);
    }
    // C and T at once.
    let (driven, mut target, request, _) = entering(|_| {});
    let response = target.login_response(&request, LAST | 0x40, (0, 0));
    target.send(&Frame::new(response, b"TargetAlias=x\0"));
    assert!(matches!(driven.entry(0), Entry::Failed(Failure::Target(_))));
    // 8,192 bytes are taken in one response; without end there is none.
    let (driven, mut target, request, _) = entering(|_| {});
    let alias = format!("TargetAlias={}\0", "a".repeat(8192 - 13));
    let response = target.login_response(&request, LAST, (0, 0));
    target.send(&Frame::new(response, alias.as_bytes()));
    assert_eq!(driven.entry(0), Entry::In);
    let (driven, mut target, mut request, _) = entering(|_| {});
    let mut taken = 0;
    while let Entry::UnderWay = driven.entry(0) {
        let response = target.login_response(&request, 0x44, (0, 0));
        target.send(&Frame::new(response, &[b'a'; 8192]));
        taken += 8192;
        if let Ok(frame) = target.receive() {
            request = *frame.view::<LoginRequest>().expect("a login request");
        }
        assert!(taken <= 1 << 20, "text without end");
    }
    assert!(taken >= 64 << 10, "{taken}: 64 KiB have to be possible");
}

#[test]
fn txt_07_txt_08_one_text_is_under_way_at_a_time_and_no_request_is_empty_without_need() {
    let (driven, mut target) = with(|_| {});
    let c = driven.connection(0);
    let tag = driven.session().send_text(c, b"SendTargets=All\0").expect("a text");
    assert_eq!(driven.session().send_text(c, b"SendTargets=All\0"), None, "one at a time");
    let (request, data) = target.expect::<TextRequest>();
    assert_eq!((request.flags, lines(&data).as_str()), (FINAL, "SendTargets=All\n"));
    target.text(&request, 0x40, 0x55, b"TargetName=iqn.2026-01.org.exam");
    let (more, data) = target.expect::<TextRequest>();
    assert!(data.is_empty(), "it asks for the rest");
    assert_eq!((more.initiator_task_tag.get(), more.target_transfer_tag.get()), (tag, 0x55));
    target.text(&more, FINAL, RESERVED_TAG, b"ple:x\0");
    let whole = b"TargetName=iqn.2026-01.org.example:x\0".to_vec();
    assert_eq!(driven.events(), [Event::Text { tag, text: Some(whole) }]);
    // The login: each request says something.
    let (driven, mut target, request, said) = entering(|wanted| wanted.authentication = Authentication::None);
    assert!(!said.is_empty());
    target.answer_login(&request, 0x81, (0, 0), &[("AuthMethod", "None")]);
    let (request, data) = target.expect::<LoginRequest>();
    assert!(!data.is_empty());
    target.answer_login(&request, LAST, (0, 0), &[]);
    assert_eq!(driven.entry(0), Entry::In);
}

#[test]
fn txt_09_key_16_what_a_target_proposes_is_answered_by_its_rule() {
    let (driven, mut target, request, _) = entering(|_| {});
    let keys = [("X-com.example.speed", "11"), ("IFMarker", "Yes"), ("OFMarker", "No"), ("OFMarkInt", "2048")];
    target.answer_login(&request, 0x04, (0, 0), &keys);
    let (request, data) = target.expect::<LoginRequest>();
    let said = lines(&data);
    assert!(said.contains("X-com.example.speed=NotUnderstood\n"), "{said}");
    assert!(said.contains("IFMarker=No\n") && said.contains("OFMarker=No\n") && said.contains("OFMarkInt=Reject\n"));
    target.answer_login(&request, LAST, (0, 0), &[]);
    assert_eq!(driven.entry(0), Entry::In);
}

#[test]
fn txt_11_txt_12_txt_13_of_a_list_only_what_was_proposed_is_an_answer() {
    for (offer, value) in [
        (DigestOffer::None, "CRC32C"),
        (DigestOffer::Required, "None"),
        (DigestOffer::Preferred, "CRC32"),
        (DigestOffer::Preferred, "None,CRC32C"),
        (DigestOffer::Preferred, "Reject"),
        (DigestOffer::Required, "Irrelevant"),
        (DigestOffer::Preferred, "NotUnderstood"),
        (DigestOffer::Preferred, "crc32c"),
        (DigestOffer::Preferred, ""),
    ] {
        refused(|wanted| wanted.header_digest = offer, &[("HeaderDigest", value)], "HeaderDigest");
    }
    // A leading key that the target does not understand keeps its default; refused it is not agreed on.
    let (driven, entry) = answered(|_| {}, &[("MaxBurstLength", "NotUnderstood"), ("MaxOutstandingR2T", "Irrelevant")]);
    assert_eq!(entry, Entry::In);
    let session = driven.inner().logged_in.clone().expect("a login").session;
    assert_eq!((session.max_burst_length, session.max_outstanding_r2t), (262_144, 1));
    refused(|_| {}, &[("MaxBurstLength", "Reject")], "MaxBurstLength");
}

#[test]
fn txt_15_booleans_follow_and_and_or_and_nothing_else() {
    for (key, ours, value, agreed) in [
        ("InitialR2T", true, "No", None),
        ("InitialR2T", true, "Yes", Some(true)),
        ("InitialR2T", false, "No", Some(false)),
        ("InitialR2T", false, "Yes", Some(true)),
        ("ImmediateData", false, "Yes", None),
        ("ImmediateData", false, "No", Some(false)),
        ("ImmediateData", true, "Yes", Some(true)),
        ("ImmediateData", true, "No", Some(false)),
        ("InitialR2T", false, "yes", None),
        ("ImmediateData", true, "1", None),
        ("ImmediateData", true, "", None),
    ] {
        let (driven, entry) = answered(
            |wanted| match key {
                "InitialR2T" => wanted.offers.session.initial_r2t = ours,
                _ => wanted.offers.session.immediate_data = ours,
            },
            &[(key, value)],
        );
        match agreed {
            None => assert!(matches!(entry, Entry::Failed(Failure::Target(_))), "{key} {ours} {value}: {entry:?}"),
            Some(agreed) => {
                let session = driven.inner().logged_in.clone().expect("a login").session;
                let is = if key == "InitialR2T" { session.initial_r2t } else { session.immediate_data };
                assert_eq!(is, agreed, "{key} {ours} {value}");
            }
        }
    }
}

#[test]
fn txt_18_a_key_that_comes_twice_fails_the_login() {
    for keys in [
        [("MaxBurstLength", "512"), ("MaxBurstLength", "1024")],
        [("TargetAlias", "a"), ("TargetAlias", "a")],
        [("TargetPortalGroupTag", "1"), ("TargetPortalGroupTag", "1")],
        [("HeaderDigest", "None"), ("HeaderDigest", "None")],
    ] {
        refused(|_| {}, &keys, "twice");
    }
    // In another response of the same login, too.
    let (driven, mut target, request, _) = entering(|_| {});
    target.answer_login(&request, 0x04, (0, 0), &[("MaxBurstLength", "512")]);
    let (request, _) = target.expect::<LoginRequest>();
    target.answer_login(&request, LAST, (0, 0), &[("MaxBurstLength", "512")]);
    assert!(matches!(driven.entry(0), Entry::Failed(Failure::Target(_))));
}

#[test]
fn txt_16_a_login_that_fails_leaves_the_session_as_it_was() {
    let (driven, mut target) = with(|_| {});
    let before = driven.session().parameters().clone();
    let mut wanted = sim::scripted::driven::wanted();
    wanted.authentication = Authentication::Skipped;
    wanted.cid = 2;
    wanted.joins = Some((0x99, before.clone()));
    let mut second = sim::scripted::Target::over(driven.connect(wanted));
    let (request, _) = second.expect::<LoginRequest>();
    second.answer_login(&request, LAST, (0, 0), &[("MaxRecvDataSegmentLength", "512"), ("MaxBurstLength", "512")]);
    assert!(matches!(driven.entry(1), Entry::Failed(Failure::Target(_))));
    assert_eq!(*driven.session().parameters(), before);
    crate::help::goes_on(&driven, &mut target);
}

#[test]
fn txt_20_every_key_that_is_sent_is_of_the_standard() {
    let (.., said) = entering(|wanted| {
        wanted.initiator_alias = Some("alias".into());
        wanted.offers.session.task_reporting = iscsi::key::TaskReporting::FastAbort;
    });
    for line in said.lines() {
        let (key, _) = line.split_once('=').expect("a pair");
        assert!(KEYS.iter().any(|known| known.name == key), "{key}");
    }
    assert!(said.contains("TaskReporting=FastAbort,ResponseFence,RFC3720\n"), "KEY-14");
}
