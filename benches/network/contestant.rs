//! Who carries frames: our gateway in a process of its own, passt, slirp4netns.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, io};

use msb::net::gateway::{Gateway, Link, Settings};
use msb::net::policy::{HostAddresses, Policy, Scope};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::line::Framing;
use crate::peer::Peer;
use crate::per_connection;

/// The argument that makes this program a gateway at its standard input.
pub(crate) const GATEWAY: &str = "--gateway";

/// The one that may stand still.
pub(crate) const SLIRP: &str = "slirp4netns";

/// Somebody to be measured.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
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
        let mut all = vec![Self { name: "msb", start: start_ours, framing: stream, gateway, guest }];
        for (name, start, framing) in [
            ("passt", start_passt as fn(&Path) -> (Child, OwnedFd), stream),
            (SLIRP, start_slirp, Framing::Packets),
        ] {
            if is_installed(name) {
                let of_slirp = framing == Framing::Packets;
                let (gateway, guest) = if of_slirp {
                    (Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 100))
                } else {
                    (gateway, guest)
                };
                all.push(Self { name, start, framing, gateway, guest });
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
    let machine = socket.try_clone().expect("a descriptor");
    let link = Link::default();
    let policy = Policy::new(Scope::Any, Vec::new(), link.segment(), HostAddresses::default());
    let _gateway = Gateway::serve(socket, Settings::new(link, policy)).expect("the gateway starts");
    // Until the other end has gone, however it goes.
    poll(&mut [PollFd::new(machine.as_fd(), PollFlags::empty())], PollTimeout::NONE).expect("a socket");
}

fn start_passt(folder: &Path) -> (Child, OwnedFd) {
    let link = Link::default();
    let path = folder.join("socket");
    let mut command = Command::new("passt");
    command.args(["--foreground", "--quiet", "--ipv4-only", "--no-dhcp", "--socket"]).arg(&path);
    command.args(["--address", &link.guest_v4.to_string(), "--netmask", &link.prefix_v4.to_string()]);
    command.args(["--gateway", &link.gateway_v4.to_string()]);
    let child = command.stderr(Stdio::null()).spawn().expect("passt starts");
    (child, connected("passt", || UnixStream::connect(&path)).into())
}

fn start_slirp(folder: &Path) -> (Child, OwnedFd) {
    let path = folder.join("socket");
    let mut command = Command::new(SLIRP);
    command
        .args(["--target-type=bess", "--mtu=65520"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().expect("slirp4netns starts");
    let address = UnixAddr::new(&path).expect("a short path");
    let socket = connected(SLIRP, || {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &address)?;
        Ok(socket)
    });
    (child, socket)
}

/// The link to `program`, which may not listen yet.
fn connected<S>(program: &str, connect: impl Fn() -> io::Result<S>) -> S {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match connect() {
            Ok(socket) => return socket,
            Err(error) => assert!(Instant::now() < end, "{program} does not listen: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
