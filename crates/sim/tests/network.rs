//! The target over networks that split, hold back and cut at every byte: whatever happens to a
//! connection, the wire's rules are kept, nothing that was acknowledged is lost, and nothing is left
//! behind.

use block::layer::{Delay, Valve};
use block::pure::Ram;
use sim::daemon::TARGET;
use sim::oracle::{BLOCK, Shadow};
use sim::raw::{Client, Command, Ended, Login, Refused};
use sim::world::{Network, Shared, Wire};
use sim::{Answer, Random};

const BLOCKS: u32 = 512;

/// Combinations of keys under which data travels in different ways.
fn logins() -> Vec<Login> {
    let base = || Login::normal(TARGET);
    vec![
        base(),
        base().key("InitialR2T", "No").key("ImmediateData", "Yes").key("FirstBurstLength", 2048),
        base()
            .key("InitialR2T", "Yes")
            .key("ImmediateData", "No")
            .key("MaxBurstLength", 1024)
            .key("MaxOutstandingR2T", 4),
        base().key("InitialR2T", "No").key("ImmediateData", "No").key("FirstBurstLength", 1536),
        base().key("MaxRecvDataSegmentLength", 512).key("MaxBurstLength", 2048),
        base().digests(true, true).key("MaxRecvDataSegmentLength", 1024),
        base().digests(true, false).key("InitialR2T", "No"),
        base().digests(false, true).key("MaxOutstandingR2T", 2).key("MaxBurstLength", 512),
    ]
}

/// A conversation that goes on until something ends it. What the disk may hold is in the shadow.
struct Script<'a> {
    client: Client<Wire>,
    shadow: &'a mut Shadow,
    random: Random,
}

impl Script<'_> {
    fn begin<'a>(world: &Shared, network: Network, shadow: &'a mut Shadow, seed: u64) -> Script<'a> {
        Script { client: Client::over(world.connect(network)), shadow, random: Random::new(seed) }
    }

    fn log_in(&mut self, login: &Login) -> Result<(), Ended> {
        match self.client.try_login(login) {
            Ok(_) => {}
            Err(Refused::Ended(ended)) => return Err(ended),
            Err(refused) => panic!("{refused:?}"),
        }
        for _ in 0..4 {
            if self.execute(&Command::test_unit_ready())?.is_good() {
                return Ok(());
            }
        }
        panic!("unit attentions without end");
    }

    fn execute(&mut self, command: &Command) -> Result<Answer, Ended> {
        let tag = self.client.start(command);
        self.client.try_finish(tag)
    }

    fn step(&mut self) -> Result<(), Ended> {
        let blocks = 1 + self.random.below(12);
        let lba = self.random.below(u64::from(BLOCKS) - blocks);
        match self.random.below(8) {
            0..=2 => self.write(&[(lba, blocks)]),
            // Two at a time, which share no block.
            3 => {
                let half = u64::from(BLOCKS) / 2;
                self.write(&[(lba % (half - blocks), blocks), (half + lba % (half - blocks), blocks)])
            }
            4 | 5 => {
                let answer = self.execute(&Command::read(lba as u32, blocks as u16))?;
                assert!(answer.is_good(), "{answer:?}");
                self.shadow.check(lba, &answer.data).unwrap();
                Ok(())
            }
            6 => {
                let answer = self.execute(&Command::synchronize_cache())?;
                assert!(answer.is_good(), "{answer:?}");
                Ok(())
            }
            // A residual: more is expected than there is.
            _ => {
                let answer = self.execute(&Command::read(lba as u32, 1).expecting(1000))?;
                assert_eq!((answer.is_good(), answer.residual), (true, -488));
                Ok(())
            }
        }
    }

    fn write(&mut self, extents: &[(u64, u64)]) -> Result<(), Ended> {
        let mut started = Vec::new();
        for (lba, blocks) in extents {
            let (issued, data) = self.shadow.issue(*lba, *blocks);
            let mut command = Command::write(*lba as u32, &data);
            if self.random.once_in(3) {
                command = command.forced();
            }
            if self.random.once_in(3) {
                command = command.in_chunks(512 + self.random.size(700));
            }
            started.push((self.client.start(&command), issued));
        }
        for (tag, issued) in started {
            let answer = self.client.try_finish(tag)?;
            assert!(answer.is_good(), "{answer:?}");
            self.shadow.acknowledged(&issued);
        }
        Ok(())
    }

    fn all(&mut self, login: &Login, steps: usize) -> Result<(), Ended> {
        self.log_in(login)?;
        (0..steps).try_for_each(|_| self.step())
    }
}

