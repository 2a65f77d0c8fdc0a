//! What goes on in the guest, from `/proc`.

mod parse;
mod processes;

use super::{other, say};
use crate::message::{DiskMetrics, Metrics, MetricsSpec, Pressure, ToolError};
use crate::session::boottime_ns;
use std::fs;
use std::io;
use std::time::Duration;

/// The shortest interval: reading takes some time itself.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
/// Most processes named.
const MOST_PROCESSES: usize = 500;

pub(super) fn run(spec: MetricsSpec) -> Result<(), ToolError> {
    loop {
        say(io::stdout(), &read(spec)).map_err(|e| other(e.to_string()))?;
        let Some(interval) = spec.interval_ms else { return Ok(()) };
        std::thread::sleep(Duration::from_millis(interval.into()).max(LEAST_INTERVAL));
    }
}

fn read(spec: MetricsSpec) -> Metrics {
    // What cannot be read counts as empty: the image may have mounted anything over it.
    let file = |path: &str| fs::read(path).unwrap_or_default();
    let mut cpu = parse::cpu(&file("/proc/stat"));
    cpu.load = parse::load(&file("/proc/loadavg"));
    let waits = |what: &str| parse::pressure(&file(&format!("/proc/pressure/{what}")));
    let (process_count, processes) = processes::read(usize::from(spec.processes).min(MOST_PROCESSES));
    Metrics {
        uptime_ns: boottime_ns(),
        cpu,
        memory: parse::memory(&file("/proc/meminfo")),
        disk: disk(),
        block: parse::block(&file("/proc/diskstats")),
        network: parse::network(&file("/proc/net/dev")),
        pressure: waits("cpu").map(|cpu_ns| Pressure {
            cpu_ns,
            memory_ns: waits("memory").unwrap_or_default(),
            io_ns: waits("io").unwrap_or_default(),
        }),
        process_count,
        processes,
    }
}

fn disk() -> DiskMetrics {
    let Ok(found) = nix::sys::statvfs::statvfs("/") else { return DiskMetrics::default() };
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    DiskMetrics {
        size: bytes(found.blocks()),
        used: bytes(found.blocks().saturating_sub(found.blocks_free())),
        inodes: found.files(),
        inodes_used: found.files().saturating_sub(found.files_free()),
    }
}
