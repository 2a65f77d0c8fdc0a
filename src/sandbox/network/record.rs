//! The record of what a sandbox's network has let through and what not.
//!
//! The gateway's thread only puts events on a list; another thread writes what has gathered, at most once per second. What
//! happens again and again is one row with a count, and what is too much is counted and said. While nothing happens nothing runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::net::gateway::{Connection, End, Event, Observer};
use crate::net::intercept::Refusal;
use crate::net::policy::{Direction, Name, Peer, Reason};
use crate::paths::Paths;
use crate::sandbox::database::{Database, Happening};

/// How long what happens gathers before it is written.
const GATHERED: Duration = Duration::from_secs(1);
/// Different things that gather, each kind by itself.
const ROOM: usize = 1024;
/// Rows about what the sandbox was kept from: so many at once, and so many per second in the long run. Whoever knocks at every door
/// there is must not push everything else out of the record.
const BURST: u32 = 256;
const PER_SECOND: u32 = 16;

/// Keeps what a gateway has to tell.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Recorder {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Where the record is written.
#[derive(Debug)]
pub(in crate::sandbox) struct Sink {
    pub(in crate::sandbox) paths: Paths,
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) folder: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Pending,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Takes events, and never waits for what is slow.
    pub(in crate::sandbox) fn observer(&self) -> Observer {
        let shared = Arc::clone(&self.shared);
        Box::new(move |event| {
            let was_empty = {
                let mut state = shared.state();
                let was_empty = state.pending.is_empty();
                state.pending.add(Timestamp::now(), event);
                was_empty
            };
            if was_empty {
                shared.bell.notify_one();
            }
        })
    }

    /// From now on everything is written, what has gathered so far as well.
    pub(in crate::sandbox) fn write_to(&self, sink: Sink) {
        let shared = Arc::clone(&self.shared);
        let writer = std::thread::Builder::new().name("msb-record".into());
        // A host without threads has more pressing troubles than its record.
        let writer = writer.spawn(move || write(&shared, &sink)).ok();
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = writer;
    }

    /// Writes what is left, and ends.
    pub(in crate::sandbox) fn close(&self) {
        self.shared.state().closed = true;
        self.shared.bell.notify_one();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic there has been reported on standard error.
            let _ = writer.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}

fn write(shared: &Shared, sink: &Sink) {
    let mut database = None;
    let mut allowance = Allowance { rows: BURST, since: Instant::now() };
    loop {
        let state = shared.state();
        let waiting = shared.bell.wait_while(state, |state| state.pending.is_empty() && !state.closed);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        let (rows, closed) = (state.pending.take(&mut allowance), state.closed);
        drop(state);
        if !rows.is_empty() && !note(&mut database, sink, &rows) {
            shared.state().pending.omitted += rows.len() as u64;
        }
        if closed {
            return;
        }
        let gathering = shared.bell.wait_timeout_while(shared.state(), GATHERED, |state| !state.closed);
        drop(gathering);
    }
}

/// Whether it was written. The database is a memory: a sandbox goes on without.
fn note(database: &mut Option<Database>, sink: &Sink, rows: &[Happening]) -> bool {
    if database.is_none() {
        *database = Database::open(&sink.paths).ok();
    }
    database.as_ref().is_some_and(|database| database.note_all(&sink.name, &sink.folder, rows).is_ok())
}

/// How many rows may still be written about what was denied.
struct Allowance {
    rows: u32,
    since: Instant,
}

impl Allowance {
    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
        self.rows = self.rows.saturating_add(more).min(BURST);
        self.since += Duration::from_secs(seconds);
    }
}

