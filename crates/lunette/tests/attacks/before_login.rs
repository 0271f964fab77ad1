//! What anybody can do who reaches the portal.

use crate::siege::{Siege, alone, daemon, door, is_closed_within, session, settle, source, struck};
use iscsi::wire::{BHS_BYTES, CONTINUE, LoginRequest, Pdu, TRANSIT};
use sim::daemon::TARGET;
use sim::raw::{Client, Login, Refused, connect_from};
use sim::{Digests, Frame, Random};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The first request of a login, as bytes, with this flags byte and text.
fn request(flags: u8, text: &[u8]) -> Vec<u8> {
    Frame::new(Login::normal(TARGET).request(flags, 0), text).encode(Digests::default())
}

#[test]
fn two_thousand_half_open_logins() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let whole = request(0x87, &Login::normal(TARGET).text());
    let mut crowd: Vec<TcpStream> = Vec::new();
    siege.steps(200, |step| {
        for at in step * 10..step * 10 + 10 {
            // From one address, then from many; with nothing said, a part of a header, or all but the last byte.
            let from = if at < 1000 { source(9) } else { source(10 + (at % 100) as u8) };
            let Ok(mut stream) = connect_from(from, daemon.address()) else { continue };
            let said = [0, 7, 47, whole.len() - 1][at % 4];
            let _ = stream.write_all(&whole[..said]);
            crowd.push(stream);
        }
    });
    assert_eq!(crowd.len(), 2000);
    siege.watch(Duration::from_secs(1));
    let at_the_door = door(&daemon)["at_the_door"].as_u64().unwrap();
    assert!((64..=1024).contains(&at_the_door), "{at_the_door} at the door");
    assert!(struck(&daemon, "logins-by-address") >= 900 && struck(&daemon, "logins") > 0);
    drop(crowd);
    siege.end();
}

/// LOG-18 too: what has not logged in holds next to nothing.
#[test]
fn log_18_an_idle_connection_costs_less_than_16_kib_and_commits_nothing() {
    let _alone = alone();
    let daemon = daemon(&["logins=4000", "logins-by-address=4000"]);
    let mut siege = Siege::begin(&daemon);
    let before = daemon.resident_bytes().unwrap();
    let first = request(0x04, &Login::normal(TARGET).text());
    let mut crowd: Vec<TcpStream> = Vec::new();
    // Nothing said, a part of a header, a header that announces 8 KiB, a whole request with more to come.
    let announced = Frame::new(Login::normal(TARGET).request(0x04, 0), &[b'a'; 8192]).encode(Digests::default());
    let said = [&[][..], &first[..30], &announced[..BHS_BYTES + 10], &first];
    siege.steps(200, |step| {
        for at in step * 10..step * 10 + 10 {
            let mut stream = connect_from(source(9), daemon.address()).unwrap();
            stream.write_all(said[at % 4]).unwrap();
            crowd.push(stream);
        }
    });
    let end = Instant::now() + Duration::from_secs(10);
    while door(&daemon)["at_the_door"].as_u64().unwrap() < 2000 {
        assert!(Instant::now() < end, "{}", door(&daemon)["at_the_door"]);
    }
    let each = daemon.resident_bytes().unwrap().saturating_sub(before) / 2000;
    println!("{each} bytes for a connection in its login");
    assert!(each < 16 << 10, "{each} bytes for a connection in its login");
    assert!(door(&daemon)["sessions"].as_u64().unwrap() <= 2, "none of them is a session");
    drop(crowd);
    siege.end();
}

