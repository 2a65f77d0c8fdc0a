//! Listening on the host for a sandbox.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt,
    socket, sockopt,
};
use thiserror::Error;

use super::{PortSpec, Transport};

/// How often a free port is tried that is not free on both loopback addresses.
const TRIES: u32 = 64;

/// A port of the host that leads to one of the sandbox.
#[derive(Debug)]
pub struct Listener {
    /// The socket, listening if it is TCP's.
    pub socket: OwnedFd,
    /// Where it is on the host.
    pub address: SocketAddr,
    /// The sandbox's port.
    pub guest: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

/// A port cannot be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Somebody else has it.
    #[error("port {address}/{transport} of this machine is in use{}", holder.as_ref().map_or_else(String::new, |name| format!(" by {name}")))]
    InUse {
        /// The address.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
        /// Who, where that can be seen.
        holder: Option<String>,
    },
    /// It is one of those that not everybody may have.
    #[error("port {address}/{transport} of this machine is for root alone")]
    Privileged {
        /// The address.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
    },
    /// The address is not one of this machine, or something else is wrong.
    #[error("cannot publish on {address}/{transport}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
        /// Why.
        source: io::Error,
    },
}

impl PublishError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => {
                Some("choose another port of this machine, or 0 for any that is free, as in `0:80`".into())
            }
            Self::Privileged { .. } => Some("choose one from 1024 on, as in `8080:80`".into()),
            Self::Bind { address, source, .. } => match source.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => {
                    let all = if address.is_ipv4() {
                        "0.0.0.0 stands for all of IPv4"
                    } else {
                        "[::] stands for all of IPv6"
                    };
                    Some(format!("`ip address` lists the addresses of this machine; {all}"))
                }
                Some(libc::EMFILE) => {
                    Some("publish fewer ports, or raise the limit of open files (`ulimit -Hn`)".into())
                }
                _ => None,
            },
        }
    }
}

impl Listener {
    /// Opens all ports of `spec`. Without an address to bind to they are on both loopback addresses, where the host has both.
    ///
    /// # Errors
    /// [`PublishError`] for the first that cannot be had.
    pub fn open(spec: &PortSpec) -> Result<Vec<Self>, PublishError> {
        let mut listeners = Vec::new();
        for (host, guest) in spec.pairs() {
            let to = (guest, spec.transport);
            if let Some(bind) = spec.bind {
                listeners.push(Self::at(SocketAddr::new(bind, host), to)?);
                continue;
            }
            listeners.extend(Self::on_loopback(host, to)?);
        }
        Ok(listeners)
    }

    /// On both loopback addresses, where the host has both. `localhost` means either, so a port that somebody else has on one of them
    /// is not free.
    fn on_loopback(host: u16, to: (u16, Transport)) -> Result<Vec<Self>, PublishError> {
        let mut tries = if host == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            let first = Self::at((Ipv4Addr::LOCALHOST, host).into(), to)?;
            match Self::at((Ipv6Addr::LOCALHOST, first.address.port()).into(), to) {
                Ok(second) => return Ok(vec![first, second]),
                // A host without IPv6.
                Err(PublishError::Bind { .. }) => return Ok(vec![first]),
                Err(_) if tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn at(address: SocketAddr, (guest, transport): (u16, Transport)) -> Result<Self, PublishError> {
        let opened = open(address, transport).and_then(|socket| {
            let bound = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
            let v4 = bound.as_sockaddr_in().map(|bound| bound.port());
            let port = v4.or_else(|| bound.as_sockaddr_in6().map(|bound| bound.port()));
            Ok((socket, port.unwrap_or_default()))
        });
        match opened {
            Ok((socket, port)) => {
                Ok(Self { socket, address: SocketAddr::new(address.ip(), port), guest, transport })
            }
            Err(nix::Error::EADDRINUSE) => {
                Err(PublishError::InUse { address, transport, holder: holder(address, transport) })
            }
            Err(nix::Error::EACCES) => Err(PublishError::Privileged { address, transport }),
            Err(errno) => Err(PublishError::Bind { address, transport, source: errno.into() }),
        }
    }
}

fn open(address: SocketAddr, transport: Transport) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        // `[::]` is not a second name for `0.0.0.0`.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if transport == Transport::Tcp {
        // Connections of an earlier sandbox that are not forgotten yet are in nobody's way.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if transport == Transport::Tcp {
        listen(&socket, Backlog::MAXCONN)?;
    }
    Ok(socket)
}

