//! KEY, PL2: what is proposed, what holds then, and when.

use crate::help::{LAST, answered, entering, goes_on, good, outcome, pattern, refused, with};
use iscsi::key::TaskReporting;
use iscsi::session::SessionKind;
use iscsi::wire::{FINAL, RESERVED_TAG, TextRequest};
use sim::scripted::driven::Entry;
use sim::scripted::{data_in, response};

/// Lines that a login says, as `key=value`.
fn has(said: &str, key: &str) -> Option<String> {
    said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

#[test]
fn key_02_key_09_key_10_key_11_key_12_what_is_wanted_is_proposed_and_the_answer_holds() {
    let (driven, mut target, request, said) = entering(|wanted| {
        let session = &mut wanted.offers.session;
        (session.max_connections, session.max_outstanding_r2t, session.error_recovery_level) = (7, 5, 2);
        (session.max_burst_length, session.first_burst_length) = (20_000, 10_000);
        (session.default_time_2_wait, session.default_time_2_retain) = (3, 30);
    });
    for (key, value) in [
        ("MaxConnections", "7"),
        ("MaxOutstandingR2T", "5"),
        ("ErrorRecoveryLevel", "2"),
        ("MaxBurstLength", "20000"),
        ("FirstBurstLength", "10000"),
        ("DefaultTime2Wait", "3"),
        ("DefaultTime2Retain", "30"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
    ] {
        assert_eq!(has(&said, key).as_deref(), Some(value), "{key}");
    }
    let keys = [
        ("MaxConnections", "2"),
        ("MaxOutstandingR2T", "1"),
        ("ErrorRecoveryLevel", "1"),
        ("MaxBurstLength", "8192"),
        ("FirstBurstLength", "10000"),
        ("DefaultTime2Wait", "9"),
        ("DefaultTime2Retain", "0"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
    ];
    target.answer_login(&request, LAST, (0, 0), &keys);
    assert_eq!(driven.entry(0), Entry::In);
    let session = driven.inner().logged_in.clone().expect("a login").session;
    assert_eq!((session.max_connections, session.max_outstanding_r2t, session.error_recovery_level), (2, 1, 1));
    assert_eq!((session.default_time_2_wait, session.default_time_2_retain), (9, 0));
    assert_eq!((session.max_burst_length, session.first_burst_length), (8192, 8192), "never above MaxBurstLength");
    // In discovery most of them mean nothing, and are not proposed.
    let (.., said) = entering(|wanted| (wanted.kind, wanted.target_name) = (SessionKind::Discovery, None));
    assert_eq!(has(&said, "SessionType").as_deref(), Some("Discovery"));
    for key in ["MaxConnections", "InitialR2T", "FirstBurstLength", "MaxOutstandingR2T", "TargetName"] {
        assert_eq!(has(&said, key), None, "{key}");
    }
}

#[test]
fn key_07_the_four_combinations_decide_which_data_goes_unasked() {
    for (initial_r2t, immediate_data, along, unasked) in
        [(true, true, 1024, 1024), (true, false, 0, 0), (false, true, 1024, 3000), (false, false, 0, 3000)]
    {
        let (driven, mut target) = with(|wanted| {
            wanted.offers = crate::help::offers(1024);
            let session = &mut wanted.offers.session;
            (session.initial_r2t, session.immediate_data) = (initial_r2t, immediate_data);
            session.first_burst_length = 3000;
        });
        redeclare(&driven, &mut target, "1024");
        let data = pattern(5000);
        driven.write(&data);
        let (command, mut came) = target.command();
        assert_eq!((came.len(), command.flags & FINAL != 0), (along, along == unasked));
        if unasked > along {
            came.extend(target.data_out(RESERVED_TAG));
        }
        assert_eq!(came, data[..unasked]);
        for (r2t_sn, from) in (unasked..5000).step_by(4096).enumerate() {
            came.extend(target.fetch(&command, r2t_sn as u32, from as u32, 4096.min(5000 - from) as u32));
        }
        assert_eq!(came, data);
        target.good(command.initiator_task_tag.get());
        assert_eq!(outcome(&driven), good(0, 5000));
    }
}

/// The target takes other data segments from now on.
fn redeclare(driven: &sim::scripted::Driven, target: &mut crate::help::Played, length: &str) {
    let c = driven.connection(0);
    driven.session().send_text(c, b"MaxRecvDataSegmentLength=1024\0").expect("a text");
    let (request, _) = target.expect::<TextRequest>();
    target.text(&request, FINAL, RESERVED_TAG, format!("MaxRecvDataSegmentLength={length}\0").as_bytes());
    driven.events();
    target.enter(length.parse().unwrap_or(1024));
}

#[test]
fn key_08_lengths_are_each_directions_own_and_what_is_declared_anew_holds() {
    let (_, _, _, said) = entering(|wanted| wanted.offers.max_recv_data_segment_length = 70_000);
    assert_eq!(has(&said, "MaxRecvDataSegmentLength").as_deref(), Some("70000"));
    // Where the target declares nothing, 8,192 holds; the judge sees to it.
    let (driven, mut target, request, _) = entering(|wanted| wanted.offers.session.initial_r2t = false);
    target.answer_login(&request, LAST, (0, 0), &[("InitialR2T", "No")]);
    target.enter(8192);
    target.news();
    driven.write(&pattern(20_000));
    let (_, along) = target.command();
    assert_eq!(along.len(), 8192);
    target.data_out(RESERVED_TAG);
    // Lengths that there are not change nothing.
    let (driven, mut target) = with(|_| {});
    redeclare(&driven, &mut target, "512");
    for length in ["511", "16777216", "much", "-1", ""] {
        redeclare(&driven, &mut target, length);
        target.enter(512);
        driven.write(&pattern(600));
        let (command, along) = target.command();
        assert_eq!(along.len(), 512, "{length}");
        target.data_out(RESERVED_TAG);
        target.good(command.initiator_task_tag.get());
        assert_eq!(outcome(&driven), good(0, 600));
    }
}

#[test]
fn key_14_task_reporting_is_agreed_from_what_was_offered_and_unknown_to_old_targets() {
    let fast = |wanted: &mut iscsi::login::initiator::Wanted| {
        wanted.offers.session.task_reporting = TaskReporting::FastAbort;
    };
    for (value, agreed) in [
        ("FastAbort", TaskReporting::FastAbort),
        ("ResponseFence", TaskReporting::ResponseFence),
        ("RFC3720", TaskReporting::Rfc3720),
        ("NotUnderstood", TaskReporting::Rfc3720),
    ] {
        let (driven, entry) = answered(fast, &[("TaskReporting", value)]);
        assert_eq!(entry, Entry::In, "{value}");
        assert_eq!(driven.inner().logged_in.clone().expect("a login").session.task_reporting, agreed);
    }
    refused(fast, &[("TaskReporting", "Slow")], "TaskReporting");
    refused(|_| {}, &[("TaskReporting", "FastAbort")], "TaskReporting");
}

#[test]
fn key_15_pl2_01_level_1_is_not_even_mentioned_and_what_is_of_level_2_is_not_sent() {
    let (.., said) = entering(|wanted| wanted.offers.session.protocol_level = 1);
    assert_eq!(has(&said, "iSCSIProtocolLevel"), None, "peers of RFC 3720 do not know it");
    let (_, _, _, said) = entering(|wanted| wanted.offers.session.protocol_level = 2);
    assert_eq!(has(&said, "iSCSIProtocolLevel").as_deref(), Some("2"));
    refused(|wanted| wanted.offers.session.protocol_level = 1, &[("iSCSIProtocolLevel", "2")], "iSCSIProtocolLevel");
    refused(|_| {}, &[("iSCSIProtocolLevel", "32")], "iSCSIProtocolLevel");
    for level in [1, 2] {
        let (driven, mut target) = with(|wanted| wanted.offers.session.protocol_level = level);
        driven.read(8);
        let (command, _) = target.command();
        assert_eq!(command.priority, 0, "no priority is given, at either level");
        // What a target says of level 2 at level 1 is a reserved field.
        let mut header = response(command.initiator_task_tag.get());
        (header.reserved, header.exp_data_sn) = ([0x12; 8], 1.into());
        target.say(data_in(command.initiator_task_tag.get(), 0, 0), &[1; 8]);
        target.say(header, &[]);
        assert_eq!(outcome(&driven), good(8, 0));
    }
}

#[test]
fn pl2_07_sense_data_comes_with_any_status() {
    let (driven, mut target) = with(|_| {});
    driven.read(8);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    target.say(data_in(tag, 0, 0), &[1; 8]);
    let mut header = response(tag);
    header.exp_data_sn = 1.into();
    target.say(header, &[0, 4, 0x72, 0, 0, 0]);
    match outcome(&driven) {
        iscsi::initiator::Outcome::Answered { status: 0, sense, .. } => assert_eq!(sense, [0x72, 0, 0, 0]),
        other => panic!("{other:?}"),
    }
    goes_on(&driven, &mut target);
}

#[test]
fn key_17_a_connection_that_joins_changes_nothing_of_the_session() {
    let session = iscsi::key::SessionParameters::default();
    let joins = |wanted: &mut iscsi::login::initiator::Wanted| {
        (wanted.joins, wanted.cid) = (Some((0x99, iscsi::key::SessionParameters::default())), 2);
    };
    let (.., said) = entering(joins);
    for line in said.lines() {
        let (key, _) = line.split_once('=').expect("a pair");
        let leading = iscsi::key::find(key).is_some_and(|key| key.when == iscsi::key::When::Leading);
        assert!(!leading, "{key} is said with the leading connection only");
    }
    for key in ["MaxBurstLength=512", "InitialR2T=No", "ErrorRecoveryLevel=2", "TaskReporting=RFC3720"] {
        let (key, value) = key.split_once('=').expect("a pair");
        refused(joins, &[(key, value)], key);
    }
    let (driven, entry) = answered(joins, &[("MaxRecvDataSegmentLength", "1024")]);
    assert_eq!(entry, Entry::In);
    assert_eq!(driven.inner().logged_in.clone().expect("a login").session, session);
    // In the security stage there are no operational keys.
    let (driven, mut target, request, _) =
        entering(|wanted| wanted.authentication = iscsi::login::initiator::Authentication::None);
    target.answer_login(&request, 0x81, (0, 0), &[("AuthMethod", "None"), ("MaxBurstLength", "512")]);
    assert!(matches!(driven.entry(0), Entry::Failed(_)));
    // Nor do keys of the login come in a text response and change something.
    let (driven, mut target) = with(|_| {});
    let before = driven.session().parameters().clone();
    let c = driven.connection(0);
    driven.session().send_text(c, b"SendTargets=All\0").expect("a text");
    let (request, _) = target.expect::<TextRequest>();
    target.text(&request, FINAL, RESERVED_TAG, b"MaxBurstLength=512\0HeaderDigest=CRC32C\0InitialR2T=Yes\0");
    driven.events();
    assert_eq!(*driven.session().parameters(), before);
    goes_on(&driven, &mut target);
}
