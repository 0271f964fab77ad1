//! Deterministic simulation: our initiator and the real target, joined by a bad network, with random
//! commands against a model of the disk. One seed, one course of events.
//!
//! ```text
//!   workload ─► client (iscsi::initiator) ══ network: several links ══ world (login, session, lane, store)
//!      └──────────── model: what each block may hold            witness: what reached the store, how often
//! ```
//!
//! What is checked: no acknowledged write is lost, none is carried out twice or late, every command ends
//! within its bound of simulated time, neither end sees the other break a rule, and at the end no task,
//! no session and no memory is left at either end.

mod client;
mod model;
mod network;
mod setup;
mod trace;
mod witness;
mod workload;

pub use setup::Setup;

use crate::Random;
use crate::world::World;
use block::pure::Ram;
use client::Client;
use iscsi::login::target::LoginLimits;
use iscsi::session::ConnectionError;
use network::{End, Faults, Link};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trace::{Checker, Trace};
use witness::{Watched, Witness};
use workload::Workload;

/// Simulated time within which everything ends.
const BOUND: Duration = Duration::from_secs(1800);
/// Steps of one run.
const STEPS: u32 = 400_000;

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Commands that were carried out, those that were repeated counted once.
    pub commands: u32,
    /// Sessions that were begun.
    pub sessions: u32,
    /// Connections that were begun.
    pub connections: u32,
    /// Connections that the network lost.
    pub cuts: u32,
    /// Bytes that it damaged.
    pub damages: u32,
    /// Tasks that were taken over by another connection.
    pub reassigned: u32,
    /// How long it took in simulated time.
    pub time: Duration,
    /// Of every byte that was sent: equal runs have equal ones.
    pub fingerprint: u64,
}

/// The network's links, and what decides about them.
struct Net {
    links: Vec<Link>,
    random: Random,
    faults: Faults,
    fingerprint: u64,
    trace: Option<Trace>,
    checker: Option<Checker>,
}

/// Runs one seed; `Err` says what was wrong.
pub fn run(setup: &Setup) -> Result<Report, String> {
    let mut random = Random::new(setup.seed);
    let witness = Arc::new(Witness::new(Random::new(random.number())));
    let ram = Ram::new(512, setup.blocks);
    let watched = Arc::new(Watched { inner: ram, witness: Arc::clone(&witness) });
    let mut world = World::new(crate::world::Setup {
        units: vec![watched],
        offers: setup.target_offers(),
        login: LoginLimits { window: setup.target_limits().window, ..LoginLimits::default() },
        limits: setup.target_limits(),
        ..crate::world::Setup::default()
    });
    let mut net = Net {
        links: Vec::new(),
        random: Random::new(random.number()),
        faults: Faults::default(),
        fingerprint: 0xcbf2_9ce4_8422_2325,
        // It knows sessions of one connection.
        checker: (setup.level < 2 && setup.connections == 1).then(Checker::default),
        trace: setup.trace.then(|| Trace::new(setup.digests, world.now())),
    };
    let mut workload = Workload::new(setup, Random::new(random.number()), world.now());
    let mut client = Client::new(setup, Random::new(random.number()), world.now());
    let begin = world.now();
    let mut now = begin;
    let mut over_since: Option<Instant> = None;
    let fail = |what: String, now: Instant| Err(format!("after {:?}: {what}", now - begin));
    for _ in 0..STEPS {
        world.tick(now);
        let mut worked = true;
        while worked {
            worked = false;
            for link in 0..net.links.len() {
                worked |= to_target(&mut world, &mut net, link, now);
            }
            world.pump();
            for link in 0..net.links.len() {
                worked |= from_target(&mut world, &mut net, link, now);
            }
            worked |= client.work(now, &mut world, &mut net, &mut workload);
        }
        for error in world.take_errors() {
            if matches!(error, ConnectionError::Format(_)) {
                return fail(format!("the target sees the initiator break a rule: {error}"), now);
            }
        }
        if let Some(what) = workload.verdict(now).or(client.verdict()) {
            return fail(what, now);
        }
        if client.is_done() {
            let left = (world.sessions(), world.tasks(), world.taken_bytes());
            if left == (0, 0, 0) {
                break;
            }
            if now > *over_since.get_or_insert(now) + Duration::from_secs(120) {
                return fail(format!("sessions, tasks and bytes left at the target: {left:?}"), now);
            }
        }
        let deadlines = world.deadline().into_iter().chain(client.deadline(now, &workload));
        let events = net.links.iter().filter_map(|link| link.next(now)).chain(deadlines);
        let mut next = events.filter(|at| *at > now).min();
        if witness.holds() {
            // The store takes its time, and finishes one thing or several.
            witness.release(1 + net.random.size(3));
            let done = now + Duration::from_micros(1 + net.random.below(2000));
            next = Some(next.map_or(done, |next| next.min(done)));
        }
        match next {
            Some(next) => now = next,
            None if client.is_done() => now += Duration::from_secs(1),
            None => return fail(format!("nothing will ever happen again: {}", client.describe(&workload)), now),
        }
        if now - begin > BOUND {
            return fail(format!("it goes on for ever: {}", client.describe(&workload)), now);
        }
    }
    if !client.is_done() {
        return fail(format!("it takes too many steps: {}", client.describe(&workload)), now);
    }
    if let Some(what) = net.checker.as_ref().and_then(Checker::verdict) {
        return fail(what, now);
    }
    if let Some(what) = workload.count_writes(&witness.counts()) {
        return fail(what, now);
    }
    Ok(Report {
        commands: workload.commands(),
        cuts: net.faults.cuts,
        damages: net.faults.damages,
        time: now - begin,
        fingerprint: net.fingerprint,
        ..client.report()
    })
}

fn to_target(world: &mut World, net: &mut Net, link: usize, now: Instant) -> bool {
    let mut worked = false;
    while let Some(bytes) = net.links[link].arrived(End::Target, now) {
        world.receive(link, &bytes);
        worked = true;
    }
    if net.links[link].is_closed(End::Target, now) && !world.is_closed(link) {
        world.lose(link);
        worked = true;
    }
    worked
}

fn from_target(world: &mut World, net: &mut Net, link: usize, now: Instant) -> bool {
    let mut worked = false;
    let mut bytes = [0; 8192];
    loop {
        let count = world.transmit(link, &mut bytes);
        if count == 0 {
            break;
        }
        worked = true;
        net.send(link, End::Target, now, &bytes[..count]);
    }
    if world.is_closed(link) && !net.links[link].has_closed(End::Target) {
        net.links[link].close(End::Target, now, &mut net.random);
        worked = true;
    }
    worked
}

impl Net {
    fn send(&mut self, link: usize, from: End, now: Instant, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fingerprint = (self.fingerprint ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if let Some(checker) = &mut self.checker {
            checker.sent(link, from, bytes);
        }
        if let Some(trace) = &mut self.trace {
            trace.sent(link, from, now, bytes);
        }
        self.links[link].send(from, now, bytes, &mut self.random, &mut self.faults);
    }
}
