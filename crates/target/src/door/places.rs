//! Who is at the door: connections in their login or in discovery, bounded in all and by address.
//!
//! At a bound the newcomer is let in and the oldest goes: a login that means well takes milliseconds, so that
//! whoever has been at it longest does not. Nobody holds the door shut by standing in it.

use crate::limits::Limits;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// So long nobody goes for a newcomer: when many come at once, the first are served and the others may come
/// again. If each took the place of the one before, nobody would get through.
const GRACE: Duration = Duration::from_millis(250);

/// For whom an address stands: in IPv6 one host has a whole /64.
pub(crate) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !0 << 64)),
        address => address,
    }
}

struct Place {
    origin: IpAddr,
    since: Instant,
    /// Ends the login; none until it has begun, and none when it is not to be disturbed any more.
    end: Option<AbortHandle>,
}

#[derive(Default)]
struct State {
    /// By number, and so by age.
    places: BTreeMap<u64, Place>,
    by_origin: HashMap<IpAddr, BTreeSet<u64>>,
    next: u64,
}

/// The places at the door.
pub(crate) struct Places {
    limits: Arc<Limits>,
    state: Mutex<State>,
}

/// One place, given back when it is dropped.
pub(crate) struct Seat {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    pub fn new(limits: Arc<Limits>) -> Arc<Places> {
        Arc::new(Places { limits, state: Mutex::default() })
    }

    /// A place for a connection from there. None: all are taken by others that came just now.
    pub fn enter(self: &Arc<Places>, now: Instant, address: IpAddr) -> Option<Seat> {
        let origin = origin(address);
        let mut state = self.lock();
        let here = state.by_origin.get(&origin).map_or(0, BTreeSet::len);
        let makes_room = if here >= self.limits.logins_by_address {
            self.limits.struck.logins_by_address.count();
            state.dismiss_oldest(now, origin)
        } else if state.places.len() >= self.limits.logins {
            self.limits.struck.logins.count();
            let crowd = state.by_origin.iter().max_by_key(|(_, places)| places.len()).map(|(origin, _)| *origin);
            crowd.is_some_and(|crowd| state.dismiss_oldest(now, crowd))
        } else {
            true
        };
        if !makes_room {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.places.insert(number, Place { origin, since: now, end: None });
        state.by_origin.entry(origin).or_default().insert(number);
        Some(Seat { places: Arc::clone(self), number })
    }

    /// How many are there, and how long the oldest has been.
    pub fn taken(&self, now: Instant) -> (usize, Duration) {
        let state = self.lock();
        let oldest = state.places.first_key_value().map(|(_, place)| now.saturating_duration_since(place.since));
        (state.places.len(), oldest.unwrap_or_default())
    }

    /// The addresses with most of them, at most so many.
    pub fn crowds(&self, most: usize) -> Vec<(IpAddr, usize)> {
        let mut crowds: Vec<_> = self.lock().by_origin.iter().map(|(origin, places)| (*origin, places.len())).collect();
        crowds.sort_by_key(|(origin, count)| (std::cmp::Reverse(*count), *origin));
        crowds.truncate(most);
        crowds
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn dismiss_oldest(&mut self, now: Instant, origin: IpAddr) -> bool {
        let Some(numbers) = self.by_origin.get(&origin) else { return false };
        let old = |place: &Place| now.saturating_duration_since(place.since) >= GRACE && place.end.is_some();
        let Some(number) = numbers.iter().copied().find(|number| self.places.get(number).is_some_and(old)) else {
            return false;
        };
        if let Some(end) = self.remove(number).and_then(|place| place.end) {
            end.abort();
        }
        true
    }

    fn remove(&mut self, number: u64) -> Option<Place> {
        let place = self.places.remove(&number)?;
        if let Some(numbers) = self.by_origin.get_mut(&place.origin) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_origin.remove(&place.origin);
            }
        }
        Some(place)
    }
}

impl Seat {
    /// Its number, to tell how it ends.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// It is not dismissed any more: the login has succeeded, and others wait for what it does next.
    pub fn keep(&self) {
        if let Some(place) = self.places.lock().places.get_mut(&self.number) {
            place.end = None;
        }
    }
}

impl Places {
    /// How the connection of this place is ended.
    pub fn ended_by(&self, number: u64, end: AbortHandle) {
        if let Some(place) = self.lock().places.get_mut(&number) {
            place.end = Some(end);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(logins: usize, by_address: usize) -> Arc<Places> {
        let limits = Limits { logins, logins_by_address: by_address, ..Limits::default() };
        Places::new(Arc::new(limits))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn abortable() -> (AbortHandle, tokio::task::JoinHandle<()>) {
        let task = tokio::spawn(std::future::pending());
        (task.abort_handle(), task)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_oldest_of_a_crowd_makes_room_and_nobody_else() {
        let places = places(4, 3);
        let begun = Instant::now();
        let later = begun + GRACE;
        let enter = |now, last| {
            let seat = places.enter(now, address(last))?;
            let (end, task) = abortable();
            places.ended_by(seat.number(), end);
            Some((seat, task))
        };
        let other = enter(begun, 9).unwrap();
        let mut crowd: Vec<_> = (0..3).map(|_| enter(begun, 1).unwrap()).collect();
        assert!(enter(begun, 1).is_none(), "three from one address, and all came just now");
        assert!(enter(begun, 2).is_none(), "four in all");
        crowd.push(enter(later, 1).unwrap());
        assert!(crowd.remove(0).1.await.unwrap_err().is_cancelled(), "its oldest went");
        let newcomer = enter(later, 2).unwrap();
        assert!(crowd.remove(0).1.await.unwrap_err().is_cancelled(), "the crowd's oldest went, not the other");
        assert!(!other.1.is_finished() && !newcomer.1.is_finished());
        assert_eq!(places.taken(later), (4, GRACE));
        assert_eq!(places.crowds(1), [(address(1), 2)]);
        let struck = &places.limits.struck;
        assert_eq!((struck.logins_by_address.get(), struck.logins.get()), (2, 2));
        drop((other, crowd, newcomer));
        assert_eq!(places.taken(later).0, 0);
        assert!(places.lock().by_origin.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn whoever_has_logged_in_is_not_sent_away() {
        let places = places(1, 1);
        let begun = Instant::now();
        let seat = places.enter(begun, address(1)).unwrap();
        let (end, task) = abortable();
        places.ended_by(seat.number(), end);
        seat.keep();
        assert!(places.enter(begun + GRACE, address(1)).is_none() && places.enter(begun + GRACE, address(2)).is_none());
        assert!(!task.is_finished());
    }

    #[test]
    fn a_network_of_one_host_is_one_address() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
