//! TXT: text, at login and later (RFC 7143 §6, §11.10, §11.11).

use crate::help::{BLOCKS, Simulated, alone, connect, goes_on, normal, pattern, rejected, session, target};
use block::pure::Ram;
use iscsi::key::KEYS;
use iscsi::session::SessionLimits;
use iscsi::wire::{CONTINUE, FINAL, LoginResponse, Pdu, RESERVED_TAG, Reject, TextResponse};
use sim::raw::Command;
use sim::world::{Setup, Shared};
use sim::{Frame, Refused};

/// A text request and its response.
pub fn ask(client: &mut Simulated, tag: u32, flags: u8, transfer_tag: u32, text: &[u8]) -> (TextResponse, Vec<u8>) {
    let frame = Frame::new(client.text_header(tag, flags, transfer_tag), text);
    client.send(&frame);
    client.response::<TextResponse>(tag)
}

/// A text request that is rejected, and why.
pub fn refuse(client: &mut Simulated, tag: u32, flags: u8, transfer_tag: u32, text: &[u8]) -> u8 {
    let frame = Frame::new(client.text_header(tag, flags, transfer_tag), text);
    client.send(&frame);
    rejected(client, &frame)
}

/// A login of one request with this text and flags.
pub fn log_in(text: &[u8], flags: u8) -> Result<(LoginResponse, String), Refused> {
    let mut client = connect(&target());
    let (response, answer) = client.login_exchange(&Frame::new(normal().request(flags, 0), text))?;
    Ok((response, String::from_utf8(answer).unwrap().replace('\0', "\n")))
}

/// The names, and what a test adds to them.
pub fn with_names(more: &[u8]) -> Vec<u8> {
    [&normal().text(), more].concat()
}

#[test]
fn txt_01_keys_are_as_they_are_written_and_each_pair_is_closed() {
    let (_, answer) = log_in(&with_names(b"maxburstlength=512\0MAXBURSTLENGTH=512\0"), 0x87).unwrap();
    assert!(answer.contains("maxburstlength=NotUnderstood\nMAXBURSTLENGTH=NotUnderstood\n"), "{answer}");
    assert!(!answer.contains("\nMaxBurstLength="));
    assert_eq!(log_in(&with_names(b"MaxBurstLength=512"), 0x87).unwrap_err(), Refused::Status(2, 0));
    let mut client = alone(&normal());
    assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, b"Foo=1"), 0x04);
    assert_eq!(refuse(&mut client, 2, FINAL, RESERVED_TAG, b"Foo=\xff\xfe\0"), 0x04);
    assert_eq!(client.text("Foo=\u{e9}\0".as_bytes()), b"Foo=NotUnderstood\0");
}

#[test]
fn txt_02_what_is_no_key_ends_the_negotiation() {
    let long = [&[b'K'; 64][..], b"=1\0"].concat();
    let longest = [&[b'K'; 63][..], b"=1\0"].concat();
    for text in [&long[..], b"=1\0", b"A key=1\0", b"Key\0", b"K\"y=1\0", b"K\xc3\xa9y=1\0"] {
        assert_eq!(log_in(&with_names(text), 0x87).unwrap_err(), Refused::Status(2, 0), "{text:?}");
        let mut client = alone(&normal());
        assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, text), 0x04, "{text:?}");
        goes_on(&mut client);
    }
    let mut client = alone(&normal());
    assert_eq!(client.text(&longest), [&longest[..64], b"NotUnderstood\0"].concat());
    assert_eq!(client.text(b"A.b-c+d@e_f=1\0"), b"A.b-c+d@e_f=NotUnderstood\0");
}

#[test]
fn txt_03_numbers_are_decimal_or_hexadecimal_and_nothing_else() {
    for (value, answer) in [
        ("65536", "65536"),
        ("00065536", "65536"),
        ("0x10000", "65536"),
        ("0X1000", "4096"),
        ("-65536", "Reject"),
        ("+65536", "Reject"),
        (" 65536", "Reject"),
        ("65536 ", "Reject"),
        ("", "Reject"),
        ("0x", "Reject"),
        ("1e4", "Reject"),
        ("18446744073709551616", "Reject"),
        ("18446744073709617152", "Reject"),
    ] {
        let text = format!("MaxBurstLength={value}\0");
        let (_, answers) = log_in(&with_names(text.as_bytes()), 0x87).unwrap();
        assert!(answers.contains(&format!("MaxBurstLength={answer}\n")), "{value:?}: {answers}");
    }
}

