//! Whether a port is published for somebody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Whom;
use crate::net::Network;
use crate::net::policy::{Class, Protocol};
use crate::net::port::{PortSpec, Transport};

impl Network {
    /// Why a caller of this kind finds no published port of the number that `whom` names, if there is none. Which ports the image
    /// exposes is not known here.
    pub(super) fn is_unpublished(&self, whom: &Whom, (address, class): (IpAddr, Class)) -> Option<String> {
        let nothing = "no port of the sandbox of this number is published";
        let transport = match whom.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Icmp => return Some("only ports are published, and icmp has none".to_owned()),
        };
        let port = whom.port?;
        let specs = || self.ports.iter().filter(|spec| spec.transport == transport);
        let mut published: Vec<(Option<IpAddr>, u16)> = specs()
            .flat_map(|spec| spec.pairs().map(|(host, guest)| (spec.bind, host, guest)))
            .filter(|(_, _, guest)| *guest == port)
            .map(|(bind, host, _)| (bind, host))
            .collect();
        if self.publish_exposed {
            published.push((None, 0));
        }
        if published.iter().any(|(bind, _)| reaches(address, class, *bind)) {
            return None;
        }
        let Some((_, host)) = published.first() else {
            let asked = |spec: &PortSpec| spec.pairs().find(|(host, _)| *host == port);
            return Some(specs().find_map(asked).map_or_else(
                || nothing.to_owned(),
                |(host, guest)| format!("{host} is this machine's port; ask for the sandbox's, {guest}"),
            ));
        };
        let places: Vec<String> = published.iter().map(|(bind, _)| shown(*bind)).collect();
        let everywhere: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let (spec, places) = (
            PortSpec { bind: Some(everywhere), host: *host, guest: port, count: 1, transport },
            places.join(", "),
        );
        Some(format!("published on {places} alone; publish with -p {spec}"))
    }
}

/// Whether a caller gets to what listens at `bind`.
fn reaches(caller: IpAddr, class: Class, bind: Option<IpAddr>) -> bool {
    // What runs on this machine takes whichever of its addresses it needs.
    let is_here = matches!(class, Class::Loopback | Class::Host);
    match bind {
        None => is_here,
        Some(bind) => bind.is_ipv4() == caller.is_ipv4() && (is_here || !bind.is_loopback()),
    }
}

fn shown(bind: Option<IpAddr>) -> String {
    match bind {
        None => "127.0.0.1 and [::1]".to_owned(),
        Some(IpAddr::V4(bind)) => bind.to_string(),
        Some(IpAddr::V6(bind)) => format!("[{bind}]"),
    }
}
