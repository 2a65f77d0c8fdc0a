//! The processes of the guest.

use super::parse;
use crate::message::{ByteString, ProcessMetrics};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

/// Most bytes of a command line.
const COMMAND_LIMIT: u64 = 256;

/// How many there are, and the `most` with the most CPU time. Neither threads of the kernel nor this process count.
pub(super) fn read(most: usize) -> (u32, Vec<ProcessMetrics>) {
    let Ok(folder) = fs::read_dir("/proc") else { return (0, Vec::new()) };
    let own = std::process::id().cast_signed();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    let mut found: Vec<ProcessMetrics> = Vec::new();
    let mut count = 0;
    for entry in folder.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may end between any two reads.
        let Ok(text) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        let Some(process) = parse::process(&text).filter(|process| !process.kernel && pid != own) else {
            continue;
        };
        count += 1;
        if most == 0 {
            continue;
        }
        let name = [b"[", process.name, b"]"].concat();
        found.push(ProcessMetrics {
            pid,
            uid: 0,
            command: ByteString(name),
            state: process.state,
            cpu_ns: process.cpu_ns,
            memory: process.pages.saturating_mul(page.unsigned_abs()),
        });
    }
    found.sort_unstable_by_key(|process| (std::cmp::Reverse(process.cpu_ns), process.pid));
    found.truncate(most);
    for process in &mut found {
        process.uid = fs::metadata(format!("/proc/{}", process.pid)).map_or(0, |metadata| metadata.uid());
        if let Some(command) = command(process.pid) {
            process.command = command;
        }
    }
    (count, found)
}

/// The arguments with blanks between them; nothing for a process that has none or has ended.
fn command(pid: i32) -> Option<ByteString> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(COMMAND_LIMIT).read_to_end(&mut bytes).ok()?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    (!bytes.is_empty()).then_some(ByteString(bytes))
}
