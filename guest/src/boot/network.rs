//! The network interface, by rtnetlink (rtnetlink(7)), and `/etc/resolv.conf`.

use super::BootError;
use crate::message::{InterfaceAddress, NetworkSetup};
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Where the name servers are looked for.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where they are written down before the root is entered: in memory, outside of it.
const OUTSIDE: &str = "/resolv.conf";

/// Attributes of links (`IFLA_*`), addresses (`IFA_*`), routes (`RTA_*`) and neighbors (`NDA_*`).
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// The address is ours beyond doubt: nobody is asked.
const IFA_F_NODAD: u8 = 0x02;
/// The neighbor is there for good.
const NUD_PERMANENT: u16 = 0x80;

/// A message, and its length at the front in the end.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        Self(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = (4 + value.len()) as u16;
        let mut message = self.put(&length.to_ne_bytes()).put(&kind.to_ne_bytes()).put(value);
        message.0.resize(message.0.len().next_multiple_of(4), 0);
        message
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0[..4].copy_from_slice(&length);
        self.0
    }
}

/// Sets the interface up.
pub(super) fn set_up(setup: &NetworkSetup) -> Result<(), BootError> {
    let failed = |call| move |source: io::Error| BootError::Call { stage: "network", call, source };
    let index = nix::net::if_::if_nametoindex(setup.interface.as_str())
        .map_err(|e| failed("find the network interface")(e.into()))?;
    let netlink = rtnetlink().map_err(failed("open rtnetlink"))?;
    let call = |call, message| request(&netlink, message).map_err(failed(call));
    call("bring the network interface up", link(index, setup.mtu))?;
    for address in &setup.addresses {
        call("set the network address", address_of(index, address))?;
        call("set the gateway's hardware address", neighbor(index, address.gateway, setup.gateway_mac))?;
        call("set the default route", default_route(index, address.gateway))?;
    }
    Ok(())
}

fn rtnetlink() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?)
}

/// Sends a message and waits for the kernel's answer.
fn request(netlink: &OwnedFd, message: Message) -> io::Result<()> {
    sendto(netlink.as_raw_fd(), &message.finish(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0u8; 4096];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // A header of 16 bytes, and the error as a negative number.
    let error = answer[..length].get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `ifinfomsg`: up, with this MTU.
fn link(index: u32, mtu: u32) -> Message {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    Message::new(libc::RTM_NEWLINK, 0)
        .put(&[0; 4])
        .put(&index.to_ne_bytes())
        .put(&up)
        .put(&up)
        .attribute(IFLA_MTU, &mtu.to_ne_bytes())
}

/// `ifaddrmsg`.
fn address_of(index: u32, address: &InterfaceAddress) -> Message {
    let octets = octets(address.address);
    Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .put(&[family(address.address), address.prefix, IFA_F_NODAD, libc::RT_SCOPE_UNIVERSE])
        .put(&index.to_ne_bytes())
        .attribute(IFA_LOCAL, &octets)
        .attribute(IFA_ADDRESS, &octets)
}

/// `ndmsg`.
fn neighbor(index: u32, address: IpAddr, mac: [u8; 6]) -> Message {
    Message::new(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .put(&[family(address), 0, 0, 0])
        .put(&index.to_ne_bytes())
        .put(&NUD_PERMANENT.to_ne_bytes())
        .put(&[0, 0])
        .attribute(NDA_DST, &octets(address))
        .attribute(NDA_LLADDR, &mac)
}

/// `rtmsg`.
fn default_route(index: u32, gateway: IpAddr) -> Message {
    let table = libc::RT_TABLE_MAIN;
    let (protocol, scope, kind) = (libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
    Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .put(&[family(gateway), 0, 0, 0, table, protocol, scope, kind])
        .put(&[0; 4])
        .attribute(RTA_GATEWAY, &octets(gateway))
        .attribute(RTA_OIF, &index.to_ne_bytes())
}

/// `rtmsg`: who comes from this interface may get to ::1.
fn route_to_loopback(index: u32) -> Message {
    let (protocol, scope, kind) = (libc::RTPROT_BOOT, libc::RT_SCOPE_HOST, libc::RTN_LOCAL);
    let loopback = Ipv6Addr::LOCALHOST.octets();
    let bits = (8 * loopback.len()) as u8;
    Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
        .put(&[libc::AF_INET6 as u8, bits, 0, 0, libc::RT_TABLE_LOCAL, protocol, scope, kind])
        .put(&[0; 4])
        .attribute(RTA_DST, &loopback)
        .attribute(RTA_OIF, &index.to_ne_bytes())
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// Writes the name servers down, while the guest's own first root is still in sight.
pub(super) fn name_servers(setup: &NetworkSetup) -> Result<File, BootError> {
    let mut text = String::new();
    for server in &setup.nameservers {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    if !setup.search.is_empty() {
        let _ = writeln!(text, "search {}", setup.search.join(" "));
    }
    if let Some(ndots) = setup.ndots {
        let _ = writeln!(text, "options ndots:{ndots}");
    }
    fs::write(OUTSIDE, text).and_then(|()| File::open(OUTSIDE)).map_err(failed(OUTSIDE))
}

/// Lets the gateway reach servers that listen on loopback only: nobody but the gateway is on the interface, and it calls loopback
/// for published ports alone. IPv4 has a switch for that. IPv6 has none: the kernel drops what comes for ::1, but follows a segment
/// routing header (RFC 8754) from the sandbox's address to there.
pub(super) fn open_loopback(setup: &NetworkSetup) {
    let interface = setup.interface.as_str();
    let switches = [
        format!("ipv4/conf/{interface}/route_localnet"),
        format!("ipv6/conf/{interface}/seg6_enabled"),
        "ipv6/conf/all/seg6_enabled".to_owned(),
    ];
    // Without any of these such servers are not reached, and all else works.
    for switch in switches {
        let _ = fs::write(format!("/proc/sys/net/{switch}"), "1");
    }
    let index = nix::net::if_::if_nametoindex(interface).map_err(io::Error::from);
    let _ = index.and_then(|index| request(&rtnetlink()?, route_to_loopback(index)));
}

/// Mounts the file over that of the image, which stays as it is on the disk.
pub(super) fn mount_name_servers(file: &File) -> Result<(), BootError> {
    let target = Path::new(RESOLV_CONF);
    if !target.exists() {
        make_empty(target).map_err(failed(RESOLV_CONF))?;
    }
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| failed(RESOLV_CONF)(e.into()))
}

/// Makes an empty file, also where a link leads to nothing.
fn make_empty(target: &Path) -> io::Result<()> {
    let mut place = target.to_owned();
    // As deep as the kernel follows them.
    for _ in 0..40 {
        let Ok(to) = fs::read_link(&place) else { break };
        place = place.parent().unwrap_or(Path::new("/")).join(to);
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).open(place).map(drop)
}

fn failed(path: &'static str) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::Path { stage: "network", path: path.into(), source }
}