#[test]
fn txt_05_a_login_s_text_may_be_cut_anywhere_and_goes_on_until_c_is_clear() {
    let text = with_names(b"MaxBurstLength=4096\0ImmediateData=No\0");
    for cut in 0..=text.len() {
        let mut client = connect(&target());
        let request = |flags, stat_sn| normal().request(flags, stat_sn);
        let (response, data) = client.login_exchange(&Frame::new(request(0x44, 0), &text[..cut])).unwrap();
        assert_eq!((response.flags, data.len()), (0x04, 0), "TXT-06: an empty answer");
        client.login_exchange(&Frame::new(request(0x87, client.exp_stat_sn), &text[cut..])).unwrap();
        assert_eq!((client.agreed().max_burst_length, client.agreed().immediate_data), (4096, false), "cut at {cut}");
    }
    assert_eq!(log_in(&text, 0xc7).unwrap_err(), Refused::Status(2, 0), "T together with C");
    // And in the full feature phase.
    let question = b"Foo=1\0Bar=2\0";
    for cut in 0..=question.len() {
        let mut client = alone(&normal());
        let (first, empty) = ask(&mut client, 5, CONTINUE, RESERVED_TAG, &question[..cut]);
        assert_eq!((first.flags, empty.len()), (0, 0));
        let (last, answer) = ask(&mut client, 5, FINAL, first.target_transfer_tag.get(), &question[cut..]);
        assert_eq!((last.flags, &answer[..]), (FINAL, &b"Foo=NotUnderstood\0Bar=NotUnderstood\0"[..]), "cut at {cut}");
    }
    assert_eq!(refuse(&mut alone(&normal()), 1, FINAL | CONTINUE, RESERVED_TAG, b"Foo=1\0"), 0x04);
}

#[test]
fn txt_06_text_that_goes_on_is_answered_with_nothing_and_asked_for_with_nothing() {
    let mut client = alone(&normal().key("MaxRecvDataSegmentLength", 512));
    let (first, data) = ask(&mut client, 1, CONTINUE, RESERVED_TAG, b"F");
    assert_eq!((first.flags, data.len()), (0, 0));
    let keys: String = (0..100).map(|number| format!("X-a.{number}=1\0")).collect();
    let (mut answer, mut data) = ask(&mut client, 2, FINAL, RESERVED_TAG, keys.as_bytes());
    let mut all = Vec::new();
    while answer.flags & FINAL == 0 {
        assert_eq!((answer.flags, data.len()), (CONTINUE, 512));
        all.extend(data);
        (answer, data) = ask(&mut client, 2, FINAL, answer.target_transfer_tag.get(), b"");
    }
    all.extend(data);
    assert_eq!(all, keys.replace("=1\0", "=NotUnderstood\0").into_bytes());
    // Saying something meanwhile breaks the negotiation.
    let (answer, _) = ask(&mut client, 3, FINAL, RESERVED_TAG, keys.as_bytes());
    let tag = answer.target_transfer_tag.get();
    assert_eq!(refuse(&mut client, 3, FINAL, tag, b"Foo=1\0"), 0x04);
    assert_eq!(refuse(&mut client, 3, FINAL, tag, b""), 0x09, "it is over");
    goes_on(&mut client);
}

#[test]
fn txt_07_no_exchange_is_empty_without_need() {
    let mut client = connect(&target());
    let (response, answer) = client.login_exchange(&Frame::new(normal().request(0x87, 0), &normal().text())).unwrap();
    assert_eq!(response.flags, 0x87, "one request, one response");
    assert!(!answer.is_empty());
    client.take_attentions();
    client.capture.record();
    client.text(b"SendTargets=\0");
    assert_eq!(client.capture.recorded().len(), 2);
}

