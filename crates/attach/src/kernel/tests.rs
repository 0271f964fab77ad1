//! A kernel of a few lines at the other end of the socket: what it is told, in which order, and what happens to
//! a session whose connection is lost.

use super::keeper::{KernelSession, Standing};
use super::message::PDU_HEADER_BYTES;
use super::netlink::Netlink;
use super::sysfs::{Sysfs, tests::tree};
use super::*;
use crate::{Closed, Detach};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const LIMIT: Duration = Duration::from_secs(10);

/// What the kernel was told, and where it says something.
struct Fake {
    told: Mutex<Vec<String>>,
    sysfs: PathBuf,
    /// CmdSN that a request of its has now.
    number: AtomicU32,
    /// Parameters that it does not take.
    refuses: Mutex<Option<u32>>,
}

impl Fake {
    fn new(name: &str) -> Arc<Fake> {
        let sysfs = std::env::temp_dir().join(format!("lunette-kernel-{name}-{}", std::process::id()));
        tree(&sysfs, "LOGGED_IN");
        Arc::new(Fake { told: Mutex::default(), sysfs, number: AtomicU32::new(77), refuses: Mutex::default() })
    }

    /// A socket to it.
    fn socket(self: &Arc<Fake>) -> (Netlink, OwnedFd) {
        let (ours, kernels) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (fake, socket) = (self.clone(), kernels.try_clone().unwrap());
        std::thread::spawn(move || fake.serve(&socket));
        (Netlink::over(ours, 5), kernels)
    }

    fn serve(&self, socket: &OwnedFd) {
        let mut bound: Option<OwnedFd> = None;
        let mut datagram = [0; 4096];
        loop {
            let length = match rustix::net::recv(socket, &mut datagram[..], RecvFlags::empty()) {
                Ok((length, _)) if length > 0 => length,
                _ => return,
            };
            let event = &datagram[16..length];
            let word = |at: usize| u32::from_ne_bytes(event[at..at + 4].try_into().unwrap());
            let tell = |text: String| self.told.lock().unwrap().push(text);
            let mut status = (0, 0);
            match word(0) {
                11 => {
                    tell(format!("session from {}", word(16)));
                    status = (9, 3);
                }
                15 => {
                    // SAFETY: the caller keeps its socket open until we have replied.
                    let theirs = unsafe { BorrowedFd::borrow_raw(word(24) as i32) };
                    bound = Some(theirs.try_clone_to_owned().unwrap());
                    tell("bind".into());
                }
                16 if Some(word(24)) == *self.refuses.lock().unwrap() => {
                    say(socket, 103, 22, [0; 3], &[]);
                    continue;
                }
                16 => {}
                17 => {
                    self.state("LOGGED_IN");
                    tell("start".into());
                }
                18 => {
                    bound = None;
                    self.state("FAILED");
                    tell(format!("stop {}", word(32)));
                }
                19 => {
                    let mut header = [0; PDU_HEADER_BYTES];
                    header.copy_from_slice(&event[56..104]);
                    tell(format!("send {:02x}", header[0]));
                    header[24..28].copy_from_slice(&self.number.load(Ordering::Relaxed).to_be_bytes());
                    if let (0x43, Some(bound)) = (header[0], &bound) {
                        fs::File::from(bound.try_clone().unwrap()).write_all(&header).unwrap();
                    }
                    if header[0] == 0x46 {
                        say(socket, 19, 0, [0; 3], &[]);
                        header[0] = 0x26;
                        say(socket, 101, 0, [9, 0, 0], &header);
                        continue;
                    }
                }
                27 => {
                    tell("unbind".into());
                    say(socket, 105, 0, [9, 3, 0], &[]);
                }
                12 => {
                    tell("destroy".into());
                    fs::remove_dir_all(self.sysfs.join("devices")).unwrap();
                }
                other => tell(format!("{other}")),
            }
            say(socket, word(0), 0, [status.0, status.1, 0], &[]);
        }
    }

    fn state(&self, state: &str) {
        fs::write(self.sysfs.join("class/iscsi_session/session9/state"), format!("{state}\n")).unwrap();
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.sysfs);
    }
}

fn say(socket: &OwnedFd, kind: u32, errno: i32, up: [u32; 3], tail: &[u8]) {
    let mut message = ((16 + 56 + tail.len()) as u32).to_ne_bytes().to_vec();
    message.resize(16 + 56, 0);
    message[16..20].copy_from_slice(&kind.to_ne_bytes());
    message[20..24].copy_from_slice(&(-errno).to_ne_bytes());
    for (index, word) in up.iter().enumerate() {
        message[56 + 4 * index..60 + 4 * index].copy_from_slice(&word.to_ne_bytes());
    }
    message.extend_from_slice(tail);
    let _ = rustix::net::send(socket, &message, SendFlags::empty());
}

