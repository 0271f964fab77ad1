//! SendTargets with and without CHAP, iSNS, and what of it goes wrong.

use super::help::{LUNETTE, on_the_net};
use initiator::discovery::{self, Target};
use initiator::{Address, Chap, Error, Options, Portal};
use iscsi::isns::{Attribute, Status, Tag};
use sim::Daemon;
use sim::daemon::{TARGET, free_address};
use sim::isns::IsnsServer;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn asking(at: SocketAddr) -> Options {
    Options {
        login_timeout: Duration::from_secs(10),
        ..Options::discovery(Portal::new(at.ip().to_string(), at.port()))
    }
}

fn found(options: &Options) -> Result<Vec<Target>, Error> {
    on_the_net(discovery::send_targets(options))
}

fn told(targets: &[Target]) -> Vec<(String, Vec<String>)> {
    let portals = |target: &Target| target.portals.iter().map(ToString::to_string).collect();
    targets.iter().map(|target| (target.name.to_string(), portals(target))).collect()
}

#[test]
fn a_portal_tells_its_targets_with_their_portal_groups() {
    let words = ["--listen", "[::1]:0,group=7"];
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &words, &[]);
    let [one, two] = daemon.portals()[..] else { panic!("{:?}", daemon.portals()) };
    let targets = found(&asking(one)).unwrap();
    assert_eq!(told(&targets), [(TARGET.to_owned(), vec![format!("{one},1"), format!("{two},7")])]);
    // Asked by the other family, and for this one alone.
    let mut options = asking(two);
    options.target = Some(TARGET.to_owned());
    assert_eq!(found(&options).unwrap(), targets);
    options.target = Some("iqn.2026-01.org.example:nobody".to_owned());
    assert_eq!(found(&options).unwrap(), []);
    // What was found is an address again.
    let like: Address = format!("iscsi://{one}").parse().unwrap();
    let addresses: Vec<_> = targets[0].addresses(&like).iter().map(ToString::to_string).collect();
    assert_eq!(addresses, [format!("iscsi://{one}/{TARGET}"), format!("iscsi://{two}/{TARGET}")]);
}

#[test]
fn more_targets_than_fit_into_an_answer_all_come() {
    let mut text = "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for number in 0..300 {
        text += &format!("[[target]]\nname = \"iqn.2026-01.org.example:{number:0>150}\"\n");
        text += "[[target.rule]]\ninitiators = \"any\"\n";
    }
    let daemon = Daemon::configured(LUNETTE, &text);
    // In data segments of 512 bytes, which is text in a hundred pieces.
    let options = Options { max_recv_data_segment_length: 512, ..asking(daemon.address()) };
    let targets = found(&options).unwrap();
    assert_eq!(targets.len(), 300);
    assert!(targets.iter().all(|target| target.portals.len() == 1));
}

#[test]
fn discovery_shows_who_it_is_where_that_is_asked_for() {
    let (words, secret) = (["--chap", "alice"], [("LUNETTE_CHAP_SECRET", "a-secret-of-alice")]);
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &words, &secret);
    let mut options = asking(daemon.address());
    options.chap = Some(Chap::new("alice", "a-secret-of-alice"));
    assert_eq!(found(&options).unwrap().len(), 1);
    options.chap = Some(Chap::new("alice", "not-the-secret-at-all"));
    let error = found(&options).unwrap_err();
    assert!(matches!(error, Error::LoginRefused { class: 2, detail: 1, .. }), "{error:?}");
    options.chap = None;
    assert!(found(&options).is_err());
}

#[test]
fn who_does_not_answer_costs_a_bounded_time_and_one_line() {
    let error = found(&asking(free_address())).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error:?}");
    // It accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let options = Options { login_timeout: Duration::from_millis(300), ..asking(silent.local_addr().unwrap()) };
    let error = found(&options).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn an_address_that_names_a_target_is_an_answer_itself() {
    let at = free_address();
    let address: Address = format!("iscsi://{at}/{TARGET}").parse().unwrap();
    assert_eq!(told(&[discovery::fixed(&address).unwrap()]), [(TARGET.to_owned(), vec![at.to_string()])]);
    let portal: Address = format!("iscsi://{at}").parse().unwrap();
    assert!(discovery::fixed(&portal).unwrap_err().to_string().contains("names no target"));
}

fn isns(server: SocketAddr, limit: Duration) -> Result<Vec<Target>, Error> {
    let server = Portal::new(server.ip().to_string(), server.port());
    on_the_net(discovery::isns(&server, "iqn.2026-11.com.example:host", limit))
}

#[test]
fn an_isns_server_tells_targets_and_portals() {
    let server = IsnsServer::start();
    let at = server.address();
    let asking = std::thread::spawn(move || isns(at, Duration::from_secs(10)));
    let mut peer = server.accept();
    let query = peer.receive();
    let (v4, v6) = ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
    let attributes = [
        &query.key()[..1],
        &[
            Attribute::empty(Tag::DELIMITER),
            Attribute::text(Tag::ISCSI_NAME, TARGET),
            Attribute::address(Tag::PORTAL_ADDRESS, v4),
            Attribute::port(Tag::PORTAL_PORT, 3260),
            Attribute::number(Tag::GROUP_TAG, 1),
            Attribute::address(Tag::PORTAL_ADDRESS, v6),
            Attribute::port(Tag::PORTAL_PORT, 3261),
            Attribute::number(Tag::GROUP_TAG, 2),
        ][..],
    ]
    .concat();
    peer.answer(&query, Status::SUCCESSFUL, attributes);
    let targets = asking.join().unwrap().unwrap();
    let portals = vec!["192.0.2.7:3260,1".to_owned(), "[2001:db8::7]:3261,2".to_owned()];
    assert_eq!(told(&targets), [(TARGET.to_owned(), portals)]);
}

#[test]
fn an_isns_server_that_refuses_lies_or_says_nothing_is_one_line() {
    let server = IsnsServer::start();
    let at = server.address();
    let ask = || std::thread::spawn(move || isns(at, Duration::from_millis(500)));
    let (asking, mut peer) = (ask(), server.accept());
    let query = peer.receive();
    peer.answer(&query, Status::SOURCE_UNKNOWN, Vec::new());
    let error = asking.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("source unknown"), "{error}");
    let (asking, mut peer) = (ask(), server.accept());
    peer.receive();
    peer.send(&[0xff; 64]);
    assert!(matches!(asking.join().unwrap(), Err(Error::Protocol { .. })));
    let (asking, mut peer) = (ask(), server.accept());
    peer.receive();
    assert!(matches!(asking.join().unwrap(), Err(Error::TimedOut { .. })));
    let (asking, mut peer) = (ask(), server.accept());
    let query = peer.receive();
    peer.answer(&query, Status::NO_SUCH_ENTRY, Vec::new());
    assert_eq!(asking.join().unwrap().unwrap(), []);
}