/// What the first word of a supervisor begins with; the name of its sandbox follows.
const SUPERVISOR: &str = "msb-supervisor ";

/// Who has the port, as far as this user can see: the kernel's table has its socket's number, and one of the processes has that.
fn holder(address: SocketAddr, transport: Transport) -> Option<String> {
    let inodes: Vec<String> = ["", "6"]
        .iter()
        .filter_map(|family| {
            fs::read_to_string(format!("/proc/self/net/{}{family}", transport.as_str())).ok()
        })
        .flat_map(|table| {
            table.lines().filter_map(|line| inode_at(line, address, transport)).collect::<Vec<_>>()
        })
        .collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid =
            process.file_name().into_string().ok().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let has = open.any(|fd| {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
        });
        has.then(|| format!("{} (process {pid})", called(&process.path())))
    })
}

/// What the process of this folder of `/proc` is called: a supervisor by its sandbox.
fn called(process: &Path) -> String {
    let words = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
    let name = match words.split('\0').next().and_then(|first| first.strip_prefix(SUPERVISOR)) {
        Some(sandbox) => format!("sandbox `{sandbox}`"),
        None => fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned(),
    };
    // Processes call themselves what they like.
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The socket's number in a line of `/proc/net/tcp` and its like, if it has this port and is in the way of this address (proc_net(5)).
fn inode_at(line: &str, wanted: SocketAddr, transport: Transport) -> Option<String> {
    const LISTENING: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != wanted.port()
        || (transport == Transport::Tcp && *words.get(3)? != LISTENING)
    {
        return None;
    }
    let address = match address.len() {
        8 => IpAddr::V4(u32::from_str_radix(address, 16).ok()?.to_ne_bytes().into()),
        32 => {
            let mut octets = [0; 16];
            for (place, word) in octets.chunks_exact_mut(4).zip(address.as_bytes().chunks_exact(8)) {
                let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
                place.copy_from_slice(&word.to_ne_bytes());
            }
            IpAddr::V6(octets.into())
        }
        _ => return None,
    };
    let in_the_way = address == wanted.ip() || address.is_unspecified() || wanted.ip().is_unspecified();
    in_the_way.then(|| words.get(9).map(|&inode| inode.to_owned())).flatten().filter(|inode| inode != "0")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_has_a_port_is_named_by_the_sandbox_it_is_for() {
        let process = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(process.path().join(file), text).unwrap();
        write("comm", "nginx\n");
        write("cmdline", "nginx: master process\0");
        assert_eq!(called(process.path()), "nginx");
        write("cmdline", "msb-supervisor web\0__supervise\0");
        assert_eq!(called(process.path()), "sandbox `web`");
        write("cmdline", "msb-supervisor \u{1b}[2J\0");
        assert_eq!(called(process.path()), "sandbox `[2J`");
    }

    #[test]
    fn what_cannot_be_published_comes_with_what_to_do() {
        let open = |spec: &str| Listener::open(&spec.parse().unwrap());
        let free = open("127.0.0.1:0:80").unwrap();
        let taken = open(&format!("127.0.0.1:{}:80", free[0].address.port())).unwrap_err();
        assert!(
            taken.to_string().contains(" is in use by ") && taken.hint().unwrap().contains("0:80"),
            "{taken}"
        );
        let elsewhere = open("192.0.2.1:0:80").unwrap_err();
        assert!(elsewhere.hint().unwrap().contains("ip address"), "{elsewhere}");
    }
}
