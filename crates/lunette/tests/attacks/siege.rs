//! The measure of an attack: what a session beside it gets done, how soon newcomers get in, what memory it costs,
//! what is left afterwards.

use serde_json::Value;
use sim::Daemon;
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Login};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// How long calm and attack last in turn.
const WINDOW: Duration = Duration::from_millis(200);
/// Windows of each kind at least, and at most while the session beside seems slow.
const WINDOWS: [usize; 2] = [5, 40];
/// What a whole attack may cost.
const MEMORY: u64 = 64 << 20;
/// How much later newcomers may get in.
const LATER: Duration = Duration::from_secs(1);

/// Sieges are measured one at a time: two processors have room for no more.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon with bounds as they are by default, but for these.
pub fn daemon(limits: &[&str]) -> Daemon {
    let arguments: Vec<&str> = limits.iter().flat_map(|limit| ["--limit", *limit]).collect();
    // The second disk is the attackers' own.
    Daemon::start_with(LUNETTE, &["ram:64M", "ram:64M"], &arguments, &[])
}

/// An address of this machine: 127.1.0.N.
pub fn source(number: u8) -> IpAddr {
    IpAddr::from([127, 1, 0, number])
}

/// A session that takes its unit attentions.
pub fn session(daemon: &Daemon, from: IpAddr, login: &Login) -> Client {
    let mut client = Client::connect_from(from, daemon.address());
    client.login(login);
    client.take_attentions();
    client
}

/// A session of somebody who means no good, with data of its own on LUN 2.
pub fn attacker(daemon: &Daemon, number: usize, login: &Login) -> Client {
    let name = format!("iqn.2026-01.org.example:attacker-{}", number / 50);
    let login = login.clone().initiator(&name).isid((number % 50) as u8);
    let mut client = Client::connect_from(source(100 + (number % 100) as u8), daemon.address());
    client.login(&login);
    client
}

/// What the administration tells of the door.
pub fn door(daemon: &Daemon) -> Value {
    ask(daemon, "/v1/door")
}

/// What the administration answers to this.
pub fn ask(daemon: &Daemon, what: &str) -> Value {
    let mut stream = UnixStream::connect(daemon.control()).expect("the daemon has a socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {what} HTTP/1.1\r\nHost: lunette\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("an answer").1).expect("JSON")
}

/// How often a bound struck.
pub fn struck(daemon: &Daemon, name: &str) -> u64 {
    let door = door(daemon);
    let bound = door["bounds"].as_array().unwrap().iter().find(|bound| bound["name"] == name);
    bound.unwrap_or_else(|| panic!("no bound {name}"))["struck"].as_u64().unwrap()
}

/// Asserts how often a bound struck: what strikes is closed first and counted then.
pub fn assert_struck(daemon: &Daemon, name: &str, count: u64) {
    let end = Instant::now() + Duration::from_secs(2);
    while struck(daemon, name) < count && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(struck(daemon, name), count, "{name}");
}

/// Waits until the peer has closed, at most this long; what came before is read. True: it has.
pub fn is_closed_within(stream: &mut TcpStream, time: Duration) -> bool {
    let end = Instant::now() + time;
    let mut bytes = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => return false,
                _ => return true,
            },
        }
    }
}

