//! NAM, LOG, CHP, SES, DSC: getting in, being sent elsewhere, and being refused.

use crate::help::{capacity, options, plain, run, serve};
use initiator::{Chap, Error, Options, discovery};
use iscsi::wire::LoginRequest;
use sim::scripted::{Accepts, Server};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn nam_01_a_node_has_one_name_on_every_connection_and_other_secrets_for_its_other_role() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let server = Server::start(move |_, mut target| {
        let asked = target.login(&plain());
        seen.lock().unwrap().push(asked.initiator_name);
        target.news();
        serve(&mut target, |target, command, _| capacity(target, command));
    });
    run(async {
        let wanted = options(server.address()).connections(3);
        let session = wanted.clone().connect().await.unwrap();
        session.unit(0).capacity().await.unwrap();
        while names.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        session.logout().await.unwrap();
        discovery::send_targets(&wanted).await.unwrap();
    });
    let names = names.lock().unwrap();
    assert!(names.len() == 4 && names.iter().all(|name| *name == initiator::INITIATOR_NAME), "{names:?}");
    let same = Chap::new("alice", "one-secret-for-both").mutual("target", "one-secret-for-both");
    let error = run(options(server.address()).chap(same).connect()).unwrap_err();
    assert!(error.to_string().contains("secret"), "{error}");
}

#[test]
fn nam_08_log_16_redirections_to_addresses_of_every_kind_are_followed_before_and_after_authentication() {
    let there = Server::start(|_, mut target| {
        target.login(&plain());
        target.news();
        serve(&mut target, |target, command, _| capacity(target, command));
    });
    let port = there.address().port();
    for address in [format!("127.0.0.1:{port},1"), format!("localhost:{port}"), format!("[::ffff:127.0.0.1]:{port},7")]
    {
        for late in [false, true] {
            let to = address.clone();
            let here = Server::start(move |_, mut target| match late {
                false => target.redirect(&to),
                true => {
                    let (request, _) = target.expect::<LoginRequest>();
                    target.answer_login(&request, 0x81, (0, 0), &[("AuthMethod", "None")]);
                    target.redirect(&to);
                }
            });
            let capacity = run(async {
                let session = options(here.address()).connect().await?;
                session.unit(0).capacity().await
            });
            assert_eq!(capacity.map(|capacity| capacity.block_length), Ok(512), "{address} {late}");
        }
    }
}

#[test]
fn log_16_redirections_without_end_are_ended_and_those_to_nowhere_are_told() {
    let own = Arc::new(Mutex::new(String::new()));
    let to = Arc::clone(&own);
    let server = Server::start(move |_, mut target| target.redirect(&to.lock().unwrap()));
    for (address, words) in
        [(server.address().to_string(), "redirections"), ("not:an:address".into(), ""), (String::new(), "")]
    {
        *own.lock().unwrap() = address.clone();
        let begun = Instant::now();
        let error = run(options(server.address()).connect()).unwrap_err();
        assert!(error.to_string().contains(words), "{address}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(server.accepted() < 40, "{}", server.accepted());
}

#[test]
fn log_17_a_refused_login_is_told_at_once_and_what_may_pass_is_tried_again_in_recovery() {
    for (class, detail, passes) in [(2, 1, false), (2, 2, false), (2, 3, false), (3, 1, true), (3, 2, true)] {
        let server = Server::start(move |_, mut target| target.refuse(class, detail));
        let begun = Instant::now();
        let error = run(options(server.address()).connect()).unwrap_err();
        assert!(
            matches!(error, Error::LoginRefused { class: c, detail: d, .. } if (c, d) == (class, detail)),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(server.accepted(), 1, "nobody asked for a second attempt");
        assert_eq!(error.is_transport(), passes, "another path or another time may help: {error}");
    }
    // The session is lost, and its target says twice that it has no time: there is a pause before each attempt.
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let server = Server::start(move |number, mut target| {
        seen.lock().unwrap().push(Instant::now());
        match number {
            0 => {
                target.login(&plain());
                target.news();
                // Closed with the first command under way.
                let _ = target.receive();
            }
            1..=3 => target.refuse(3, 1),
            _ => {
                target.login(&plain());
                target.news();
                serve(&mut target, |target, command, _| capacity(target, command));
            }
        }
    });
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        assert_eq!(session.unit(0).capacity().await.unwrap().block_length, 512);
    });
    let times = times.lock().unwrap();
    let pauses: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.len() == 4 && pauses[3] > pauses[2] && pauses[3] >= Duration::from_millis(200), "{pauses:?}");
}