/// Everything that was ever written is read over a new connection and judged.
fn judge(world: &Shared, shadow: &mut Shadow) {
    world.settle();
    assert_eq!((world.tasks(), world.taken_bytes()), (0, 0), "tasks and memory are left");
    let mut client = Client::over(world.connect(Network::default()));
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    for lba in (0..u64::from(BLOCKS)).step_by(64) {
        let data = client.good(&Command::read(lba as u32, 64));
        assert_eq!(data.len(), 64 * BLOCK);
        shadow.check(lba, &data).unwrap();
    }
    client.logout();
}

fn world(valve: Option<Valve>) -> Shared {
    let ram = Ram::new(512, u64::from(BLOCKS));
    match valve {
        None => Shared::new(ram, None),
        Some(valve) => Shared::new(Delay::new(ram, valve.clone()), Some(valve)),
    }
}

#[test]
fn pieces_of_any_size_are_one_stream() {
    for (number, login) in logins().iter().enumerate() {
        for piece_bytes in [1, 7, 48, 500, 0] {
            let seed = number as u64 * 100 + piece_bytes as u64;
            let (world, mut shadow) = (world(None), Shadow::default());
            let network = Network { seed, piece_bytes, holds: 3, ..Network::default() };
            let mut script = Script::begin(&world, network, &mut shadow, seed);
            script.all(login, 40).unwrap_or_else(|ended| panic!("login {number}, pieces {piece_bytes}: {ended:?}"));
            script.client.logout();
            drop(script);
            judge(&world, &mut shadow);
        }
    }
}

#[test]
fn f18_a_store_that_completes_late_and_in_pieces_changes_nothing() {
    for (number, login) in logins().iter().enumerate() {
        let seed = 7000 + number as u64;
        let (world, mut shadow) = (world(Some(Valve::closed())), Shadow::default());
        let network = Network { seed, piece_bytes: 300, holds: 4, ..Network::default() };
        let mut script = Script::begin(&world, network, &mut shadow, seed);
        script.all(login, 40).unwrap_or_else(|ended| panic!("login {number}: {ended:?}"));
        script.client.logout();
        drop(script);
        judge(&world, &mut shadow);
    }
}

/// How many bytes a whole conversation takes, each way.
fn lengths(login: &Login, seed: u64, steps: usize) -> (u64, u64) {
    let (world, mut shadow) = (world(None), Shadow::default());
    let mut script = Script::begin(&world, Network::default(), &mut shadow, seed);
    script.all(login, steps).unwrap();
    let wire = script.client.transport();
    (wire.to_target(), wire.to_initiator())
}

/// Cuts at every `stride`-th byte of one direction.
fn cut_everywhere(login: &Login, seed: u64, stride: usize, to_target: bool) {
    let steps = 6;
    let (out, back) = lengths(login, seed, steps);
    for cut in (1..if to_target { out } else { back }).step_by(stride) {
        let (world, mut shadow) = (world(None), Shadow::default());
        let network = match to_target {
            true => Network { seed, cut_to_target: Some(cut), ..Network::default() },
            false => Network { seed, cut_to_initiator: Some(cut), ..Network::default() },
        };
        let mut script = Script::begin(&world, network, &mut shadow, seed);
        let ended = script.all(login, steps);
        assert!(ended.is_err(), "cut {cut} of {out} and {back} bytes, to the target: {to_target}");
        drop(script);
        judge(&world, &mut shadow);
    }
}

#[test]
fn f07_a_connection_that_is_cut_at_any_byte_loses_nothing_that_was_acknowledged() {
    for (number, login) in logins().iter().enumerate() {
        // Every byte of a header is met somewhere: 48 and the strides have no common factor.
        let stride = [61, 67, 71][number % 3];
        cut_everywhere(login, 40 + number as u64, stride, true);
        cut_everywhere(login, 80 + number as u64, stride, false);
    }
}

#[test]
fn ses_01_a_session_after_session_finds_what_the_last_left() {
    let (world, mut shadow) = (world(None), Shadow::default());
    for seed in 0..60 {
        let cut = 300 + seed * 997 % 20_000;
        let network = Network { seed, piece_bytes: 700, holds: 5, cut_to_target: Some(cut), ..Network::default() };
        let login = &logins()[seed as usize % logins().len()];
        let mut script = Script::begin(&world, network, &mut shadow, seed);
        let _ = script.all(login, 30);
        drop(script);
        world.settle();
    }
    judge(&world, &mut shadow);
}