/// LOG-19: bounded from the first to the last byte, whatever comes between.
#[test]
fn log_19_a_login_that_is_not_finished_is_closed_within_16_seconds() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let whole = request(0x87, &Login::normal(TARGET).text());
    let security = request(0x00, &[Login::normal(TARGET).text(), b"AuthMethod=None\0".to_vec()].concat());
    let operational = request(0x81, b"");
    let begun = Instant::now();
    let say = |bytes: &[u8]| {
        let mut stream = connect_from(source(9), daemon.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    // After each exchange, and in the middle of one.
    let silent = [
        say(b""),
        say(&whole[..20]),
        say(&whole[..60]),
        say(&security),
        say(&[&security[..], &operational].concat()),
        say(&[&security[..], &operational[..40]].concat()),
    ];
    let mut trickling = [say(b""), say(b""), say(&security)];
    for at in 0..14 {
        siege.watch(Duration::from_secs(1).saturating_sub(begun.elapsed().saturating_sub(Duration::from_secs(at))));
        for stream in &mut trickling {
            let _ = stream.write_all(&whole[at as usize..at as usize + 1]);
        }
    }
    for mut stream in silent.into_iter().chain(trickling) {
        let left = Duration::from_secs(16).saturating_sub(begun.elapsed());
        assert!(is_closed_within(&mut stream, left), "it is open after {:?}", begun.elapsed());
    }
    assert!(begun.elapsed() > Duration::from_secs(14), "nobody is closed early");
    assert!(struck(&daemon, "login-time") >= 9);
    siege.end();
}

/// LOG-14: whoever is refused is told, and hears the end at once.
#[test]
fn log_14_a_refused_login_is_closed_behind_its_status() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut client = Client::connect_from(source(9), daemon.address());
    let login = Login::normal("iqn.2026-01.org.example:none");
    assert_eq!(client.try_login(&login), Err(Refused::Status(2, 3)));
    let begun = Instant::now();
    client.expect_closed();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // Requests that follow are not answered, and do not take the status away.
    let mut client = Client::connect_from(source(9), daemon.address());
    let frame = Frame::new(login.request(0x87, 0), &login.text());
    client.send_together(&[frame.clone(), frame.clone(), frame]);
    let answers = client.expect_closed();
    let statuses: Vec<_> = answers.iter().map(|answer| (answer.summary(), answer.opcode())).collect();
    assert_eq!(answers.len(), 1, "{statuses:?}");
    settle(&daemon, 0);
}

#[test]
fn text_without_end() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    siege.steps(60, |step| {
        let mut stream = connect_from(source(9), daemon.address()).unwrap();
        let mut sent = 0;
        // Written without waiting for answers, until the target has had enough.
        let text = if step % 2 == 0 { [b'a'; 8000] } else { [0; 8000] };
        let request = request(CONTINUE | 0x04, &text);
        while sent < 40 && stream.write_all(&request).is_ok() {
            sent += 1;
        }
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)), "after {sent} requests");
    });
    assert_eq!(struck(&daemon, "text-bytes"), 60);
    siege.end();
}

/// TXT-19: six exchanges at least, and not without end.
#[test]
fn txt_19_a_login_may_take_many_exchanges_and_not_without_end() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let login = Login::normal(TARGET);
    let mut client = Client::connect_from(source(9), daemon.address());
    client.login_exchange(&Frame::new(login.request(0x04, 0), &login.text())).unwrap();
    for key in ["MaxBurstLength=65536", "InitialR2T=No", "ImmediateData=No", "FirstBurstLength=512", "MaxConnections=1"]
    {
        let frame = Frame::new(login.request(0x04, client.exp_stat_sn), format!("{key}\0").as_bytes());
        client.login_exchange(&frame).unwrap();
    }
    client.login_exchange(&Frame::new(login.request(0x87, client.exp_stat_sn), b"")).unwrap();
    client.logout();
    let mut client = Client::connect_from(source(9), daemon.address());
    client.login_exchange(&Frame::new(login.request(0x04, 0), &login.text())).unwrap();
    let mut exchanges = 1;
    let refused = loop {
        match client.login_exchange(&Frame::new(login.request(0x04, client.exp_stat_sn), b"")) {
            Ok(_) => exchanges += 1,
            Err(refused) => break refused,
        }
        assert!(exchanges < 10_000);
    };
    assert_eq!((refused, exchanges), (Refused::Status(2, 0), 64));
    assert_eq!(struck(&daemon, "exchanges"), 1);
}

/// PDU-06 too: nothing is set aside for what is only announced.
#[test]
fn pdu_06_lengths_that_lie_cost_nothing() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let mut held = Vec::new();
    siege.steps(400, |step| {
        let mut header = Login::normal(TARGET).request(0x87, 0);
        // 16 MiB with nothing behind, 8,193 bytes; additional headers that are not there.
        match step % 3 {
            0 => header.set_data_segment_bytes((1 << 24) - 1),
            1 => header.set_data_segment_bytes(8193),
            _ => header.total_ahs_length = 255,
        }
        let mut stream = connect_from(source(9), daemon.address()).unwrap();
        stream.write_all(zerocopy::IntoBytes::as_bytes(&header)).unwrap();
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)), "it waits for what was announced");
        held.push(stream);
    });
    let failed = door(&daemon)["logins"]["failed"]["protocol"].as_u64().unwrap();
    assert_eq!(failed, 400);
    drop(held);
    siege.end();
}