#[test]
fn txt_08_a_second_text_request_before_the_answer_to_the_first_is_refused() {
    for question in [&b"Foo=1\0"[..], b"SendTargets=\0"] {
        let mut client = alone(&normal());
        let first = Frame::new(client.text_header(1, FINAL, RESERVED_TAG), question);
        let second = Frame::new(client.text_header(2, FINAL, RESERVED_TAG), b"Bar=1\0");
        client.send_together(&[first, second.clone()]);
        let mut frames = [client.receive().unwrap(), client.receive().unwrap()];
        frames.sort_by_key(Frame::opcode);
        assert_eq!(frames[0].view::<TextResponse>().map(|text| text.initiator_task_tag.get()), Some(1));
        assert_eq!(frames[1].view::<Reject>().map(|reject| reject.reason), Some(0x04));
        assert_eq!(frames[1].data, second.header);
        goes_on(&mut client);
    }
    // In a login as well: the second is one too many, whatever became of the first.
    let mut client = connect(&target());
    let request = Frame::new(normal().request(0x87, 0), &normal().text());
    client.send_together(&[request.clone(), request]);
    assert!(client.expect_closed().iter().all(|frame| frame.view::<LoginResponse>().is_some()));
}

#[test]
fn txt_09_unknown_keys_are_not_understood_and_every_known_one_is() {
    let (_, answer) = log_in(&with_names(b"X-com.example.foo=1\0Foo=1\0Y#x=1\0"), 0x87).unwrap();
    for line in ["X-com.example.foo=NotUnderstood", "Foo=NotUnderstood"] {
        assert!(answer.lines().any(|other| other == line), "{answer}");
    }
    // Every key of RFC 7143 §13 that a login may propose, as the standard lists them.
    for (key, value) in [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("MaxConnections", "1"),
        ("InitiatorAlias", "an alias"),
        ("InitialR2T", "Yes"),
        ("ImmediateData", "Yes"),
        ("MaxRecvDataSegmentLength", "8192"),
        ("MaxBurstLength", "262144"),
        ("FirstBurstLength", "65536"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "20"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "0"),
        ("SessionType", "Normal"),
        ("TaskReporting", "RFC3720"),
        ("iSCSIProtocolLevel", "1"),
        ("IFMarker", "No"),
        ("OFMarker", "No"),
        ("IFMarkInt", "2048"),
        ("OFMarkInt", "2048"),
        ("RDMAExtensions", "Yes"),
    ] {
        let (_, answer) = log_in(&with_names(format!("{key}={value}\0").as_bytes()), 0x87).unwrap();
        assert!(!answer.contains("NotUnderstood"), "{key}: {answer}");
    }
    let (_, answer) = log_in(&with_names(b"AuthMethod=None\0"), 0x00).unwrap();
    assert!(answer.contains("AuthMethod=None\n"));
}

#[test]
fn txt_10_answers_longer_than_their_questions_are_split_and_whole() {
    let mut client = connect(&target());
    let mut question = normal().text();
    question.extend(b"a=b\0".repeat(2000));
    let mut all = Vec::new();
    let mut text = &question[..];
    loop {
        let request = Frame::new(normal().request(0x87, client.exp_stat_sn), text);
        let (response, data) = client.login_exchange(&request).unwrap();
        assert!(data.len() <= 8192);
        all.extend(data);
        text = b"";
        if response.flags & 0x80 != 0 {
            break;
        }
        assert_eq!(response.flags & CONTINUE, CONTINUE);
    }
    assert_eq!(String::from_utf8(all).unwrap().matches("a=NotUnderstood\0").count(), 2000);
}

#[test]
fn txt_11_reserved_words_are_no_values() {
    for word in ["Reject", "Irrelevant", "NotUnderstood"] {
        for key in ["MaxBurstLength", "InitialR2T", "HeaderDigest", "MaxRecvDataSegmentLength", "TaskReporting"] {
            let text = format!("{key}={word}\0");
            assert_eq!(log_in(&with_names(text.as_bytes()), 0x87).unwrap_err(), Refused::Status(2, 0), "{key}={word}");
        }
        let mut client = alone(&normal());
        let text = format!("MaxRecvDataSegmentLength={word}\0");
        assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, text.as_bytes()), 0x04);
    }
}

