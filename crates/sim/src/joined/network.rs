//! The network between the ends: it takes its time, holds bytes back, damages some, and loses whole
//! connections at any byte, at one end or both, at once or without a word.

use crate::Random;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a network is like.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    /// Bytes that pass in one piece at most.
    pub piece_bytes: usize,
    /// How long a piece takes at most, in microseconds.
    pub delay_us: u64,
    /// Once in so many pieces one is held for much longer. 0: never.
    pub holds: u64,
    /// Connections that are lost, at most, in the whole run.
    pub cuts: u32,
    /// Bytes that are damaged, at most, in the whole run.
    pub damages: u32,
    /// A fault strikes within so many bytes.
    pub within_bytes: u64,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    passed: u64,
    /// The connection is lost when so many bytes have passed.
    cut: Option<u64>,
    /// The byte that is damaged.
    damage: Option<u64>,
}

/// What an end sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The connection is open.
    Open,
    /// It is closed from then on.
    ClosedAt(Instant),
    /// Nothing more comes, and no end.
    Silence,
}

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Initiator = 0,
    Target = 1,
}

/// A connection: the pipe to the target, the pipe to the initiator.
#[derive(Debug)]
pub(super) struct Link {
    pipes: [Pipe; 2],
    sees: [Seen; 2],
    /// Nothing more passes.
    broken: bool,
    closed: [bool; 2],
    weather: Rc<Weather>,
}

/// What it did, for the report.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Faults {
    pub cuts: u32,
    pub damages: u32,
}

impl Link {
    pub fn new(weather: &Rc<Weather>) -> Link {
        Link {
            pipes: [Pipe::default(), Pipe::default()],
            sees: [Seen::Open; 2],
            broken: false,
            closed: [false; 2],
            weather: Rc::clone(weather),
        }
    }

    /// A fault may strike this connection.
    pub fn arm_cut(&mut self, random: &mut Random) {
        let direction = random.size(2);
        let pipe = &mut self.pipes[direction];
        pipe.cut = Some(pipe.passed + random.below(self.weather.within_bytes));
    }

    /// A byte of this connection is damaged: one that is sent from now on.
    pub fn arm_damage(&mut self, random: &mut Random) {
        let pipe = &mut self.pipes[random.size(2)];
        pipe.damage = Some(pipe.passed + random.below(self.weather.within_bytes));
    }

    /// Whether it will be lost.
    pub fn will_be_cut(&self) -> bool {
        !self.broken && self.pipes.iter().any(|pipe| pipe.cut.is_some())
    }

    /// Takes the fault away that has not struck.
    pub fn disarm(&mut self) {
        for pipe in &mut self.pipes {
            (pipe.cut, pipe.damage) = (None, None);
        }
    }

    /// Bytes from this end.
    pub fn send(&mut self, from: End, now: Instant, bytes: &[u8], random: &mut Random, faults: &mut Faults) {
        let weather = &self.weather;
        let pipe = &mut self.pipes[from as usize];
        let mut rest = bytes;
        while !rest.is_empty() && !self.broken {
            let mut size = rest.len().min(1 + random.size(weather.piece_bytes));
            if let Some(cut) = pipe.cut {
                size = size.min((cut - pipe.passed) as usize);
            }
            let (piece, behind) = rest.split_at(size);
            rest = behind;
            let mut piece = piece.to_vec();
            if let Some(at) = pipe.damage.filter(|at| (pipe.passed..pipe.passed + size as u64).contains(at)) {
                piece[(at - pipe.passed) as usize] ^= 1 << random.below(8);
                pipe.damage = None;
                faults.damages += 1;
            }
            pipe.passed += size as u64;
            let mut delay = Duration::from_micros(random.below(weather.delay_us.max(1)));
            if weather.holds > 0 && random.once_in(weather.holds) {
                delay += Duration::from_millis(random.below(4000));
            }
            let earliest = pipe.pieces.back().map_or(now, |(at, _)| *at);
            pipe.pieces.push_back((earliest.max(now + delay), piece));
            if pipe.cut == Some(pipe.passed) {
                faults.cuts += 1;
                self.broken = true;
            }
        }
        if self.broken && self.sees == [Seen::Open; 2] {
            self.break_off(now, random);
        }
    }

    /// The connection is lost: what is on its way may still arrive, and each end may or may not be told.
    fn break_off(&mut self, now: Instant, random: &mut Random) {
        self.broken = true;
        for pipe in &mut self.pipes {
            let left = random.size(pipe.pieces.len() + 1);
            pipe.pieces.truncate(left);
        }
        for seen in &mut self.sees {
            *seen = match random.below(4) {
                0 => Seen::Silence,
                _ => Seen::ClosedAt(now + Duration::from_micros(random.below(200_000))),
            };
        }
    }

    /// This end has closed its side; the other sees that behind what is on its way, or, of what is broken,
    /// perhaps never.
    pub fn close(&mut self, from: End, now: Instant, random: &mut Random) {
        let other = 1 - from as usize;
        self.closed[from as usize] = true;
        self.sees[from as usize] = Seen::ClosedAt(now);
        self.pipes[other].pieces.clear();
        if self.sees[other] == Seen::Open {
            self.broken = true;
            let last = self.pipes[from as usize].pieces.back().map_or(now, |(at, _)| *at);
            self.sees[other] = Seen::ClosedAt(last + Duration::from_micros(random.below(1000)));
        }
    }

    /// Whether this end has closed its side.
    pub fn has_closed(&self, end: End) -> bool {
        self.closed[end as usize]
    }

    /// Bytes for this end that have arrived.
    pub fn arrived(&mut self, at: End, now: Instant) -> Option<Vec<u8>> {
        let pipe = &mut self.pipes[1 - at as usize];
        match pipe.pieces.front() {
            Some((due, _)) if *due <= now => pipe.pieces.pop_front().map(|(_, bytes)| bytes),
            _ => None,
        }
    }

    /// Whether this end is told that the connection is closed. What is on its way comes first.
    pub fn is_closed(&self, at: End, now: Instant) -> bool {
        let empty = self.pipes[1 - at as usize].pieces.is_empty();
        empty && matches!(self.sees[at as usize], Seen::ClosedAt(when) if when <= now)
    }

    /// When something happens on it after now.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let pieces = self.pipes.iter().filter_map(|pipe| pipe.pieces.front().map(|(at, _)| *at));
        let ends = self.sees.iter().filter_map(|seen| match seen {
            Seen::ClosedAt(at) => Some(*at),
            _ => None,
        });
        pieces.chain(ends).filter(|at| *at > now).min()
    }
}
