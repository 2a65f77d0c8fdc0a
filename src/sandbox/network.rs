//! The network of a sandbox that is being started.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use msb_guest::message::{InterfaceAddress, NetworkSetup};

use crate::net::Network;
use crate::net::gateway::{Gateway, Limits, Link, MTU, Settings};
use crate::net::policy::{HostAddresses, Segment};
use crate::vm;

/// A gateway that waits for its machine.
pub(super) struct Attached {
    gateway: Gateway,
    machine: UnixStream,
    link: Link,
}

/// Starts the gateway of a sandbox with this network; `None` where nothing can be reached.
///
/// # Errors
/// The system's.
pub(super) fn attach(network: &Network) -> io::Result<Option<Attached>> {
    if network.is_off() {
        return Ok(None);
    }
    let link = Link::default();
    let segment =
        Segment { gateways: vec![link.gateway_v4.into(), link.gateway_v6.into()], groups: Vec::new() };
    let policy = network.policy(segment, HostAddresses::read()?);
    let (gateway, machine) = Gateway::start(Settings {
        link,
        policy: Arc::new(policy),
        limits: Limits::default(),
        observer: Box::new(|_| {}),
    })?;
    Ok(Some(Attached { gateway, machine, link }))
}

impl Attached {
    /// How the guest sets its end up.
    pub(super) fn setup(&self) -> NetworkSetup {
        let Link { guest_v4, gateway_v4, prefix_v4, guest_v6, gateway_v6, prefix_v6, .. } = self.link;
        let address =
            |address: IpAddr, prefix, gateway: IpAddr| InterfaceAddress { address, prefix, gateway };
        NetworkSetup {
            interface: "eth0".into(),
            mtu: MTU as u32,
            addresses: vec![
                address(guest_v4.into(), prefix_v4, gateway_v4.into()),
                address(guest_v6.into(), prefix_v6, gateway_v6.into()),
            ],
            gateway_mac: self.link.gateway_mac,
            nameservers: vec![gateway_v4.into()],
            search: Vec::new(),
        }
    }

    /// The gateway, and what its machine needs of it.
    pub(super) fn into_parts(self) -> (Gateway, vm::Interface) {
        let interface = vm::Interface { socket: self.machine.into(), mac: self.link.guest_mac };
        (self.gateway, interface)
    }
}
