//! The network of a sandbox that is being started.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use ipnet::IpNet;
use msb_guest::message::{InterfaceAddress, NetworkSetup};
use serde::{Deserialize, Serialize};

mod record;

use super::Error;
use super::plan::Plan;
use crate::image::Image;
use crate::net::dns::{System, Upstreams};
use crate::net::gateway::{Gateway, Limits, Link, MTU, Members, Rates, Remote, Settings, raise_file_limit};
use crate::net::group::{Candidate, Seat};
use crate::net::intercept::{Authority, Interception, Trust};
use crate::net::policy::{HostAddresses, Name, Policy, Segment};
use crate::net::port::{Listener, PortSpec, Transport};
use crate::net::proxy::ProxySource;
use crate::net::{Bandwidth, Network, NetworkLimits};
use crate::vm;
pub(super) use record::{Recorder, Sink};

/// A port of the host that leads to a running sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The sandbox's port.
    pub guest: u16,
    /// TCP or UDP.
    pub transport: Transport,
    /// Where it is on the host.
    pub host: SocketAddr,
}

/// A gateway that waits for its machine.
pub(super) struct Attached {
    network: Joined,
    machine: UnixStream,
    link: Link,
    published: Vec<Published>,
    /// The certificate of whoever vouches for the hosts of secrets.
    authority: Option<String>,
    places: Vec<Place>,
    search: (Vec<String>, Option<u8>),
}

/// The network of a machine, for as long as that is there.
#[derive(Debug)]
pub(super) struct Joined {
    gateway: Gateway,
    /// Keeps what the gateway has to tell.
    recorder: Arc<Recorder>,
}

impl Joined {
    /// What speaks to the gateway.
    pub(super) fn remote(&self) -> Remote {
        self.gateway.remote()
    }

    /// What keeps what it has to tell.
    pub(super) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }
}

/// Where a running sandbox is found in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The group.
    pub group: String,
    /// Its network.
    pub subnet: IpNet,
    /// The sandbox's address.
    pub address: IpAddr,
}

/// Starts the gateway of a sandbox, which takes its place in its groups; `None` where nothing can be reached.
///
/// # Errors
/// [`Error::Group`], [`Error::Publish`], [`Error::Proxy`], [`Error::Trust`], [`Error::System`].
pub(super) fn attach(plan: &Plan) -> Result<Option<Attached>, Error> {
    let (network, image) = (&plan.network, &plan.image);
    let registry = &plan.machine.groups;
    let who = Candidate { name: &plan.name, folder: plan.folder.as_deref() };
    if network.is_off() {
        // Nobody reaches it either.
        registry.join(who, &[])?;
        return Ok(None);
    }
    let seats = registry.join(who, &plan.groups)?;
    let places = seats.iter().map(Place::of).collect();
    let roster = registry.roster(&seats);
    let failed = |source| Error::System { action: "start the network", source };
    // Ports take descriptors before connections do.
    raise_file_limit();
    let mut listeners = Vec::new();
    for spec in network.ports.iter().cloned().chain(exposed(network, image)) {
        listeners.extend(Listener::open(&spec)?);
    }
    let published = listeners.iter().map(Published::of).collect();
    let link = Link::default();
    // The gateway reads the host's addresses itself, now and later.
    let segment = Segment { groups: seats.iter().map(|seat| seat.subnet).collect(), ..link.segment() };
    let policy = network.policy(segment, HostAddresses::default());
    let mut system = System::default();
    system.changed().map_err(failed)?;
    let search = search(&policy, system.upstreams());
    let recorder = Arc::<Recorder>::default();
    let interception = interception(plan)?;
    let authority = interception.as_ref().map(|interception| interception.authority.pem().to_owned());
    let (gateway, machine) = Gateway::start(Settings {
        link,
        policy: Arc::new(policy),
        system,
        limits: limits(network.limits),
        listeners,
        interception,
        members: Members::new(seats, roster),
        observer: recorder.observer(),
        log: network.log,
        proxy: network.proxy.as_ref().map(ProxySource::resolve).transpose()?,
    })
    .map_err(failed)?;
    let network = Joined { gateway, recorder };
    Ok(Some(Attached { network, machine, link, published, authority, places, search }))
}