#[test]
fn txt_12_of_a_list_the_first_value_that_is_known_is_chosen() {
    for (proposed, chosen, digest) in [
        ("Foo,CRC32C,None", "CRC32C", true),
        ("None,CRC32C", "None", false),
        ("CRC32C", "CRC32C", true),
        ("Foo,Bar", "Reject", false),
        ("crc32c,None", "None", false),
    ] {
        let mut client = connect(&target());
        let answers = client.login(&normal().key("HeaderDigest", proposed));
        assert!(answers.contains(&format!("HeaderDigest={chosen}\n")), "{proposed}: {answers}");
        client.take_attentions();
        assert_eq!(client.agreed().digests.header, digest);
    }
}

#[test]
fn txt_13_none_is_chosen_only_where_it_was_proposed() {
    let answer = log_in(&with_names(b"AuthMethod=CHAP\0"), 0x81);
    match answer {
        Err(refused) => assert_eq!(refused, Refused::Status(2, 1)),
        Ok((_, text)) => assert!(text.contains("AuthMethod=CHAP") || text.contains("AuthMethod=Reject"), "{text}"),
    }
    let (_, answer) = log_in(&with_names(b"HeaderDigest=Foo\0DataDigest=CRC32C\0"), 0x87).unwrap();
    assert!(answer.contains("HeaderDigest=Reject\n") && answer.contains("DataDigest=CRC32C\n"), "{answer}");
}

#[test]
fn txt_14_txt_15_answers_follow_their_result_functions() {
    let answer = |key: &str, value: &str| {
        let (_, answers) = log_in(&with_names(format!("{key}={value}\0").as_bytes()), 0x87).unwrap();
        let line = answers.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).map(str::to_owned);
        line.unwrap_or_default()
    };
    // From RFC 7143 §13: bounds and result function; then what this target offers.
    for (key, low, high, minimum, ours) in [
        ("MaxConnections", 1u64, 65_535u64, true, None),
        ("MaxBurstLength", 512, 16_777_215, true, Some(1 << 20)),
        ("FirstBurstLength", 512, 16_777_215, true, Some(256 << 10)),
        ("DefaultTime2Wait", 0, 3600, false, Some(2)),
        ("DefaultTime2Retain", 0, 3600, true, Some(20)),
        ("MaxOutstandingR2T", 1, 65_535, true, Some(8)),
        ("ErrorRecoveryLevel", 0, 2, true, None),
    ] {
        for value in [low, low + 1, high - 1, high] {
            let agreed: u64 = answer(key, &value.to_string()).parse().unwrap();
            match ours {
                Some(ours) => {
                    assert_eq!(agreed, if minimum { value.min(ours) } else { value.max(ours) }, "{key}={value}")
                }
                None => assert!(agreed <= value && agreed >= low, "{key}={value}: {agreed}"),
            }
        }
        for value in [low.checked_sub(1), Some(high + 1)].into_iter().flatten() {
            assert_eq!(answer(key, &value.to_string()), "Reject", "{key}={value}");
        }
    }
    for (key, value, result) in [
        ("InitialR2T", "Yes", "Yes"),
        ("InitialR2T", "No", "No"),
        ("ImmediateData", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("DataPDUInOrder", "Yes", "Yes"),
        ("DataPDUInOrder", "No", "Yes"),
        ("DataSequenceInOrder", "Yes", "Yes"),
        ("DataSequenceInOrder", "No", "Yes"),
        ("InitialR2T", "Maybe", "Reject"),
        ("ImmediateData", "yes", "Reject"),
    ] {
        assert_eq!(answer(key, value), result, "{key}={value}");
    }
}