/// What happens again and again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Repeated {
    Denied(Peer),
    Name(Name),
    Secret(Refusal),
    Limit(&'static str),
    NoResources(&'static str),
}

/// What has gathered.
#[derive(Debug, Default)]
struct Pending {
    places: HashMap<Repeated, usize>,
    repeated: Vec<(Timestamp, Event, u64)>,
    ended: Vec<(Timestamp, Box<Connection>)>,
    /// What there was no room for.
    omitted: u64,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.repeated.is_empty() && self.ended.is_empty() && self.omitted == 0
    }

    fn add(&mut self, now: Timestamp, event: Event) {
        let key = match event {
            Event::Ended(connection) => {
                if self.ended.len() < ROOM {
                    return self.ended.push((now, connection));
                }
                self.omitted += 1;
                return;
            }
            Event::Denied { peer, .. } => Repeated::Denied(peer),
            Event::DeniedName { ref name, .. } => Repeated::Name(name.clone()),
            Event::Secret(ref refusal) => Repeated::Secret(refusal.clone()),
            Event::Limit { what, .. } => Repeated::Limit(what),
            Event::NoResources { call, .. } => Repeated::NoResources(call),
        };
        let known = self.places.get(&key).copied();
        if let Some((_, _, times)) = known.and_then(|place| self.repeated.get_mut(place)) {
            *times += 1;
        } else if self.repeated.len() >= ROOM {
            self.omitted += 1;
        } else {
            self.places.insert(key, self.repeated.len());
            self.repeated.push((now, event, 1));
        }
    }

    /// Rows of what has gathered, as many as there may be; the last one says how much is missing.
    fn take(&mut self, allowance: &mut Allowance) -> Vec<Happening> {
        allowance.refill(Instant::now());
        self.places.clear();
        let mut rows = Vec::new();
        let mut omitted = std::mem::take(&mut self.omitted);
        for (at, event, times) in self.repeated.drain(..) {
            if allowance.rows == 0 {
                omitted += times;
                continue;
            }
            allowance.rows -= 1;
            rows.extend(repeated(at, &event, times));
        }
        rows.extend(self.ended.drain(..).map(|(at, connection)| ended(at, &connection)));
        rows.sort_by_key(|row| row.time);
        if omitted > 0 {
            let details = json!({ "times": omitted, "reason": "too many events" });
            rows.push(Happening { time: Timestamp::now(), what: "net-omitted", details });
        }
        rows
    }
}

fn repeated(time: Timestamp, event: &Event, times: u64) -> Option<Happening> {
    let mut details = Map::new();
    let what = match event {
        Event::Denied { peer, names, reason } => {
            details = whom(peer, names, reason);
            "net-denied"
        }
        Event::DeniedName { name, reason } => {
            details.insert("name".into(), json!(name.to_string()));
            details.insert("reason".into(), json!(reason));
            "net-denied"
        }
        Event::Secret(refusal) => {
            if let Some(secret) = refusal.secret() {
                details.insert("secret".into(), json!(secret));
            }
            details.insert("host".into(), json!(refusal.host()));
            details.insert("reason".into(), json!(refusal.to_string()));
            "net-secret"
        }
        Event::Limit { what, limit } => {
            details.insert("what".into(), json!(what));
            details.insert("limit".into(), json!(limit));
            "net-limit"
        }
        Event::NoResources { call, reason } => {
            details.insert("what".into(), json!(call));
            details.insert("reason".into(), json!(reason));
            "net-failed"
        }
        Event::Ended(_) => return None,
    };
    details.insert("times".into(), json!(times));
    Some(Happening { time, what, details: Value::Object(details) })
}

fn ended(time: Timestamp, connection: &Connection) -> Happening {
    let Connection { peer, names, reason, lasted, sent, received, end } = connection;
    let mut details = whom(peer, names, reason);
    details.insert("sent".into(), json!(sent));
    details.insert("received".into(), json!(received));
    details.insert("milliseconds".into(), json!(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)));
    let verdict = match end {
        End::Closed => "allowed",
        End::Failed(why) => {
            details.insert("error".into(), json!(why));
            "allowed"
        }
        End::Revoked(reason) => {
            details.insert("revokedBy".into(), json!(reason.to_string()));
            "revoked"
        }
    };
    details.insert("verdict".into(), json!(verdict));
    Happening { time, what: "net-connection", details: Value::Object(details) }
}

