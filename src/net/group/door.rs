//! The folder of a group, in which its members have the sockets they are called at.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

use crate::paths;

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
    /// The door in this folder, which exists. Whoever can write to it could listen in a member's place.
    ///
    /// # Errors
    /// The system's, or the folder is not the user's alone.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = File::options().read(true).custom_flags(flags).open(folder)?;
        paths::check_private(&folder.metadata()?)?;
        Ok(Self { folder })
    }

    /// The path of a socket of `member`, by the folder's descriptor.
    fn path(&self, member: IpAddr, kind: Kind) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{member}.{}", self.folder.as_raw_fd(), kind.suffix()))
    }

    fn address(&self, member: IpAddr, kind: Kind) -> nix::Result<UnixAddr> {
        UnixAddr::new(&self.path(member, kind))
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
        // What is not there needs not go; what cannot go is found when it is to be replaced.
        let _ = fs::remove_file(self.path(member, kind));
    }

    /// Which file the socket of `member` is just now.
    #[must_use]
    pub(super) fn file(&self, member: IpAddr, kind: Kind) -> Option<u64> {
        fs::symlink_metadata(self.path(member, kind)).ok().map(|data| data.ino())
    }

    /// Takes away the sockets of those who are no members and do not listen: what was left by sandboxes that were killed.
    pub(super) fn sweep(&self, is_member: impl Fn(IpAddr) -> bool) {
        let Ok(entries) = fs::read_dir(format!("/proc/self/fd/{}", self.folder.as_raw_fd())) else { return };
        let socket = |name: &str| {
            let kinds = [Kind::Stream, Kind::Messages].into_iter();
            kinds.into_iter().find_map(|kind| {
                let member = name.strip_suffix(kind.suffix())?.strip_suffix('.')?;
                Some((member.parse::<IpAddr>().ok()?, kind))
            })
        };
        for (member, kind) in entries.flatten().filter_map(|entry| socket(entry.file_name().to_str()?)) {
            if !is_member(member) && matches!(self.connect(member, kind), Err(nix::Error::ECONNREFUSED)) {
                self.close(member, kind);
            }
        }
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
        paths::create_private(&long).unwrap();
        let door = Door::open(&long).unwrap();
        let member = "10.77.0.2".parse().unwrap();
        assert_eq!(door.connect(member, Kind::Stream).unwrap_err(), nix::Error::ENOENT);
        let listener = door.listen(member, Kind::Stream).unwrap();
        door.connect(member, Kind::Stream).unwrap();
        drop(listener);
        assert_eq!(door.connect(member, Kind::Stream).unwrap_err(), nix::Error::ECONNREFUSED);
        let again = door.listen(member, Kind::Stream).unwrap();
        door.connect(member, Kind::Stream).unwrap();
        // Only what nobody needs is swept away.
        door.sweep(|_| false);
        assert!(door.file(member, Kind::Stream).is_some());
        drop(again);
        door.sweep(|address| address == member);
        assert!(door.file(member, Kind::Stream).is_some());
        door.sweep(|_| false);
        assert!(door.file(member, Kind::Stream).is_none());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_no_door() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Door::open(dir.path()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Door::open(dir.path()).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        Door::open(&link).unwrap_err();
    }
}