#[test]
fn log_17_what_the_initiator_did_wrong_is_not_asked_again_and_again() {
    let server = Server::start(|number, mut target| match number {
        0 => {
            target.login(&plain());
            target.news();
            let _ = target.receive();
        }
        _ => target.refuse(2, 3),
    });
    let error = run(async {
        let session = options(server.address()).replacement_timeout(Duration::from_secs(6)).connect().await.unwrap();
        session.unit(0).capacity().await.unwrap_err()
    });
    assert!(matches!(error, Error::Gone { .. }) && error.to_string().contains("no such target"), "{error}");
    assert!(server.accepted() <= 4, "{} logins in six seconds", server.accepted());
}

#[test]
fn log_19_a_login_that_does_not_end_is_given_up_in_time() {
    let scenes: [fn(sim::scripted::Target<std::net::TcpStream>); 4] = [
        // Silence before anything, half a header, half of the text, one answer without end.
        |mut target| drop(target.expect_closed()),
        |mut target| {
            let (request, _) = target.expect::<LoginRequest>();
            let header = target.login_response(&request, 0x81, (0, 0));
            target.send_bytes(&zerocopy_bytes(&header)[..20]);
            target.expect_closed();
        },
        |mut target| {
            let (request, _) = target.expect::<LoginRequest>();
            let mut header = target.login_response(&request, 0x81, (0, 0));
            header.data_segment_length = [0, 0, 200];
            target.send_bytes(&zerocopy_bytes(&header));
            target.send_bytes(b"AuthMethod=None\0");
            target.expect_closed();
        },
        |mut target| {
            // Each answer comes just before one would lose patience.
            while let Ok(frame) = target.receive() {
                let request = *frame.view::<LoginRequest>().expect("a login request");
                std::thread::sleep(Duration::from_millis(400));
                target.answer_login(&request, 0x00, (0, 0), &[]);
            }
        },
    ];
    for (number, scene) in scenes.into_iter().enumerate() {
        let server = Server::start(move |_, target| scene(target));
        let limited = Options { login_timeout: Duration::from_secs(1), ..options(server.address()) };
        let begun = Instant::now();
        let error = run(limited.connect()).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. } | Error::Protocol { .. }), "{number}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{number}: {:?}", begun.elapsed());
    }
}

fn zerocopy_bytes<P: iscsi::wire::Pdu>(header: &P) -> Vec<u8> {
    sim::Frame { header: header.as_bytes().to_vec(), data: Vec::new() }.header
}

#[test]
fn chp_07_no_challenge_comes_twice_and_each_is_as_long_as_the_digest() {
    let challenges = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&challenges);
    let server = Server::start(move |_, mut target| {
        let (request, _) = target.expect::<LoginRequest>();
        target.answer_login(&request, 0, (0, 0), &[("AuthMethod", "CHAP")]);
        let (request, _) = target.expect::<LoginRequest>();
        target.answer_login(&request, 0, (0, 0), &[("CHAP_A", "7"), ("CHAP_I", "1"), ("CHAP_C", "0x1122334455667788")]);
        let (request, data) = target.expect::<LoginRequest>();
        let said = String::from_utf8(data).unwrap();
        let challenge = said.split('\0').find_map(|line| line.strip_prefix("CHAP_C=0x").map(str::to_owned));
        seen.lock().unwrap().push(challenge.expect("a challenge in hexadecimal"));
        target.answer_login(&request, 0, (2, 1), &[]);
    });
    for _ in 0..20 {
        let chap = Chap::new("alice", "alice-secret-12").mutual("target", "target-secret-34");
        run(options(server.address()).chap(chap).connect()).unwrap_err();
    }
    let mut challenges = challenges.lock().unwrap().clone();
    assert!(challenges.iter().all(|challenge| challenge.len() >= 64), "{challenges:?}");
    challenges.sort();
    challenges.dedup();
    assert_eq!(challenges.len(), 20);
}

