//! Waiting for the boot document.

use super::BootError;
use crate::message::BootDocument;
use crate::session::{Heard, Link, SessionError};
use crate::wire::Kind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// How often a port is looked at whose host has not connected: it reports a hang-up, so it cannot be waited for.
const CONNECT_POLL: Duration = Duration::from_millis(1);

/// Reads frames until the boot document is there. The host has all the time it wants: it takes the machine away when it
/// loses interest.
pub(super) fn receive(link: &mut Link) -> Result<BootDocument, BootError> {
    loop {
        match link.receive().map_err(SessionError::Port)? {
            Heard::Bytes => {}
            Heard::Nothing => {
                let mut port = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
                match poll(&mut port, PollTimeout::NONE) {
                    Ok(_) | Err(nix::Error::EINTR) => continue,
                    Err(e) => return Err(SessionError::Poll(e.into()).into()),
                }
            }
            Heard::NotConnected => {
                std::thread::sleep(CONNECT_POLL);
                continue;
            }
            Heard::Gone => return Err(BootError::HostGone),
        }
        if let Some(frame) = link.decoder.next_frame().map_err(SessionError::from)? {
            if frame.kind != Kind::Boot {
                return Err(BootError::Document(format!(
                    "the first frame is {:?}, not a boot document",
                    frame.kind
                )));
            }
            return serde_json::from_slice(frame.payload).map_err(|e| BootError::Document(e.to_string()));
        }
    }
}
