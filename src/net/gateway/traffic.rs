//! What has gone through a gateway, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What has gone through since the gateway was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes that the sandbox has sent over connections, without headers.
    pub sent_bytes: u64,
    /// Bytes that it was sent.
    pub received_bytes: u64,
    /// Packets from the sandbox.
    pub sent_packets: u64,
    /// Packets to it.
    pub received_packets: u64,
    /// Connections, conversations by UDP and series of pings that were let through.
    pub connections: u64,
    /// Those that have not ended.
    pub open: u64,
    /// Connections, packets and names that the policy has refused.
    pub denied: u64,
    /// How often a limit kept something from being made, or a datagram from going on.
    pub limited: u64,
}

/// Counted by the gateway's thread, read by others.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_packets: AtomicU64,
    received_packets: AtomicU64,
    connections: AtomicU64,
    ended: AtomicU64,
    denied: AtomicU64,
    limited: AtomicU64,
}

/// Only one thread writes: no locked instruction is needed.
fn add(to: &AtomicU64, count: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counters {
    pub(super) fn bytes(&self, (sent, received): (u64, u64)) {
        add(&self.sent_bytes, sent);
        add(&self.received_bytes, received);
    }

    /// Packets so far.
    pub(super) fn packets(&self, sent: u64, received: u64) {
        self.sent_packets.store(sent, Ordering::Relaxed);
        self.received_packets.store(received, Ordering::Relaxed);
    }

    pub(super) fn begun(&self) {
        add(&self.connections, 1);
    }

    pub(super) fn ended(&self) {
        add(&self.ended, 1);
    }

    pub(super) fn denied(&self) {
        add(&self.denied, 1);
    }

    pub(super) fn limited(&self) {
        add(&self.limited, 1);
    }

    pub(super) fn read(&self) -> Traffic {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let connections = of(&self.connections);
        Traffic {
            sent_bytes: of(&self.sent_bytes),
            received_bytes: of(&self.received_bytes),
            sent_packets: of(&self.sent_packets),
            received_packets: of(&self.received_packets),
            connections,
            open: connections.saturating_sub(of(&self.ended)),
            denied: of(&self.denied),
            limited: of(&self.limited),
        }
    }
}
