//! Who carries frames: our gateway in a process of its own, passt, slirp4netns.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use msb::net::gateway::{Gateway, Link, Settings};
use msb::net::policy::{HostAddresses, Policy, Scope};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, socket};

use crate::peer::{Framing, Peer};
use crate::per_connection;

/// The argument that makes this program a gateway at its standard input.
pub(crate) const GATEWAY: &str = "--gateway";

/// Somebody to be measured.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// It takes a hundred times as long as others.
    pub(crate) is_slow: bool,
    start: fn(&Path) -> (Child, OwnedFd),
    framing: Framing,
    gateway: Ipv4Addr,
    guest: Ipv4Addr,
}

/// Somebody at work.
pub(crate) struct Running {
    child: Child,
    peer: Mutex<Peer>,
    _folder: tempfile::TempDir,
}

impl Contestant {
    /// Ours first, then those that are installed.
    pub(crate) fn all() -> Vec<Self> {
        let link = Link::default();
        let (gateway, guest) = (link.gateway_v4, link.guest_v4);
        let stream = Framing::Lengths;
        let mut all =
            vec![Self { name: "msb", is_slow: false, start: start_ours, framing: stream, gateway, guest }];
        for (name, is_slow, start, framing) in [
            ("passt", false, start_passt as fn(&Path) -> (Child, OwnedFd), stream),
            ("slirp4netns", true, start_slirp, Framing::Packets),
        ] {
            if is_installed(name) {
                let of_slirp = framing == Framing::Packets;
                let (gateway, guest) = if of_slirp {
                    (Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 100))
                } else {
                    (gateway, guest)
                };
                all.push(Self { name, is_slow, start, framing, gateway, guest });
            } else {
                println!("{name} is not installed, and is not compared with");
            }
        }
        all
    }

    /// Starts it, with a peer at the other end of its link.
    pub(crate) fn start(&self) -> Running {
        let folder = tempfile::tempdir().expect("temporary folder");
        // passt drops its privileges before it looks.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .expect("ours");
        let (child, socket) = (self.start)(folder.path());
        let mut peer = Peer::new(socket, self.framing, (self.guest, self.gateway));
        peer.meet();
        Running { child, peer: Mutex::new(peer), _folder: folder }
    }
}

impl Running {
    pub(crate) fn peer(&self) -> std::sync::MutexGuard<'_, Peer> {
        self.peer.lock().expect("one thread")
    }

    /// MiB/s, and seconds of processor time per GiB.
    pub(crate) fn bulk(&self, bytes: u64, work: impl FnOnce(&mut Peer)) -> (f64, f64) {
        let (start, used) = (Instant::now(), self.processor_time());
        work(&mut self.peer());
        let (length, used) = (start.elapsed().as_secs_f64(), self.processor_time() - used);
        (bytes as f64 / f64::from(1 << 20) / length, used / (bytes as f64 / f64::from(1 << 30)))
    }

    /// KiB of memory per connection that `hold` has made.
    pub(crate) fn idle(&self, hold: impl FnOnce(&mut Peer) -> usize) -> f64 {
        per_connection(self.child.id().into(), || hold(&mut self.peer()))
    }

    /// In seconds.
    fn processor_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        // User and system time, hundredths of a second.
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn start_ours(_: &Path) -> (Child, OwnedFd) {
    let (gateways, machines) = UnixStream::pair().expect("sockets");
    for end in [&gateways, &machines] {
        nix::sys::socket::setsockopt(end, nix::sys::socket::sockopt::SndBuf, &(4 << 20)).expect("a socket");
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let child = command.arg(GATEWAY).stdin(OwnedFd::from(gateways)).spawn().expect("this program starts");
    (child, machines.into())
}

/// Is a gateway at standard input until the other end has gone.
pub(crate) fn serve() {
    // SAFETY: standard input is a socket that nothing else here uses.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let link = Link::default();
    let policy = Policy::new(Scope::Any, Vec::new(), link.segment(), HostAddresses::default());
    let _gateway = Gateway::serve(socket, Settings::new(link, policy)).expect("the gateway starts");
    // The other end kills this process when it is done.
    loop {
        std::thread::park();
    }
}

fn start_passt(folder: &Path) -> (Child, OwnedFd) {
    let link = Link::default();
    let path = folder.join("socket");
    let mut command = Command::new("passt");
    command.args(["--foreground", "--quiet", "--ipv4-only", "--no-dhcp", "--socket"]).arg(&path);
    command.args(["--address", &link.guest_v4.to_string(), "--netmask", &link.prefix_v4.to_string()]);
    command.args(["--gateway", &link.gateway_v4.to_string()]);
    let child = command.stderr(Stdio::null()).spawn().expect("passt starts");
    let end = Instant::now() + Duration::from_secs(10);
    let socket = loop {
        match UnixStream::connect(&path) {
            Ok(socket) => break socket,
            Err(error) => assert!(Instant::now() < end, "passt does not listen: {error}"),
        }
    };
    (child, socket.into())
}

fn start_slirp(folder: &Path) -> (Child, OwnedFd) {
    let path = folder.join("socket");
    let listener =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &UnixAddr::new(&path).expect("a short path"))
        .expect("bound");
    listen(&listener, Backlog::new(1).expect("a number")).expect("listens");
    let mut command = Command::new("slirp4netns");
    command
        .args(["--target-type=bess", "--mtu=65520"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().expect("slirp4netns starts");
    let socket = accept(std::os::fd::AsRawFd::as_raw_fd(&listener)).expect("it connects");
    // SAFETY: just made, and nobody else's.
    (child, unsafe { OwnedFd::from_raw_fd(socket) })
}
