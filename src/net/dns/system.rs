//! The name servers of this machine: resolv.conf(5).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Transport;
use crate::net::policy::Name;

/// Where it is.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Largest that is read, in bytes.
const LARGEST: u64 = 64 << 10;
/// Most servers, as in glibc, and most domains to search.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 32;
/// Longest wait for one server: programs in the sandbox wait five seconds, and there may be a second server.
const LONGEST_WAIT: u64 = 2;
const PORT: u16 = 53;

/// Whom to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// The domains in which short names are looked for. That is done in the sandbox, by its own resolver library.
    pub search: Vec<Name>,
    /// How many dots a name has that is first tried as it is.
    pub ndots: u8,
    /// How long to wait for one server.
    pub timeout: Duration,
    /// How often each is asked.
    pub attempts: usize,
    /// How they are asked first.
    pub transport: Transport,
}

impl Default for Upstreams {
    /// What resolv.conf(5) says of a file without content, but for the servers: none.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(LONGEST_WAIT),
            attempts: 2,
            transport: Transport::Udp,
        }
    }
}

impl Upstreams {
    /// Reads the text of a resolv.conf. What cannot be read in it is passed over, as resolver libraries do; a text
    /// that names no server means the one on this machine.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut upstreams = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if upstreams.servers.len() < MOST_SERVERS => {
                    upstreams.servers.extend(words.next().and_then(server));
                }
                // The last of these lines counts.
                Some("search" | "domain") => {
                    upstreams.search =
                        words.filter_map(|word| word.parse().ok()).take(MOST_DOMAINS).collect();
                }
                Some("options") => words.for_each(|option| upstreams.option(option)),
                _ => {}
            }
        }
        if upstreams.servers.is_empty() {
            upstreams.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        upstreams
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<u64>();
        match (name, number) {
            ("ndots", Ok(dots)) => self.ndots = u8::try_from(dots.min(15)).unwrap_or(15),
            ("timeout", Ok(seconds)) => self.timeout = Duration::from_secs(seconds.clamp(1, LONGEST_WAIT)),
            ("attempts", Ok(times)) => self.attempts = usize::try_from(times.clamp(1, 5)).unwrap_or(5),
            ("use-vc", _) => self.transport = Transport::Tcp,
            _ => {}
        }
    }
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    match (address.parse().ok()?, zone) {
        (address @ IpAddr::V4(_), _) | (address, None) => Some(SocketAddr::new(address, PORT)),
        (IpAddr::V6(address), Some(zone)) => {
            let index = zone.parse().ok().or_else(|| nix::net::if_::if_nametoindex(zone).ok())?;
            Some(SocketAddrV6::new(address, PORT, 0, index).into())
        }
    }
}

/// The resolv.conf of this machine, read again when it has changed. Servers such as systemd-resolved's on 127.0.0.53 are asked
/// as they are, and with them comes what they know of domains with servers of their own.
#[derive(Debug)]
pub struct System {
    path: PathBuf,
    stamp: Option<Stamp>,
    upstreams: Upstreams,
}

/// What changes when a file does.
type Stamp = (u64, u64, i64, i64, u64);

impl Default for System {
    fn default() -> Self {
        Self::new(Path::new(RESOLV_CONF))
    }
}

impl System {
    /// Another file of this form.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: None, upstreams: Upstreams::default() }
    }

    /// What the file said when it was read last; no servers before.
    #[must_use]
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// What the file says, if that was not asked since it changed. It costs one system call if it has not. A file that is not
    /// there means the server on this machine.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn changed(&mut self) -> io::Result<Option<&Upstreams>> {
        let stamp = match fs::metadata(&self.path) {
            Ok(meta) => (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stamp::default(),
            Err(error) => return Err(error),
        };
        if self.stamp == Some(stamp) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => {
                file.take(LARGEST).read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.stamp = Some(stamp);
        self.upstreams = Upstreams::parse(&String::from_utf8_lossy(&bytes));
        Ok(Some(&self.upstreams))
    }
}