#[test]
fn txt_16_a_negotiation_takes_effect_when_it_ends_and_not_at_all_when_it_fails() {
    let mut client = alone(&normal().key("MaxRecvDataSegmentLength", 1024));
    let pdus = |client: &mut Simulated| client.execute(&Command::read(0, 8)).data_in_pdus;
    assert_eq!(pdus(&mut client), 4);
    // A key of the login beside it, the key twice, a pair that is none, in one request and in two.
    for text in [
        &b"MaxRecvDataSegmentLength=512\0InitialR2T=Yes\0"[..],
        b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=2048\0",
        b"MaxRecvDataSegmentLength=512\0nothing\0",
    ] {
        assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, text), 0x04);
        assert_eq!(pdus(&mut client), 4);
    }
    let (first, _) = ask(&mut client, 2, 0, RESERVED_TAG, b"MaxRecvDataSegmentLength=512\0");
    assert_eq!(pdus(&mut client), 4, "it goes on");
    assert_eq!(refuse(&mut client, 2, FINAL, first.target_transfer_tag.get(), b"InitialR2T=Yes\0"), 0x04);
    assert_eq!(pdus(&mut client), 4, "it has failed");
    // Begun anew, it is forgotten.
    ask(&mut client, 3, 0, RESERVED_TAG, b"MaxRecvDataSegmentLength=512\0");
    ask(&mut client, 4, FINAL, RESERVED_TAG, b"Foo=1\0");
    assert_eq!(pdus(&mut client), 4, "it was reset");
    let (first, _) = ask(&mut client, 5, 0, RESERVED_TAG, b"MaxRecvDataSegmentLength=512\0");
    let (last, _) = ask(&mut client, 5, FINAL, first.target_transfer_tag.get(), b"");
    assert_eq!((last.flags, pdus(&mut client)), (FINAL, 8), "it has ended");
}

#[test]
fn txt_17_the_first_burst_is_never_above_the_burst() {
    for keys in [b"FirstBurstLength=65536\0MaxBurstLength=4096\0", b"MaxBurstLength=4096\0FirstBurstLength=65536\0"] {
        let (_, answer) = log_in(&with_names(keys), 0x87).unwrap();
        assert!(answer.contains("FirstBurstLength=4096\n") && answer.contains("MaxBurstLength=4096\n"), "{answer}");
    }
    // Not said at all, the default gives way too: a write of a burst and more is whole.
    let mut client = alone(&normal().key("MaxBurstLength", 1024).key("InitialR2T", "No"));
    assert_eq!(client.agreed().first_burst_length, 1024);
    client.good(&Command::write(0, &pattern(8192, 1)));
    assert_eq!(client.good(&Command::read(0, 16)), pattern(8192, 1));
    let login = normal().key("ErrorRecoveryLevel", 2).key("DataSequenceInOrder", "Yes").key("MaxOutstandingR2T", 8);
    let mut client = connect(&target());
    let answers = client.login(&login);
    assert!(!answers.contains("ErrorRecoveryLevel=0") || answers.contains("MaxOutstandingR2T=8"), "{answers}");
    if !answers.contains("ErrorRecoveryLevel=0") {
        assert!(answers.contains("MaxOutstandingR2T=1\n"), "{answers}");
    }
}

#[test]
fn txt_18_a_key_is_said_once() {
    let twice = with_names(b"MaxBurstLength=512\0MaxBurstLength=512\0");
    assert_eq!(log_in(&twice, 0x87).unwrap_err(), Refused::Status(2, 0), "in one PDU");
    for (first, second, flags) in [(0x04, 0x87, "in two PDUs of a stage"), (0x81, 0x87, "across stages")] {
        let mut client = connect(&target());
        let key: &[u8] = if first == 0x04 { b"DefaultTime2Wait=3\0" } else { b"InitiatorAlias=a\0" };
        client.login_exchange(&Frame::new(normal().request(first, 0), &with_names(key))).unwrap();
        let again = Frame::new(normal().request(second, client.exp_stat_sn), key);
        assert_eq!(client.login_exchange(&again).unwrap_err(), Refused::Status(2, 0), "{flags}");
    }
    let mut client = alone(&normal());
    assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, b"InitiatorAlias=a\0InitiatorAlias=b\0"), 0x04);
    let (first, _) = ask(&mut client, 2, 0, RESERVED_TAG, b"Foo=1\0");
    assert_eq!(refuse(&mut client, 2, FINAL, first.target_transfer_tag.get(), b"Foo=1\0"), 0x04);
    // What a target says may repeat: each TargetName has several addresses.
    let answer = String::from_utf8(client.text(b"SendTargets=\0")).unwrap();
    assert_eq!(answer.matches("TargetAddress=").count(), 2);
}