/// A session that means well, at work in a thread.
struct Witness {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    fn start(portal: SocketAddr) -> Witness {
        let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (Arc::clone(&done), Arc::clone(&stop));
        let mut client = Client::connect_from(source(1), portal);
        client.login(&Login::normal(TARGET).initiator("iqn.2026-01.org.example:witness"));
        client.take_attentions();
        let thread = std::thread::spawn(move || {
            let mut round = 0u32;
            while !stopped.load(Ordering::Relaxed) {
                let (lba, data) = (round % 4096, [round as u8; 4096]);
                client.good(&Command::write(lba, &data));
                assert!(client.good(&Command::read(lba, 8)) == data, "what was written is read");
                round += 1;
                count.fetch_add(2, Ordering::Relaxed);
            }
            client.logout();
        });
        Witness { done, stop, thread: Some(thread) }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Somebody who logs in again and again, and remembers how long that took at most, in calm and under attack.
struct Newcomer {
    slowest: Arc<[AtomicU64; 2]>,
    attacked: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Newcomer {
    fn start(portal: SocketAddr) -> Newcomer {
        let slowest = Arc::<[AtomicU64; 2]>::default();
        let (attacked, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (told, attack, stopped) = (Arc::clone(&slowest), Arc::clone(&attacked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let login = Login::normal(TARGET).initiator("iqn.2026-01.org.example:newcomer");
            while !stopped.load(Ordering::Relaxed) {
                let during = usize::from(attack.load(Ordering::Relaxed));
                let begun = Instant::now();
                let mut client = Client::connect_from(source(2), portal);
                client.login(&login);
                told[during].fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
                client.logout();
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        Newcomer { slowest, attacked, stop, thread: Some(thread) }
    }
}

/// An attack under way.
pub struct Siege<'a> {
    daemon: &'a Daemon,
    witness: Witness,
    newcomer: Newcomer,
    descriptors: usize,
    resident: u64,
    peak: u64,
    /// How fast the session beside was in each window under attack, by the calm one before it.
    ratios: Vec<f64>,
    /// Commands a second in the last calm window.
    calm: f64,
}

impl<'a> Siege<'a> {
    /// Begins to measure.
    pub fn begin(daemon: &'a Daemon) -> Siege<'a> {
        // What the first sessions leave warm is no cost of the attack.
        for _ in 0..3 {
            session(daemon, source(1), &Login::normal(TARGET)).logout();
        }
        settle(daemon, 0);
        let descriptors = daemon.descriptors().unwrap();
        let witness = Witness::start(daemon.address());
        let newcomer = Newcomer::start(daemon.address());
        let mut siege =
            Siege { daemon, witness, newcomer, descriptors, resident: 0, peak: 0, ratios: Vec::new(), calm: 0.0 };
        for _ in 0..3 {
            siege.window(0, &mut || false);
        }
        siege.resident = daemon.resident_bytes().unwrap();
        siege.peak = 0;
        siege
    }

    /// Carries out this many steps of an attack, in windows with calm between them.
    pub fn steps(&mut self, count: usize, mut step: impl FnMut(usize)) {
        let (mut done, share) = (0, count.div_ceil(WINDOWS[0]));
        for window in 0.. {
            self.window(0, &mut || false);
            let end = (done + share).min(count);
            self.window(1, &mut || {
                let more = done < end;
                if more {
                    step(done);
                    done += 1;
                }
                more
            });
            let enough = window + 1 >= WINDOWS[0] && self.ratio() >= 0.5 || window + 1 >= WINDOWS[1];
            if done == count && enough {
                return;
            }
        }
    }

    /// Watches for this long while what was begun goes on by itself.
    pub fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.window(1, &mut || false);
        }
    }

    fn window(&mut self, kind: usize, step: &mut dyn FnMut() -> bool) {
        self.newcomer.attacked.store(kind == 1, Ordering::Relaxed);
        let (begun, before) = (Instant::now(), self.witness.done());
        while begun.elapsed() < WINDOW {
            let at = Instant::now();
            let rest = match step() {
                // Whoever attacks takes half a processor and leaves the rest to those whom he attacks.
                true => at.elapsed().max(Duration::from_micros(100)),
                false => Duration::from_millis(10),
            };
            std::thread::sleep(rest.min(WINDOW));
            self.peak = self.peak.max(self.daemon.resident_bytes().unwrap_or(0));
        }
        let speed = (self.witness.done() - before) as f64 / begun.elapsed().as_secs_f64();
        match kind {
            0 => self.calm = speed,
            _ => self.ratios.push(speed / self.calm.max(1.0)),
        }
    }

    /// The speed of the session beside under attack, by that in calm: the median, since others use this machine
    /// too.
    fn ratio(&self) -> f64 {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(1.0)
    }

    /// The attack is over, and all of its connections are closed: judges it.
    pub fn end(mut self) {
        self.witness.stop.store(true, Ordering::Relaxed);
        self.newcomer.stop.store(true, Ordering::Relaxed);
        for thread in [self.witness.thread.take(), self.newcomer.thread.take()].into_iter().flatten() {
            thread.join().expect("the session beside goes on");
        }
        let [calm, attacked] =
            [0, 1].map(|kind| Duration::from_millis(self.newcomer.slowest[kind].load(Ordering::Relaxed)));
        let (ratio, grown) = (self.ratio(), self.peak.saturating_sub(self.resident));
        println!(
            "beside: {:.0} % of {:.0} commands a second; slowest login {calm:?}, then {attacked:?}; {} KiB more",
            ratio * 100.0,
            self.calm,
            grown >> 10
        );
        assert!(ratio >= 0.5, "the session beside is at {:.0} % of its speed", ratio * 100.0);
        assert!(attacked <= calm + LATER, "a login took {attacked:?}, in calm {calm:?}");
        assert!(grown < MEMORY, "{} KiB more than before", grown >> 10);
        settle(self.daemon, self.descriptors);
    }
}

/// Waits, longer than a session of level 2 outlives its connections, until nobody is at the door, no session, task or buffer is left, and no more descriptors than these where they are
/// told.
pub fn settle(daemon: &Daemon, descriptors: usize) {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let (door, open) = (door(daemon), daemon.descriptors().unwrap());
        let left = ["at_the_door", "delayed", "sessions"].map(|what| door[what].as_u64().unwrap());
        let within = ask(daemon, "/v1/sessions");
        // No session with its tasks, and no buffer.
        let held = |worker: &Value| worker["data_bytes"].as_u64() != Some(0);
        let clean = within["sessions"].as_array().unwrap().is_empty()
            && !within["workers"].as_array().unwrap().iter().any(held);
        if left == [0, 0, 0] && clean && (descriptors == 0 || open <= descriptors) {
            return;
        }
        assert!(Instant::now() < end, "left: {left:?}; {open} descriptors, {descriptors} before; {within}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
