//! The ROD tokens that stand for blocks of one unit (SPC-4 5.16.6), for all lanes.
//!
//! A token is 32 bytes that nobody can guess; what it stands for is kept here. It is of use only to who can
//! reach the unit anyway, it is forgotten when it was not used for as long as its maker asked, or when
//! newer ones need the room, and with the process.

use crate::handover::TokenAtRest;
use crate::reservation::Nexus;
use scsi::copy::token::{Range, Token};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Fills memory with what nobody can guess; false where the system has nothing of the kind. An argument of
/// every lane, like the time.
pub type Random = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// Tokens that one unit remembers,
const MAXIMUM_TOKENS: usize = 1024;
/// and of these from one nexus.
const MAXIMUM_OF_NEXUS: usize = 64;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Represented {
    /// The blocks, in the order in which they were named.
    pub ranges: Arc<[Range]>,
    /// Bytes of a block when the token was made.
    pub block_length: u32,
}

struct Known {
    token: Box<[u8]>,
    maker: Arc<Nexus>,
    represented: Represented,
    timeout: Duration,
    /// By the machine's time.
    used: Duration,
}

/// All tokens of a unit.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<VecDeque<Known>>);

impl Tokens {
    /// A new token; None where the system has no randomness.
    pub fn create(
        &self,
        naa: [u8; 16],
        maker: &Arc<Nexus>,
        represented: Represented,
        timeout: Duration,
        now: Duration,
        random: &Random,
    ) -> Option<Box<[u8]>> {
        let (mut secret, mut identifier) = ([0; 32], [0; 8]);
        if !random(&mut secret) || !random(&mut identifier) {
            return None;
        }
        let blocks: u64 = represented.ranges.iter().map(|range| u64::from(range.blocks)).sum();
        let token = Token {
            identifier: u64::from_be_bytes(identifier),
            naa,
            block_length: represented.block_length,
            bytes: blocks * u64::from(represented.block_length),
            secret: &secret,
        };
        let token: Box<[u8]> = token.encode().into();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expire(&mut known, now);
        let own = known.iter().filter(|known| known.maker == *maker).count();
        let oldest = match own >= MAXIMUM_OF_NEXUS {
            true => known.iter().position(|known| known.maker == *maker),
            false => (known.len() >= MAXIMUM_TOKENS).then_some(0),
        };
        if let Some(oldest) = oldest {
            known.remove(oldest);
        }
        known.push_back(Known { token: token.clone(), maker: Arc::clone(maker), represented, timeout, used: now });
        Some(token)
    }

    /// What a token stands for. It counts as used.
    pub fn find(&self, token: &[u8], now: Duration) -> Option<Represented> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expire(&mut known, now);
        let found = known.iter_mut().find(|known| equal(&known.token, token))?;
        found.used = now;
        Some(found.represented.clone())
    }

    /// The token is of no use any more.
    pub fn forget(&self, token: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| !equal(&known.token, token));
    }
}

impl Tokens {
    /// All of them, for a process that goes on with them.
    pub fn at_rest(&self) -> Vec<TokenAtRest> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |known: &Known| TokenAtRest {
            token: known.token.to_vec(),
            maker: (*known.maker).clone(),
            ranges: known.represented.ranges.iter().map(|range| (range.block, range.blocks)).collect(),
            block_length: known.represented.block_length,
            timeout: known.timeout,
            used: known.used,
        };
        known.iter().map(one).collect()
    }

    /// The inverse.
    pub fn revive(&self, tokens: &[TokenAtRest]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in tokens.iter().take(MAXIMUM_TOKENS) {
            let ranges = one.ranges.iter().map(|(block, blocks)| Range { block: *block, blocks: *blocks }).collect();
            known.push_back(Known {
                token: one.token.clone().into(),
                maker: Arc::new(one.maker.clone()),
                represented: Represented { ranges, block_length: one.block_length },
                timeout: one.timeout,
                used: one.used,
            });
        }
    }
}

fn expire(known: &mut VecDeque<Known>, now: Duration) {
    known.retain(|known| now.saturating_sub(known.used) <= known.timeout);
}

/// Compares in a time that does not depend on where they differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no use but for tests: the next number each time.
    fn counting() -> Random {
        let next = std::sync::atomic::AtomicU64::new(1);
        Arc::new(move |bytes| {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
            bytes.iter_mut().zip(number.iter().cycle()).for_each(|(byte, digit)| *byte = *digit);
            true
        })
    }

    fn nexus(number: u8) -> Arc<Nexus> {
        Arc::new(Nexus { initiator: Arc::from([number]), relative_port: 1 })
    }

    fn represented() -> Represented {
        Represented { ranges: Arc::from([Range { block: 4, blocks: 8 }]), block_length: 512 }
    }

    #[test]
    fn a_token_is_forgotten_when_it_was_not_used_for_so_long() {
        let (tokens, start) = (Tokens::default(), Duration::from_secs(1_000_000));
        let after = |seconds| start + Duration::from_secs(seconds);
        let token =
            tokens.create([6; 16], &nexus(1), represented(), Duration::from_secs(10), start, &counting()).unwrap();
        assert_eq!(tokens.find(&token, after(9)), Some(represented()));
        assert_eq!(tokens.find(&token, after(18)), Some(represented()), "using it keeps it");
        assert_eq!(tokens.find(&token, after(29)), None);
    }

    #[test]
    fn spc_13_another_token_is_no_token() {
        let (tokens, now, random) = (Tokens::default(), Duration::from_secs(1_000_000), counting());
        let token = tokens.create([6; 16], &nexus(1), represented(), Duration::MAX, now, &random).unwrap();
        for bit in 0..token.len() * 8 {
            let mut other = token.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tokens.find(&other, now), None);
        }
        assert_eq!(tokens.find(&token[..511], now), None);
        tokens.forget(&token);
        assert_eq!(tokens.find(&token, now), None);
    }

    #[test]
    fn nobody_pushes_out_the_tokens_of_others() {
        let (tokens, now, random) = (Tokens::default(), Duration::from_secs(1_000_000), counting());
        let make = |number| tokens.create([6; 16], &nexus(number), represented(), Duration::MAX, now, &random).unwrap();
        let (other, first) = (make(1), make(2));
        let second = make(2);
        (2..=MAXIMUM_OF_NEXUS).for_each(|_| drop(make(2)));
        assert_eq!((tokens.find(&first, now), tokens.find(&second, now).is_some()), (None, true));
        assert!(tokens.find(&other, now).is_some());
        (3..60).for_each(|number| (0..MAXIMUM_OF_NEXUS).for_each(|_| drop(make(number))));
        assert_eq!(tokens.0.lock().unwrap().len(), MAXIMUM_TOKENS);
    }
}
