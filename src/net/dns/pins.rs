//! Which names the sandbox got an address for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::net::policy::Name;

/// Most addresses that are remembered, and most names of one.
const MOST_ADDRESSES: usize = 4096;
const MOST_NAMES: usize = 32;
/// Least that an answer is good for a connection: whoever asks for a name with a time of 0 connects after the answer.
const LEAST: Duration = Duration::from_secs(10);
/// Longest that it is, whatever the answer says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The names for which an address was given out, and until when each counts.
#[derive(Debug, Default)]
pub(super) struct Pins(HashMap<IpAddr, Vec<(Name, Instant)>>);

impl Pins {
    /// Remembers that `address` was given out for `names`, with `ttl` seconds to live.
    pub(super) fn pin(&mut self, now: Instant, address: IpAddr, names: &[Name], ttl: u32) {
        let until = now + Duration::from_secs(u64::from(ttl)).clamp(LEAST, LONGEST);
        if !self.0.contains_key(&address) && self.0.len() >= MOST_ADDRESSES {
            self.make_room(now);
        }
        let known = self.0.entry(address).or_default();
        known.retain(|(_, until)| now < *until);
        for name in names {
            if let Some((_, old)) = known.iter_mut().find(|(other, _)| other == name) {
                *old = until.max(*old);
                continue;
            }
            if known.len() >= MOST_NAMES {
                known.remove(0);
            }
            known.push((name.clone(), until));
        }
    }

    /// The names that count for `address`.
    pub(super) fn names(&self, now: Instant, address: IpAddr) -> impl Iterator<Item = &Name> {
        let known = self.0.get(&address).map_or(&[][..], Vec::as_slice);
        known.iter().filter(move |(_, until)| now < *until).map(|(name, _)| name)
    }

    /// Forgets the quarter that counts shortest, what does not count any more with it.
    fn make_room(&mut self, now: Instant) {
        let last = |names: &[(Name, Instant)]| names.iter().map(|(_, until)| *until).max().unwrap_or(now);
        let mut ends: Vec<Instant> = self.0.values().map(|names| last(names)).collect();
        let (_, end, _) = ends.select_nth_unstable(MOST_ADDRESSES / 4);
        let end = now.max(*end);
        // Where all end at once, those that are seen first go.
        let mut left = MOST_ADDRESSES / 4;
        self.0.retain(|_, names| {
            let goes = last(names) <= end && (left > 0 || last(names) <= now);
            left = left.saturating_sub(usize::from(goes));
            !goes
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
