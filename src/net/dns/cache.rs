//! Answers that were given, for as long as they hold.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record, RecordType};

use super::asked::{Asked, Content};
use crate::net::policy::Name;

/// Most answers that are kept.
const MOST_ENTRIES: usize = 1024;
/// Most bytes of replies that are kept, and of a single one.
const MOST_BYTES: usize = 1 << 20;
const LARGEST_ENTRY: usize = 16 << 10;
/// Longest that an answer is kept, and that the absence of one is (RFC 2308 §5 suggests one to three hours).
const LONGEST: Duration = Duration::from_secs(86_400);
const LONGEST_NEGATIVE: Duration = Duration::from_secs(900);

/// What makes two questions the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: Name,
    kind: RecordType,
    dnssec: bool,
    unchecked: bool,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    bytes: usize,
    stored: Instant,
    expires: Instant,
}

/// Answers as servers gave them, before policy has looked at them: it may change.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    bytes: usize,
}

impl Cache {
    /// What is known, with what is left of its time.
    pub(super) fn get(&self, now: Instant, asked: &Asked, name: &Name) -> Option<Content> {
        let entry = self.entries.get(&key(asked, name)).filter(|entry| now < entry.expires)?;
        let age = u32::try_from(now.saturating_duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut content = entry.content.clone();
        for record in content.answers.iter_mut().chain(&mut content.authorities) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(content)
    }

    /// Keeps an answer whose message had `bytes` bytes, if it may be kept.
    pub(super) fn put(
        &mut self,
        now: Instant,
        asked: &Asked,
        name: &Name,
        (content, bytes): (&Content, usize),
    ) {
        let Some(length) = lifetime(content, asked.query.query_type) else { return };
        if bytes > LARGEST_ENTRY {
            return;
        }
        let key = key(asked, name);
        self.remove(&key);
        self.make_room(now, bytes);
        let entry = Entry { content: content.clone(), bytes, stored: now, expires: now + length };
        self.bytes += bytes;
        self.entries.insert(key, entry);
    }

    /// Forgets everything: other servers may know other things.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes room for an answer: what has expired goes first, then the quarter that expires next.
    fn make_room(&mut self, now: Instant, bytes: usize) {
        let full = |cache: &Self| cache.entries.len() >= MOST_ENTRIES || cache.bytes + bytes > MOST_BYTES;
        if !full(self) {
            return;
        }
        self.entries.retain(|_, entry| now < entry.expires);
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        while full(self) {
            let mut order: Vec<(Instant, Key)> =
                self.entries.iter().map(|(key, entry)| (entry.expires, key.clone())).collect();
            order.sort_unstable_by_key(|(expires, _)| *expires);
            order.truncate(order.len().div_ceil(4));
            for (_, key) in order {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}

fn key(asked: &Asked, name: &Name) -> Key {
    Key { name: name.clone(), kind: asked.query.query_type, dnssec: asked.dnssec, unchecked: asked.unchecked }
}

/// How long an answer may be kept; `None` for not at all.
fn lifetime(content: &Content, kind: RecordType) -> Option<Duration> {
    let seconds = |ttl: u32| Duration::from_secs(u64::from(ttl));
    let least = content.answers.iter().map(|record| record.ttl).min();
    let found = content.answers.iter().any(|record| kind == RecordType::ANY || record.record_type() == kind);
    let length = if found && content.code == ResponseCode::NoError {
        seconds(least?).min(LONGEST)
    } else {
        // RFC 2308 §5: the less of the SOA's own time and its last field; without one it is not kept.
        let negative = content.authorities.iter().find_map(negative_ttl)?;
        seconds(negative.min(least.unwrap_or(u32::MAX))).min(LONGEST_NEGATIVE)
    };
    (!length.is_zero()).then_some(length)
}

fn negative_ttl(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    }
}