fn login(first_command: u32) -> Login {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let agreed = Agreed {
        initiator_name: "iqn.x:i".into(),
        target_name: "iqn.x:t".into(),
        target_alias: None,
        portal_group_tag: 1,
        address: "127.0.0.1".into(),
        port: 3260,
        first_command,
        exp_stat_sn: 4,
        header_digest: false,
        data_digest: false,
        max_recv_data_segment_length: 262_144,
        max_send_data_segment_length: 8192,
        initial_r2t: true,
        immediate_data: true,
        max_outstanding_r2t: 1,
        first_burst_length: 65_536,
        max_burst_length: 262_144,
        data_pdu_in_order: true,
        data_sequence_in_order: true,
    };
    Login { socket, agreed }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn failure(lasting: bool) -> LoginFailure {
    LoginFailure { text: "connection refused".into(), lasting }
}

#[test]
fn a_lost_connection_is_logged_in_again_with_the_number_that_the_kernel_goes_on_with() {
    let fake = Fake::new("again");
    let (netlink, kernel) = fake.socket();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let relogin = move |first: u32| {
        seen.lock().unwrap().push(first);
        // The target is not there at once.
        if seen.lock().unwrap().len() < 3 { Err(failure(false)) } else { Ok(login(first)) }
    };
    let sysfs = Sysfs::at(&fake.sysfs);
    let kept = KernelSession::start_on(netlink, 5, sysfs, login(1), SessionSettings::default(), relogin).unwrap();
    assert_eq!((kept.number(), kept.standing()), (9, Standing::Up));
    assert_eq!(fake.told(), ["session from 1", "13", "bind", "start"]);
    // That of another session is none of ours.
    say(&kernel, 102, 0, [8, 0, 1011], &[]);
    say(&kernel, 102, 0, [9, 0, 1020], &[]);
    until("it comes back", || kept.recoveries() == 1);
    assert_eq!(kept.standing(), Standing::Up);
    assert_eq!(*asked.lock().unwrap(), [77, 77, 77]);
    let number = ["bind", "send 43", "stop 3"];
    let expected = [["stop 3"].as_slice(), &number, &number, &number, &["bind", "start"]].concat();
    assert_eq!(fake.told(), expected);

    let (netlink, _other) = fake.socket();
    kept.detach_on(netlink, Detach::Force, LIMIT).unwrap();
    assert_eq!(fake.told(), ["unbind", "send 46", "stop 1", "14", "destroy"]);
    assert_eq!(kept.standing(), Standing::Gone(Closed::Detached));
}

#[test]
fn a_session_that_was_lost_while_nobody_kept_it_is_taken_back() {
    let fake = Fake::new("back");
    fake.state("FAILED");
    let (netlink, _kernel) = fake.socket();
    let relogin = |first: u32| Ok(login(first));
    let sysfs = Sysfs::at(&fake.sysfs);
    let wrong = KernelSession::take_back_on(
        fake.socket().0,
        5,
        sysfs.clone(),
        9,
        "iqn.x:other",
        SessionSettings::default(),
        relogin,
    );
    assert!(wrong.is_err_and(|error| error.to_string().contains("iqn.x:t")));
    // Its disks are known before it is logged in again.
    let nobody = |_| Err(failure(false));
    let lost = KernelSession::take_back_on(
        fake.socket().0,
        5,
        sysfs.clone(),
        9,
        "iqn.x:t",
        SessionSettings::default(),
        nobody,
    );
    let lost = lost.unwrap();
    assert_eq!(lost.scan(Some(1), Duration::ZERO).unwrap()[0].name, "sdb");
    assert!(lost.resized(&lost.disks()[0]).is_err(), "the kernel would wait");
    drop(lost);
    let kept = KernelSession::take_back_on(netlink, 5, sysfs, 9, "iqn.x:t", SessionSettings::default(), relogin);
    let kept = kept.unwrap();
    until("it is logged in again", || kept.standing() == Standing::Up);
    drop(kept);
    let told = fake.told();
    assert_eq!(told.last().map(String::as_str), Some("start"));
    assert!(!told.iter().any(|told| told == "destroy"), "who stops keeping it leaves it: {told:?}");
}

#[test]
fn a_login_that_will_never_succeed_is_given_up_when_nothing_waits_any_more() {
    let fake = Fake::new("never");
    let (netlink, kernel) = fake.socket();
    let (tell, told) = std::sync::mpsc::channel();
    let settings = SessionSettings {
        replacement_timeout: Some(Duration::from_millis(50)),
        notice: Some(Arc::new(move |closed: &Closed| tell.send(closed.clone()).unwrap())),
        ..SessionSettings::default()
    };
    let relogin = |_| Err(failure(true));
    let kept = KernelSession::start_on(netlink, 5, Sysfs::at(&fake.sysfs), login(1), settings, relogin).unwrap();
    say(&kernel, 102, 0, [9, 0, 1020], &[]);
    let closed = told.recv_timeout(LIMIT).unwrap();
    assert_eq!(closed, Closed::Failed("connection refused (3 logins)".into()));
    assert_eq!(kept.standing(), Standing::Gone(closed));
}

#[test]
fn nothing_is_left_of_a_session_that_the_kernel_does_not_take() {
    let fake = Fake::new("refused");
    *fake.refuses.lock().unwrap() = Some(7);
    let (netlink, _kernel) = fake.socket();
    let sysfs = Sysfs::at(&fake.sysfs);
    let started =
        KernelSession::start_on(netlink, 5, sysfs, login(1), SessionSettings::default(), |_| Err(failure(true)));
    let error = started.err().unwrap().to_string();
    assert!(error.contains("FirstBurstLength=65536") && error.contains("Invalid argument"), "{error}");
    assert_eq!(fake.told(), ["session from 1", "13", "bind", "stop 3", "stop 1", "14", "destroy"]);
}

#[test]
fn a_target_that_asks_for_a_logout_gets_one_and_a_new_login() {
    let fake = Fake::new("asked");
    let (netlink, kernel) = fake.socket();
    let relogin = |first: u32| Ok(login(first));
    let settings = SessionSettings::default();
    let kept = KernelSession::start_on(netlink, 5, Sysfs::at(&fake.sysfs), login(1), settings, relogin).unwrap();
    fake.told();
    let mut header = [0; PDU_HEADER_BYTES];
    (header[0], header[36], header[43]) = (0x32, 1, 5);
    say(&kernel, 101, 0, [9, 0, 0], &header);
    until("it comes back", || kept.recoveries() == 1);
    assert_eq!(fake.told(), ["send 46", "stop 3", "bind", "send 43", "stop 3", "bind", "start"]);
}
