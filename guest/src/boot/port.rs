//! Finding the agent port.

use super::BootError;
use crate::message::PORT_NAME;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where the kernel lists virtio ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// The port appears from a kernel worker a moment after PID 1 starts; this long is an error, not a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// First and longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(5));

/// Opens the port, waiting for it to appear. It is opened once and never again: a hypervisor need not support a port that
/// is closed and opened anew.
pub(super) fn open() -> Result<OwnedFd, BootError> {
    let start = Instant::now();
    let mut pause = PAUSE.0;
    loop {
        if let Some(device) = find() {
            let opened =
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&device);
            match opened {
                Ok(file) => return Ok(file.into()),
                // Listed, and its node not made yet.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(path_error(device, source)),
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(BootError::NoPort { name: PORT_NAME, waited: PATIENCE });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn path_error(path: PathBuf, source: io::Error) -> BootError {
    BootError::Path { stage: "port", path, source }
}

/// The node of the port, once it is listed and has its name. Everything is missing at first, so nothing is an error.
fn find() -> Option<PathBuf> {
    for entry in fs::read_dir(PORTS).ok()?.flatten() {
        if let Ok(name) = fs::read(entry.path().join("name"))
            && name.trim_ascii_end() == PORT_NAME.as_bytes()
        {
            return Some(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    None
}