#[test]
fn ses_11_a_session_that_comes_back_has_the_isid_that_it_had() {
    let isids = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&isids);
    let server = Server::start(move |_, mut target| {
        let asked = target.login(&plain());
        seen.lock().unwrap().push((asked.isid, asked.tsih));
        target.news();
        // Two commands of each connection are answered.
        let mut left = 2;
        serve(&mut target, |target, command, _| {
            left -= 1;
            left >= 0 && capacity(target, command)
        });
    });
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        for _ in 0..6 {
            session.unit(0).capacity().await.unwrap();
        }
        let other = options(server.address()).connect().await.unwrap();
        assert_ne!(other.information().isid, session.information().isid, "another session is another port");
        let given = [0x80, 1, 2, 3, 4, 5];
        let chosen = options(server.address()).isid(given).connect().await.unwrap();
        assert_eq!(chosen.information().isid, given);
        while isids.lock().unwrap().len() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let isids = isids.lock().unwrap();
    assert!(isids.len() >= 5, "{isids:?}");
    assert!(isids[..3].iter().all(|one| *one == (isids[0].0, 0)), "{isids:?}");
    assert_eq!(isids[0].0[0] & 0xc0, 0x80, "of the random kind");
}

#[test]
fn dsc_07_answers_of_a_portal_are_bounded_and_strange_lines_disturb_nothing() {
    let text = |text: &'static str| {
        Server::start(move |_, mut target| {
            target.login(&Accepts::default());
            let (request, _) = target.expect::<iscsi::wire::TextRequest>();
            target.text(&request, 0x80, u32::MAX, text.replace('\n', "\0").as_bytes());
            serve(&mut target, |_, _, _| true);
        })
    };
    let server = text(
        "TargetName=iqn.2026-01.org.example:a\nTargetAddress=10.0.0.1:3260,1\nTargetAddress=10.0.0.1:3260,1\n\
         X-com.example.color=blue\nTargetAddress=[2001:db8::1]:3261,2\nTargetAddress=storage.example,3\n\
         TargetName=iqn.2026-01.org.example:b\nTargetName=iqn.2026-01.org.example:a\nTargetAddress=10.0.0.1:3260,1\n",
    );
    let found = run(discovery::send_targets(&options(server.address()).clone())).unwrap();
    let names: Vec<String> = found.iter().map(|target| target.name.to_string()).collect();
    assert_eq!(names, ["iqn.2026-01.org.example:a", "iqn.2026-01.org.example:b"]);
    let portals: Vec<String> = found[0].portals.iter().map(ToString::to_string).collect();
    assert_eq!(portals, ["10.0.0.1:3260,1", "[2001:db8::1]:3261,2", "storage.example:3260,3"]);
    // Text without end, of any kind.
    for piece in [&b""[..], b"TargetAddress=10.0.0.1,1\0", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        let piece = piece.repeat(250);
        let server = Server::start(move |_, mut target| {
            target.login(&Accepts::default());
            while let Ok(frame) = target.receive() {
                match frame.view::<iscsi::wire::TextRequest>() {
                    Some(request) => target.text(request, 0x40, 1, &piece),
                    None => return,
                }
            }
        });
        let limited = Options { login_timeout: Duration::from_secs(2), ..options(server.address()) };
        let begun = Instant::now();
        run(discovery::send_targets(&limited)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}

#[test]
fn chp_01_a_target_that_fails_at_the_algorithm_that_it_chose_is_offered_md5() {
    let offers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&offers);
    let server = Server::start(move |_, mut target| {
        let (request, _) = target.expect::<LoginRequest>();
        target.answer_login(&request, 0, (0, 0), &[("AuthMethod", "CHAP")]);
        let (request, data) = target.expect::<LoginRequest>();
        let list = String::from_utf8(data).unwrap().replace("CHAP_A=", "").replace('\0', "");
        let chosen = list.split(',').find(|one| ["7", "5"].contains(one)).unwrap().to_owned();
        seen.lock().unwrap().push(list);
        let challenge = [("CHAP_A", chosen.as_str()), ("CHAP_I", "1"), ("CHAP_C", "0x1122334455667788")];
        target.answer_login(&request, 0, (0, 0), &challenge);
        let (request, _) = target.expect::<LoginRequest>();
        // As tgt 1.0.85 does it; the second time it is the secret that is wrong.
        target.answer_login(&request, 0, if chosen == "7" { (2, 0) } else { (2, 1) }, &[]);
    });
    let chap = Chap::new("alice", "alice-secret-12");
    let error = run(options(server.address()).chap(chap).connect()).unwrap_err();
    assert!(matches!(error, Error::LoginRefused { class: 2, detail: 1, .. }), "{error}");
    let offers = offers.lock().unwrap();
    assert!(offers.len() == 2 && offers[0].contains('7') && offers[1] == "5", "{offers:?}");
}
