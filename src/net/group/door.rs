//! The folder of a group, in which its members have the sockets they are called at.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

/// How two gateways talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By a stream of bytes: TCP.
    Stream,
    /// By messages: datagrams.
    Messages,
}

/// The folder of a group. It is named by descriptor, so that the length of its path does not matter (unix(7) allows 108 bytes).
#[derive(Debug)]
pub struct Door {
    folder: File,
}

impl Kind {
    fn of_socket(self) -> SockType {
        match self {
            Self::Stream => SockType::Stream,
            Self::Messages => SockType::SeqPacket,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Messages => "messages",
        }
    }
}

impl Door {
    /// The door in this folder, which exists.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        Ok(Self { folder: File::options().read(true).custom_flags(flags).open(folder)? })
    }

    fn address(&self, member: IpAddr, kind: Kind) -> nix::Result<UnixAddr> {
        let folder = self.folder.as_raw_fd();
        UnixAddr::new(format!("/proc/self/fd/{folder}/{member}.{}", kind.suffix()).as_str())
    }

    /// Listens for calls to `member`, in place of whoever did so before.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(&self, member: IpAddr, kind: Kind) -> io::Result<OwnedFd> {
        self.close(member, kind);
        let socket = new_socket(kind)?;
        bind(socket.as_raw_fd(), &self.address(member, kind)?)?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(socket)
    }

    /// Calls `member`.
    ///
    /// # Errors
    /// `ENOENT` or `ECONNREFUSED` where nobody is there, `EAGAIN` where too many call at once.
    pub fn connect(&self, member: IpAddr, kind: Kind) -> nix::Result<OwnedFd> {
        let socket = new_socket(kind)?;
        connect(socket.as_raw_fd(), &self.address(member, kind)?)?;
        Ok(socket)
    }

    /// Whether somebody listens for calls to `member`.
    #[must_use]
    pub fn is_attended(&self, member: IpAddr) -> bool {
        matches!(self.connect(member, Kind::Messages), Ok(_) | Err(nix::Error::EAGAIN))
    }

    /// Takes the socket of `member` away; calls that are under way go on.
    pub fn close(&self, member: IpAddr, kind: Kind) {
        let folder = self.folder.as_raw_fd();
        // What is not there needs not go; what cannot go is found when it is to be replaced.
        let _ = std::fs::remove_file(format!("/proc/self/fd/{folder}/{member}.{}", kind.suffix()));
    }
}

fn new_socket(kind: Kind) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, kind.of_socket(), flags, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_socket_is_found_however_long_its_path_is_and_replaced_when_it_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("a".repeat(100)).join("b".repeat(100));
        std::fs::create_dir_all(&long).unwrap();
        let door = Door::open(&long).unwrap();
        let member = "10.77.0.2".parse().unwrap();
        assert_eq!(door.connect(member, Kind::Stream).unwrap_err(), nix::Error::ENOENT);
        let listener = door.listen(member, Kind::Stream).unwrap();
        door.connect(member, Kind::Stream).unwrap();
        drop(listener);
        assert_eq!(door.connect(member, Kind::Stream).unwrap_err(), nix::Error::ECONNREFUSED);
        let _again = door.listen(member, Kind::Stream).unwrap();
        door.connect(member, Kind::Stream).unwrap();
    }
}