fn whom(peer: &Peer, names: &[Name], reason: &Reason) -> Map<String, Value> {
    let mut details = Map::new();
    let direction = match peer.direction {
        Direction::Out => "out",
        Direction::In => "in",
    };
    details.insert("direction".into(), json!(direction));
    details.insert("protocol".into(), json!(peer.protocol.as_str()));
    details.insert("address".into(), json!(peer.address));
    if let Some(port) = peer.port {
        details.insert("port".into(), json!(port));
    }
    if !names.is_empty() {
        details.insert("names".into(), json!(names.iter().map(Name::to_string).collect::<Vec<_>>()));
    }
    details.insert("reason".into(), json!(reason.to_string()));
    if let Some(rule) = reason.rule() {
        details.insert("rule".into(), json!(rule.to_string()));
    }
    if let Reason::Scope(scope, _) | Reason::ScopeOfNames(scope) = reason {
        details.insert("scope".into(), json!(scope.as_str()));
    }
    details
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::policy::{Class, Protocol, Scope};

    fn denied(number: u32) -> Event {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
        let peer = Peer { direction: Direction::Out, protocol: Protocol::Tcp, address, port: Some(22) };
        Event::Denied { peer, names: Vec::new(), reason: Reason::Scope(Scope::Public, Class::Lan) }
    }

    fn connection(sent: u64) -> Event {
        let Event::Denied { peer, names, reason } = denied(1) else { unreachable!() };
        let lasted = Duration::from_millis(1500);
        Event::Ended(Box::new(Connection {
            peer,
            names,
            reason,
            lasted,
            sent,
            received: 2,
            end: End::Closed,
        }))
    }

    fn full() -> Allowance {
        Allowance { rows: BURST, since: Instant::now() }
    }

    #[test]
    fn the_same_is_one_row_with_a_count() {
        let mut pending = Pending::default();
        let now = Timestamp::now();
        for number in [1, 2, 1, 1] {
            pending.add(now, denied(number));
        }
        pending.add(now, connection(7));
        let rows = pending.take(&mut full());
        let text: Vec<String> = rows.iter().map(|row| format!("{} {}", row.what, row.details)).collect();
        let reason = "scope `public`, which does not reach private networks (lan)";
        assert_eq!(
            text[0],
            format!(
                r#"net-denied {{"address":"10.0.0.1","direction":"out","port":22,"protocol":"tcp","reason":"{reason}","scope":"public","times":3}}"#
            )
        );
        assert!(text[1].contains("10.0.0.2") && text[1].contains(r#""times":1"#), "{}", text[1]);
        assert!(text[2].contains(r#""sent":7"#) && text[2].contains(r#""milliseconds":1500"#), "{}", text[2]);
        assert_eq!(text.len(), 3);
        assert!(pending.is_empty() && pending.take(&mut full()).is_empty());
    }

    #[test]
    fn a_flood_is_counted_and_bounded() {
        let mut pending = Pending::default();
        let now = Timestamp::now();
        let many = 100_000;
        for number in 0..many {
            pending.add(now, denied(number));
            pending.add(now, connection(u64::from(number)));
        }
        let mut allowance = full();
        let rows = pending.take(&mut allowance);
        let last = rows.last().unwrap();
        assert_eq!((rows.len(), last.what), (BURST as usize + ROOM + 1, "net-omitted"));
        let written = u64::from(BURST) + ROOM as u64;
        assert_eq!(last.details["times"], 2 * u64::from(many) - written);
        // Nothing is left of the allowance, and it comes back slowly.
        pending.add(now, denied(1));
        let rows = pending.take(&mut allowance);
        assert_eq!(rows.iter().map(|row| row.what).collect::<Vec<_>>(), ["net-omitted"]);
        allowance.refill(allowance.since + Duration::from_secs(2));
        assert_eq!(allowance.rows, 2 * PER_SECOND);
    }

    #[test]
    fn what_gathers_is_written_before_and_after_there_is_a_database() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let recorder = Recorder::default();
        let mut observer = recorder.observer();
        observer(denied(1));
        recorder.write_to(Sink { paths: paths.clone(), name: "app".into(), folder: "/x".into() });
        observer(denied(2));
        recorder.close();
        let events = Database::open(&paths).unwrap().events(0).unwrap();
        let addresses: Vec<&str> =
            events.iter().map(|event| event.details["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
        assert!(events.iter().all(|event| event.sandbox == "app" && event.event == "net-denied"));
    }
}
