//! The iSNS client of the real binary against servers that are well, gone, slow, lying, or flooding (RFC 4171):
//! whatever they do, initiators notice nothing and the end comes in time. With the real isnsd: `cargo xtask test
//! isns`.

use iscsi::isns::{Attribute, Function, Message, Status, Tag};
use sim::Daemon;
use sim::daemon::{TARGET, free_address};
use sim::isns::{IsnsPeer, IsnsServer};
use sim::raw::{Command, Login};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

fn daemon(server: SocketAddr, options: &str) -> Daemon {
    Daemon::start_with(LUNETTE, &["ram:1M"], &["--isns", &format!("{server}{options}")], &[])
}

/// An initiator logs in, writes and reads, and that takes no time.
fn serves(daemon: &Daemon) {
    let begun = Instant::now();
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client.good(&Command::write(0, &[7; 512]));
    assert_eq!(client.good(&Command::read(0, 1)), [7; 512]);
    client.logout();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

fn ends_within(daemon: &mut Daemon, seconds: u64) {
    let begun = Instant::now();
    assert!(daemon.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(seconds), "{:?}", begun.elapsed());
}

fn lines(daemon: &Daemon, text: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(text)).count()
}

/// Waits until the log has this.
fn told(daemon: &Daemon, text: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while lines(daemon, text) == 0 {
        assert!(Instant::now() < end, "'{text}' is not told:\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn attribute(message: &Message, tag: Tag) -> &Attribute {
    message.operating().iter().find(|attribute| attribute.tag == tag).expect("the attribute")
}

/// Where the daemon takes what the server asks and tells.
fn notified_at(registration: &Message) -> SocketAddr {
    let address = attribute(registration, Tag::PORTAL_ADDRESS).as_address().unwrap();
    SocketAddr::new(address, attribute(registration, Tag::SCN_PORT).as_port().unwrap())
}

fn inquiry() -> Message {
    let attributes = vec![Attribute::timestamp(1), Attribute::text(Tag::ENTITY_IDENTIFIER, TARGET)];
    Message { attributes, ..Message::request(Function::ENTITY_STATUS_INQUIRY) }
}

#[test]
fn dsc_10_targets_are_registered_kept_and_taken_out() {
    let server = IsnsServer::start();
    let mut daemon = daemon(server.address(), ",period=60");
    let (mut peer, registration) = server.registered(3);
    assert_eq!(attribute(&registration, Tag::ISCSI_NAME).as_text(), Some(TARGET));
    let address = attribute(&registration, Tag::PORTAL_ADDRESS).as_address().unwrap();
    let port = attribute(&registration, Tag::PORTAL_PORT).as_port().unwrap();
    assert_eq!(SocketAddr::new(address, port), daemon.address());
    assert_eq!(attribute(&registration, Tag::REGISTRATION_PERIOD).as_number(), Some(60));
    // The server keeps it for three seconds only: it is asked every second.
    let begun = Instant::now();
    for _ in 0..2 {
        let inquiry = peer.receive();
        assert_eq!(inquiry.function, Function::DEVICE_ATTRIBUTE_QUERY);
        peer.answer(&inquiry, Status::SUCCESSFUL, IsnsServer::known(&registration, 3));
    }
    assert!((1..4).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    // It asks whether we are there, and tells of a change.
    let mut notifier = IsnsPeer::connect(notified_at(&registration));
    notifier.send(&inquiry().encode());
    assert_eq!(notifier.receive(), inquiry().answer(Status::SUCCESSFUL, inquiry().attributes));
    let mut change = Message::request(Function::STATE_CHANGE_NOTIFICATION);
    change.attributes = vec![
        Attribute::text(Tag::ISCSI_NAME, TARGET),
        Attribute::timestamp(1),
        Attribute::number(Tag::ISCSI_SCN_BITMAP, 8),
        Attribute::text(Tag::ISCSI_NAME, "iqn.2026-11.com.example:%s%n"),
        Attribute::number(Tag::ISCSI_SCN_BITMAP, 8),
        Attribute::text(Tag::ISCSI_NAME, "iqn.2026-11.com.example:host"),
    ];
    notifier.send(&change.encode());
    assert_eq!(notifier.receive().status, Some(Status::SUCCESSFUL));
    told(&daemon, "node=iqn.2026-11.com.example:host");
    assert_eq!(lines(&daemon, "node=iqn.2026-11.com.example:%s%n"), 1, "a name is a name and no format");
    // At the end it is taken out.
    daemon.signal("TERM");
    let last = loop {
        let message = peer.receive();
        if message.function != Function::DEVICE_ATTRIBUTE_QUERY {
            break message;
        }
    };
    assert_eq!(last.function, Function::DEVICE_DEREGISTRATION);
    peer.answer(&last, Status::SUCCESSFUL, Vec::new());
    let begun = Instant::now();
    while daemon.is_running() {
        assert!(begun.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(lines(&daemon, "taken out of the iSNS server"), 1);
}

#[test]
fn a_server_that_is_not_there_is_one_line() {
    let mut daemon = daemon(free_address(), "");
    serves(&daemon);
    told(&daemon, "is away");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(lines(&daemon, "iSNS"), 1, "{}", daemon.log());
    ends_within(&mut daemon, 1);
}

#[test]
fn a_server_that_never_answers_delays_nobody() {
    let server = IsnsServer::start();
    let mut daemon = daemon(server.address(), "");
    let mut peer = server.accept();
    peer.receive();
    serves(&daemon);
    ends_within(&mut daemon, 5);
}

#[test]
fn a_server_that_lies_loses_its_connection_and_delays_nobody() {
    let answer = |length: u16| [&[0, 1, 0x80, 1][..], &length.to_be_bytes(), &[0x4c, 0, 0, 1, 0, 0]].concat();
    let name_of = |bytes: u32| [&[0; 4][..], &[0, 0, 0, 32], &bytes.to_be_bytes(), &[b'n'; 400]].concat();
    for lie in [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n".to_vec(),
        // A name that says that it has 4 GiB, one that is longer than the message, a payload of 3 bytes.
        [answer(412), name_of(0xffff_fffc)].concat(),
        [answer(412), name_of(404)].concat(),
        [answer(3), vec![0; 3]].concat(),
        // An answer to a question that was not asked.
        [answer(4), vec![0; 4]]
            .concat()
            .into_iter()
            .enumerate()
            .map(|(at, byte)| if at == 9 { 77 } else { byte })
            .collect(),
    ] {
        let server = IsnsServer::start();
        let daemon = daemon(server.address(), "");
        let mut peer = server.accept();
        peer.receive();
        peer.send(&lie);
        assert!(peer.is_closed(), "{lie:02x?}");
        serves(&daemon);
        // It comes again, and is told nothing else; the line is there once.
        server.accept().receive();
        assert_eq!(lines(&daemon, "is away"), 1, "{}", daemon.log());
    }
}

#[test]
fn a_server_that_is_started_again_is_told_again() {
    let server = IsnsServer::start();
    let daemon = daemon(server.address(), "");
    let (peer, _) = server.registered(300);
    drop(peer);
    let mut peer = server.accept();
    let inquiry = peer.receive();
    assert_eq!(inquiry.function, Function::DEVICE_ATTRIBUTE_QUERY);
    peer.answer(&inquiry, Status::NO_SUCH_ENTRY, Vec::new());
    let again = peer.receive();
    assert_eq!((again.function, again.replace), (Function::DEVICE_ATTRIBUTE_REGISTRATION, false));
    peer.answer(&again, Status::SUCCESSFUL, IsnsServer::known(&again, 300));
    peer.receive();
    assert_eq!((lines(&daemon, "has lost us"), lines(&daemon, "is away")), (1, 0));
}

#[test]
fn floods_are_bounded_and_the_server_is_answered_beside_them() {
    let server = IsnsServer::start();
    let daemon = daemon(server.address(), "");
    let (mut peer, registration) = server.registered(300);
    let (memory, descriptors) = (daemon.resident_bytes(), daemon.descriptors());
    // Questions without end on the daemon's own connection, whose answers nobody reads.
    let questions = inquiry().encode().repeat(1000);
    let poured = peer.pour(&questions, 64 << 20);
    assert!(poured < 64 << 20, "it stops to read");
    // Many connections that say nothing, or begin a message and do not end it.
    let begun = [&[0, 1, 0, 8, 0xff, 0xfc, 0x0c, 0, 0, 1, 0, 0][..], &[0; 30_000]].concat();
    let crowd: Vec<IsnsPeer> = (0..100)
        .map(|number| {
            let mut one = IsnsPeer::connect(notified_at(&registration));
            if number % 2 == 0 {
                one.pour(&begun, begun.len());
            }
            one
        })
        .collect();
    let mut notifier = IsnsPeer::connect(notified_at(&registration));
    notifier.send(&inquiry().encode());
    assert_eq!(notifier.receive().status, Some(Status::SUCCESSFUL));
    serves(&daemon);
    if let (Some(before), Some(now)) = (memory, daemon.resident_bytes()) {
        assert!(now < before + (16 << 20), "{before} then {now}");
    }
    if let (Some(before), Some(now)) = (descriptors, daemon.descriptors()) {
        assert!(now <= before + 20, "{before} then {now}");
    }
    drop(crowd);
}