#[test]
fn a_hundred_thousand_random_pdus_before_login() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let mut random = Random::new(41);
    let (mut sent, mut streams) = (0, Vec::new());
    siege.steps(2000, |step| {
        let mut bytes = Vec::new();
        for _ in 0..50 {
            let mut header: Vec<u8> = random.bytes(BHS_BYTES);
            // Most of them are taken for the requests of a login, and some go on for a while.
            if step % 4 > 0 {
                let mut request = Login::normal(TARGET).request([0x00, 0x04, 0x81, 0x87][random.size(4)], 0);
                request.version_min = if random.once_in(8) { random.number() as u8 } else { 0 };
                header = zerocopy::IntoBytes::as_bytes(&request).to_vec();
                for _ in 0..random.size(3) {
                    header[random.size(BHS_BYTES)] = random.number() as u8;
                }
            }
            let text = match random.size(4) {
                0 => Login::normal(TARGET).text(),
                1 => {
                    let length = random.size(200);
                    random.bytes(length)
                }
                _ => Vec::new(),
            };
            header[5..8].copy_from_slice(&(text.len() as u32).to_be_bytes()[1..]);
            header.extend(&text);
            header.resize(header.len().next_multiple_of(4), 0);
            bytes.extend(header);
            sent += 1;
        }
        let mut stream = connect_from(source(9 + (step % 8) as u8), daemon.address()).unwrap();
        let _ = stream.write_all(&bytes);
        streams.push(stream);
        if streams.len() > 40 {
            streams.drain(..20);
        }
    });
    assert_eq!(sent, 100_000);
    drop(streams);
    siege.end();
}

/// TXT-04: 8,192 bytes of text are taken in several requests, and more than the bound are not.
#[test]
fn txt_04_text_up_to_the_bound_is_taken_and_no_more() {
    let _alone = alone();
    let daemon = daemon(&["text-bytes=16K"]);
    let try_it = |filler: usize| {
        let login = Login::normal(TARGET);
        let mut text = login.text();
        while text.len() + 260 <= filler {
            text.extend(format!("X-{:06}={}\0", text.len(), "a".repeat(249)).into_bytes());
        }
        let rest = filler - text.len();
        text.extend(format!("Y={}\0", "b".repeat(rest.saturating_sub(3))).into_bytes());
        assert_eq!(text.len(), filler);
        let mut client = Client::connect_from(source(9), daemon.address());
        let pieces: Vec<_> = text.chunks(1000).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let last = at + 1 == pieces.len();
            let flags = if last { TRANSIT | 0x07 } else { CONTINUE | 0x04 };
            match client.login_exchange(&Frame::new(login.request(flags, client.exp_stat_sn), piece)) {
                Ok((answer, data)) => assert!(last || data.is_empty() && answer.flags & TRANSIT == 0, "TXT-06"),
                Err(refused) => return Err(refused),
            }
        }
        Ok(())
    };
    assert_eq!(try_it(8192), Ok(()));
    assert_eq!(try_it(16 << 10), Ok(()));
    assert_eq!(try_it((16 << 10) + 1), Err(Refused::Status(2, 0)));
    assert_eq!(struck(&daemon, "text-bytes"), 1);
}

/// TXT-10: answers that are longer than their questions are split, and bounded by the number of keys.
#[test]
fn txt_10_two_thousand_short_keys_are_answered_in_pieces() {
    let _alone = alone();
    let daemon = daemon(&["keys=2100"]);
    let login = Login::normal(TARGET);
    let ask = |count: usize| {
        let mut text = login.text();
        (0..count).for_each(|_| text.extend(b"a=b\0"));
        let mut client = Client::connect_from(source(9), daemon.address());
        let (mut question, mut answers) = (&text[..], Vec::new());
        loop {
            // 8,192 bytes a request; the answers' rest is asked for by empty ones.
            let (now, rest) = question.split_at(question.len().min(8192));
            let flags = if rest.is_empty() { TRANSIT | 0x07 } else { CONTINUE | 0x04 };
            let (answer, data) = client.login_exchange(&Frame::new(login.request(flags, client.exp_stat_sn), now))?;
            assert!(data.len() <= 8192, "{} bytes in one response", data.len());
            question = rest;
            answers.extend(data);
            if answer.flags & (TRANSIT | CONTINUE) == TRANSIT {
                return Ok(String::from_utf8(answers).unwrap().matches("a=NotUnderstood\0").count());
            }
        }
    };
    assert_eq!(ask(2048), Ok(2048), "each is answered");
    assert_eq!(ask(2098), Ok(2098), "with the two names 2,100");
    assert_eq!(ask(2099), Err(Refused::Status(2, 0)));
    assert_eq!(struck(&daemon, "keys"), 1);
    let _ = session(&daemon, source(1), &login);
}

const _: () = assert!(std::mem::size_of::<LoginRequest>() == BHS_BYTES);
