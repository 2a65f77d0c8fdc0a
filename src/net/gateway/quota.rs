//! How much may go through per second.

use std::time::{Duration, Instant};

/// As much as a limit lets through at once after a pause: an eighth of a second's worth, and never less than this.
const LEAST_BURST: u64 = 16 << 10;
/// How often those who wait are looked after, at most.
const PACE: u64 = 50;
/// How often it is told that a limit holds something up, at most.
const TOLD: Duration = Duration::from_secs(60);

/// Something of which so much per second comes: a token bucket.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    /// What there is; below nothing when more went than there was.
    level: i64,
    since: Instant,
}

impl Bucket {
    fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        Self { rate, burst, level: i64::try_from(burst).unwrap_or(i64::MAX), since: now }
    }

    /// What there is.
    fn level(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.since).as_nanos();
        let come = passed * u128::from(self.rate) / NANOS;
        if come > 0 {
            // What is not a whole one yet goes on to become one.
            self.since +=
                Duration::from_nanos(u64::try_from(come * NANOS / u128::from(self.rate)).unwrap_or(u64::MAX));
            let come = i64::try_from(come).unwrap_or(i64::MAX);
            self.level = self.level.saturating_add(come).min(i64::try_from(self.burst).unwrap_or(i64::MAX));
        }
        u64::try_from(self.level).unwrap_or(0)
    }

    fn take(&mut self, count: u64) {
        self.level = self.level.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// When there is enough again to go on with.
    fn next(&self) -> Instant {
        let enough = i64::try_from((self.rate / PACE).clamp(1, self.burst)).unwrap_or(i64::MAX);
        let missing = u128::from(enough.saturating_sub(self.level).max(0).unsigned_abs());
        let wait = missing * NANOS / u128::from(self.rate) + 1;
        self.since + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

/// What may go each way, and be begun.
#[derive(Debug, Default)]
pub(super) struct Quota {
    sent: Option<Bucket>,
    received: Option<Bucket>,
    begun: Option<Bucket>,
    /// Somebody waits, and will be told.
    armed: bool,
    told: Option<Instant>,
}

/// Limits per second; `None` for as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Bytes from the sandbox.
    pub sent: Option<u64>,
    /// Bytes to it.
    pub received: Option<u64>,
    /// Connections, conversations by UDP and series of pings of the sandbox.
    pub begun: Option<u64>,
}

impl Quota {
    /// Everything at its beginning.
    pub(super) fn new(rates: Rates, now: Instant) -> Self {
        let bytes = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, (rate / 8).max(LEAST_BURST), now));
        Self {
            sent: bytes(rates.sent),
            received: bytes(rates.received),
            begun: rates.begun.map(|rate| Bucket::new(rate, rate.max(1), now)),
            ..Self::default()
        }
    }

    /// Bytes that one of `count` may send and receive now.
    pub(super) fn share(&mut self, now: Instant, count: usize) -> (u64, u64) {
        let share = |bucket: &mut Option<Bucket>| {
            let Some(bucket) = bucket else { return u64::MAX };
            let level = bucket.level(now);
            (level / count.max(1) as u64).max(level.min(LEAST_BURST / 4))
        };
        (share(&mut self.sent), share(&mut self.received))
    }

    /// So many bytes have gone from the sandbox, and to it.
    pub(super) fn spend(&mut self, (sent, received): (u64, u64)) {
        for (bucket, count) in [(&mut self.sent, sent), (&mut self.received, received)] {
            if let Some(bucket) = bucket {
                bucket.take(count);
            }
        }
    }

    /// Whether something more may be begun, which it is then.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let Some(bucket) = &mut self.begun else { return true };
        let may = bucket.level(now) > 0;
        if may {
            bucket.take(1);
        }
        may
    }

    /// Whether nothing more may go from the sandbox, and to it.
    pub(super) fn is_short(&mut self, now: Instant) -> (bool, bool) {
        let short =
            |bucket: &mut Option<Bucket>| bucket.as_mut().is_some_and(|bucket| bucket.level(now) == 0);
        (short(&mut self.sent), short(&mut self.received))
    }

    /// When those who wait are to be looked after; `None` when that is arranged.
    pub(super) fn arm(&mut self) -> Option<Instant> {
        if self.armed {
            return None;
        }
        let short = |bucket: &&Bucket| bucket.level <= 0;
        let next = [&self.sent, &self.received].into_iter().flatten().filter(short).map(Bucket::next).min();
        self.armed = next.is_some();
        next
    }

    /// Those who waited are looked after.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// The tightest limit of bytes per second.
    pub(super) fn bytes_per_second(&self) -> usize {
        let rates = [&self.sent, &self.received].into_iter().flatten().map(|bucket| bucket.rate);
        usize::try_from(rates.min().unwrap_or(0)).unwrap_or(usize::MAX)
    }

    /// The limit of what is begun per second.
    pub(super) fn begun_per_second(&self) -> usize {
        usize::try_from(self.begun.as_ref().map_or(0, |bucket| bucket.rate)).unwrap_or(usize::MAX)
    }

    /// Whether it is to be told that somebody is held up: it goes on, and is news only once in a while.
    pub(super) fn is_news(&mut self, now: Instant) -> bool {
        let news = self.told.is_none_or(|told| told + TOLD <= now);
        if news {
            self.told = Some(now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is taken when: never more than the rate in the long run, and never less where it is always taken.
        #[test]
        fn the_rate_is_kept(
            rate in 1u64..10_000_000,
            steps in prop::collection::vec((0u64..200_000_000, 0u64..100_000), 1..200),
        ) {
            let begun = Instant::now();
            let mut quota = Quota::new(Rates { sent: Some(rate), ..Rates::default() }, begun);
            let (mut now, mut sent, mut most) = (begun, 0, 0);
            for (wait, wish) in steps {
                now += Duration::from_nanos(wait);
                let may = quota.share(now, 1).0.min(wish);
                most = most.max(may);
                quota.spend((may, 0));
                sent += may;
            }
            let burst = (rate / 8).max(LEAST_BURST);
            let allowed = u128::from(rate) * (now - begun).as_nanos() / NANOS + u128::from(burst);
            prop_assert!(u128::from(sent) <= allowed, "{sent} of {allowed}");
            prop_assert!(most <= burst);
        }

        #[test]
        fn who_waits_is_looked_after_when_there_is_something(rate in 1u64..10_000_000, over in 0u64..1_000_000) {
            let begun = Instant::now();
            let mut quota = Quota::new(Rates { received: Some(rate), ..Rates::default() }, begun);
            let (_, all) = quota.share(begun, 1);
            quota.spend((0, all + over));
            prop_assert_eq!(quota.share(begun, 1), (u64::MAX, 0));
            let at = quota.arm();
            prop_assert!(at.is_some_and(|at| quota.share(at, 1).1 > 0));
            prop_assert_eq!(quota.arm(), None);
        }
    }

    #[test]
    fn a_share_is_for_each() {
        let now = Instant::now();
        let mut quota = Quota::new(Rates { sent: Some(8 << 20), ..Rates::default() }, now);
        assert_eq!(quota.share(now, 4), (256 << 10, u64::MAX));
        assert_eq!(Quota::new(Rates::default(), now).share(now, 4), (u64::MAX, u64::MAX));
    }

    #[test]
    fn so_many_are_begun_per_second() {
        let begun = Instant::now();
        let mut quota = Quota::new(Rates { begun: Some(3), ..Rates::default() }, begun);
        let count = |quota: &mut Quota, at| (0..100).filter(|_| quota.begin(at)).count();
        assert_eq!(count(&mut quota, begun), 3);
        assert_eq!(count(&mut quota, begun + Duration::from_secs(1)), 3);
        assert_eq!(count(&mut quota, begun + Duration::from_millis(1400)), 1);
    }
}
