//! What goes over the links: a line for each PDU, for a person who looks into a seed, and the capture
//! checker, which knows what a target may say.

use super::network::End;
use crate::Capture;
use crate::frame::{Assembler, Digests};
use iscsi::wire::LoginResponse;
use std::collections::HashMap;
use std::time::Instant;

/// Prints PDUs as they are sent.
pub(super) struct Trace {
    digests: Digests,
    begin: Instant,
    links: HashMap<usize, [Assembler; 2]>,
}

impl Trace {
    pub fn new((header, data): (bool, bool), begin: Instant) -> Trace {
        Trace { digests: Digests { header, data }, begin, links: HashMap::new() }
    }

    /// Something that is no PDU.
    pub fn note(&self, now: Instant, what: &str) {
        println!("{:>12.6} {what}", (now - self.begin).as_secs_f64());
    }

    pub fn sent(&mut self, link: usize, from: End, now: Instant, bytes: &[u8]) {
        let ends = self.links.entry(link).or_default();
        ends[from as usize].push(bytes);
        while let Some((frame, _)) = ends[from as usize].take() {
            let arrow = if from == End::Initiator { '>' } else { '<' };
            println!("{:>12.6} {link} {arrow} {}", (now - self.begin).as_secs_f64(), frame.summary());
            if frame.view::<LoginResponse>().is_some_and(|response| response.flags & 0x83 == 0x83) {
                for end in ends.iter_mut() {
                    end.digests = self.digests;
                }
            }
        }
    }
}

/// The capture checker of every link. It reads what is sent, as it was before the network had it.
#[derive(Default)]
pub(super) struct Checker {
    links: HashMap<usize, Checked>,
}

#[derive(Default)]
struct Checked {
    ends: [Assembler; 2],
    capture: Capture,
}

impl Checker {
    pub fn sent(&mut self, link: usize, from: End, bytes: &[u8]) {
        let Checked { ends, capture } = self.links.entry(link).or_default();
        ends[from as usize].push(bytes);
        while let Some((frame, complaints)) = ends[from as usize].take() {
            match from {
                End::Initiator => capture.initiator(&frame),
                End::Target => capture.target(&frame, &complaints),
            }
            if capture.is_full_feature() {
                let digests = capture.agreed().digests;
                ends.iter_mut().for_each(|end| end.digests = digests);
            }
        }
    }

    /// What a target did wrong, if any did.
    pub fn verdict(&self) -> Option<String> {
        self.links.values().find(|link| !link.capture.violations().is_empty()).map(|link| link.capture.report())
    }
}