fn limits(written: NetworkLimits) -> Limits {
    let rates = Rates {
        sent: written.bandwidth.and_then(Bandwidth::up),
        received: written.bandwidth.and_then(Bandwidth::down),
        begun: written.connection_rate.map(u64::from),
    };
    let own = Limits::default();
    let most = written.max_connections.map_or(usize::MAX, |most| most as usize);
    Limits { tcp: own.tcp.min(most), udp: own.udp.min(most), rates }
}

/// How secrets are put in, where there are any.
fn interception(plan: &Plan) -> Result<Option<Interception>, Error> {
    let secrets = plan.secrets.clone();
    if secrets.is_empty() {
        return Ok(None);
    }
    let authority = Authority::new(secrets.iter().flat_map(|held| &held.secret.hosts));
    let authority = authority.map_err(|error| Error::System {
        action: "make a certificate authority",
        source: std::io::Error::other(error),
    })?;
    let trust = plan.machine.authorities.as_deref().map(Trust::with_file).transpose()?.unwrap_or_default();
    Ok(Some(Interception { secrets, authority, trust }))
}

/// The domains in which the guest looks short names up, and how many dots make a name long: the host's, without those in which
/// nothing may be looked up. Resolvers give up at the first that is refused, before they come to a name of a group.
fn search(policy: &Policy, upstreams: &Upstreams) -> (Vec<String>, Option<u8>) {
    let is_open = |domain: &&Name| {
        let below = format!("x.{domain}").parse::<Name>();
        below.is_ok_and(|name| policy.decide_name(&name).allowed)
    };
    let domains = upstreams.search.iter().filter(is_open).map(ToString::to_string).collect();
    (domains, (upstreams.ndots != 1).then_some(upstreams.ndots))
}

/// What the image exposes and nobody has published yet, each on a free port.
fn exposed(network: &Network, image: &Image) -> Vec<PortSpec> {
    if !network.publish_exposed {
        return Vec::new();
    }
    let ports = image.config.exposed_ports.iter().filter_map(|port| {
        // An image may say anything; what is no port cannot be meant.
        let spec: PortSpec = port.parse().ok()?;
        Some(PortSpec { host: 0, ..spec })
    });
    let already = |spec: &PortSpec| {
        network.ports.iter().any(|other| {
            other.transport == spec.transport && other.pairs().any(|(_, guest)| guest == spec.guest)
        })
    };
    ports.filter(|spec| !already(spec)).collect()
}

impl Place {
    fn of(seat: &Seat) -> Self {
        Self { group: seat.group.clone(), subnet: seat.subnet, address: seat.address }
    }
}

impl Published {
    fn of(listener: &Listener) -> Self {
        Self { guest: listener.guest, transport: listener.transport, host: listener.address }
    }
}

impl Attached {
    /// How the guest sets its end up.
    pub(super) fn setup(&self) -> NetworkSetup {
        let Link { guest_v4, gateway_v4, prefix_v4, guest_v6, gateway_v6, prefix_v6, .. } = self.link;
        let address =
            |address: IpAddr, prefix, gateway: IpAddr| InterfaceAddress { address, prefix, gateway };
        // In a group everybody else is taken for a neighbour, for whom the gateway answers.
        let in_group = |place: &Place| {
            let gateway = self.link.gateway_like(place.address);
            address(place.address, place.subnet.prefix_len(), gateway)
        };
        let (search, ndots) = self.search.clone();
        NetworkSetup {
            interface: "eth0".into(),
            mtu: MTU as u32,
            addresses: [
                address(guest_v4.into(), prefix_v4, gateway_v4.into()),
                address(guest_v6.into(), prefix_v6, gateway_v6.into()),
            ]
            .into_iter()
            .chain(self.places.iter().map(in_group))
            .collect(),
            known_as: self.places.iter().map(|place| place.address).collect(),
            gateway_mac: self.link.gateway_mac,
            nameservers: vec![gateway_v4.into()],
            search,
            ndots,
        }
    }

    /// The certificate that the sandbox has to trust, in PEM.
    pub(super) fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// What is published.
    pub(super) fn published(&self) -> Vec<Published> {
        self.published.clone()
    }

    /// Where it is in its groups.
    pub(super) fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    /// The gateway, and what its machine needs of it.
    pub(super) fn into_parts(self) -> (Joined, vm::Interface) {
        let interface = vm::Interface { socket: self.machine.into(), mac: self.link.guest_mac };
        (self.network, interface)
    }
}