#[test]
fn txt_19_a_negotiation_may_take_many_exchanges_and_not_without_end() {
    let keys = ["HeaderDigest=None", "InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=4096", "MaxConnections=1"];
    let mut client = connect(&target());
    client.login_exchange(&Frame::new(normal().request(0x04, 0), &normal().text())).unwrap();
    for key in keys.iter().chain(&["DefaultTime2Wait=2", "DefaultTime2Retain=0", "ErrorRecoveryLevel=0"]) {
        let text = format!("{key}\0");
        client.login_exchange(&Frame::new(normal().request(0x04, client.exp_stat_sn), text.as_bytes())).unwrap();
    }
    let last = Frame::new(normal().request(0x87, client.exp_stat_sn), b"");
    assert_eq!(client.login_exchange(&last).unwrap().0.flags, 0x87);
    assert_eq!(client.agreed().max_burst_length, 4096);
    let mut client = connect(&target());
    let mut exchanges = 0;
    client.login_exchange(&Frame::new(normal().request(0x04, 0), &normal().text())).unwrap();
    while client.login_exchange(&Frame::new(normal().request(0x04, client.exp_stat_sn), b"")).is_ok() {
        exchanges += 1;
        assert!(exchanges < 10_000);
    }
    assert!(exchanges >= 6);
}

#[test]
fn txt_20_no_key_was_invented() {
    let defined = |name: &str| !["X-", "X#", "Y#", "Z#"].iter().any(|start| name.starts_with(start));
    assert!(KEYS.iter().all(|key| defined(key.name)));
    // Nothing of the kind is sent either: see what a login and its text requests are answered with.
    let mut client = connect(&target());
    let mut answers = client.login(&normal().key("X-a", "c"));
    answers += &String::from_utf8(client.text(b"SendTargets=\0")).unwrap().replace('\0', "\n");
    let keys = answers.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| *key != "X-a");
    for (key, _) in keys {
        assert!(defined(key), "{answers}");
    }
    client.take_attentions();
}

#[test]
fn txt_04_text_is_taken_up_to_its_bound_and_not_beyond() {
    let text = [b"InitiatorAlias=".as_slice(), &[b'a'; 255], b"\0"].concat();
    let fill = |bytes: usize| -> Vec<u8> {
        let mut out = Vec::new();
        for number in 0.. {
            let pair = format!("X-{number}={}\0", "a".repeat(200));
            if out.len() + pair.len() > bytes {
                return out;
            }
            out.extend(pair.as_bytes());
        }
        out
    };
    let mut client = alone(&normal());
    for bytes in [8192, 60 << 10] {
        let (whole, mut tag, mut taken) = (fill(bytes), RESERVED_TAG, 0);
        while whole.len() - taken > 4096 {
            let (answer, _) = ask(&mut client, 1, CONTINUE, tag, &whole[taken..taken + 4096]);
            (tag, taken) = (answer.target_transfer_tag.get(), taken + 4096);
        }
        let (answer, _) = ask(&mut client, 1, FINAL, tag, &whole[taken..]);
        assert_ne!(answer.target_transfer_tag.get(), tag.wrapping_add(1));
    }
    assert_eq!(client.text(&text), b"");
    let limits = SessionLimits { text_bytes: 8192, keys: 64, ..SessionLimits::default() };
    let setup = Setup { units: vec![Ram::new(512, BLOCKS)], limits, ..Setup::default() };
    let mut client = session(&Shared::with(setup), &normal());
    let (first, _) = ask(&mut client, 1, CONTINUE, RESERVED_TAG, &[b'a'; 8000]);
    assert_eq!(refuse(&mut client, 1, FINAL, first.target_transfer_tag.get(), &[b'a'; 193]), 0x0a);
    let keys: String = (0..65).map(|number| format!("X-{number}=1\0")).collect();
    assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, keys.as_bytes()), 0x04);
    goes_on(&mut client);
    let _ = TextResponse::OPCODE;
}
