//! Which networks groups may have, and which addresses sandboxes get in them.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::net::gateway::Link;
use crate::net::policy::{Class, HostAddresses};

/// Most bits of a group's network that are fixed: room for some sandboxes beside the addresses that are nobody's.
const MOST_BITS: (u8, u8) = (29, 120);
/// Fewest bits: that of the largest private networks.
const LEAST_BITS: u8 = 7;
/// Where networks are chosen from, each of 24 bits: a quarter of 10.0.0.0/8 that neither containers nor homes use by habit.
const CHOICE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 0), 10);
const CHOICES: u32 = 1 << 14;
/// The first address that is chosen for a sandbox; the one before looks like a router.
const FIRST: u32 = 2;
/// Addresses looked at for a free one.
const LOOKED_AT: u32 = 1 << 16;

/// Whether a group may have this network.
///
/// # Errors
/// Why not.
pub fn check(net: IpNet) -> Result<(), String> {
    let (most, of) = match net {
        IpNet::V4(_) => (MOST_BITS.0, "RFC 1918, such as 10.77.0.0/24"),
        IpNet::V6(_) => (MOST_BITS.1, "fd00::/8, such as fd12:3456:789a::/64"),
    };
    let is_private = |address: IpAddr| Class::of(address) == Class::Lan;
    let shared = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
    if net.trunc() != net {
        return Err(format!("is no network: the one with this address is {}", net.trunc()));
    }
    let is_shared = matches!(net, IpNet::V4(net) if net.contains(&shared) || shared.contains(&net));
    if !is_private(net.network()) || !is_private(net.broadcast()) || is_shared {
        return Err(format!("is no private network; choose one of {of}"));
    }
    if net.prefix_len() > most || net.prefix_len() < LEAST_BITS {
        return Err(format!("must have between {LEAST_BITS} and {most} bits"));
    }
    let link = Link::default();
    if net.contains(&IpAddr::V6(link.gateway_v6)) || link.prefix_of_v6().contains(&net.network()) {
        return Err("is where every sandbox has its gateway; choose another one".to_owned());
    }
    Ok(())
}

/// A network for the group that `seed` stands for, the same on every machine where it is free; `used` are those of other groups.
#[must_use]
pub(super) fn choose(seed: &impl std::hash::Hash, used: &[IpNet]) -> Option<IpNet> {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let start = hasher.finish() as u32 % CHOICES;
    let host = HostAddresses::read().unwrap_or_default();
    let routes = routes(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    let is_free = |net: &IpNet| {
        let overlaps = |other: &IpNet| other.contains(net) || net.contains(other);
        !used.iter().any(overlaps) && !routes.iter().any(overlaps) && !net.hosts().any(|ip| host.contains(ip))
    };
    (0..CHOICES)
        .map(|step| u32::from(CHOICE.network()) + (((start + step) % CHOICES) << 8))
        .map(|network| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(network), 24)))
        .find(is_free)
}

/// The networks in the kernel's table of IPv4 routes, in the form of proc(5), without the default route.
fn routes(table: &str) -> Vec<IpNet> {
    let network = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // As the kernel has it in memory.
        let number =
            |at: usize| Some(Ipv4Addr::from(u32::from_str_radix(columns.get(at)?, 16).ok()?.to_ne_bytes()));
        let net = Ipv4Net::with_netmask(number(1)?, number(7)?).ok()?;
        (net.prefix_len() > 0).then_some(IpNet::V4(net))
    };
    table.lines().skip(1).filter_map(network).collect()
}

/// Whether a sandbox may have `address` in `net`.
#[must_use]
pub(super) fn is_seat(net: IpNet, address: IpAddr) -> bool {
    net.contains(&address) && address != net.network() && (net.addr().is_ipv6() || address != net.broadcast())
}

/// The first address of `net` that a sandbox may have and that is not taken.
#[must_use]
pub(super) fn free_seat(net: IpNet, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let at = |step: u32| match net.network() {
        IpAddr::V4(first) => u32::from(first).checked_add(step).map(|at| IpAddr::V4(Ipv4Addr::from(at))),
        IpAddr::V6(first) => Some(IpAddr::V6(Ipv6Addr::from(u128::from(first) + u128::from(step)))),
    };
    (FIRST..LOOKED_AT)
        .map_while(at)
        .take_while(|address| is_seat(net, *address))
        .find(|address| !is_taken(*address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_of_groups_are_private() {
        for good in ["10.77.0.0/24", "192.168.7.0/29", "172.16.0.0/12", "fd12::/64", "10.0.0.0/8"] {
            assert_eq!(check(good.parse().unwrap()), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("10.77.0.1/24", "no network"),
            ("8.8.8.0/24", "private"),
            ("100.64.0.0/16", "private"),
            ("169.254.0.0/16", "private"),
            ("172.0.0.0/8", "private"),
            ("10.0.0.0/30", "bits"),
            ("2001:db8::/64", "private"),
            ("fd6d:7362::/64", "gateway"),
            ("fd00::/8", "gateway"),
            ("fc00::/7", "gateway"),
        ] {
            let said = check(bad.parse().unwrap()).unwrap_err();
            assert!(said.contains(why), "{bad} {said}");
        }
    }

    #[test]
    fn what_is_in_use_is_not_chosen() {
        let first = choose(&"x", &[]).unwrap();
        assert_eq!(choose(&"x", &[]), Some(first));
        assert!(check(first).is_ok());
        let second = choose(&"x", &[first]).unwrap();
        assert_ne!(first, second);
        assert_eq!(choose(&"x", &["10.0.0.0/8".parse().unwrap()]), None);
    }

    #[test]
    fn reads_the_kernels_routes() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0111A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\nbroken\n";
        assert_eq!(routes(table), ["10.77.0.0/16".parse().unwrap()]);
    }

    #[test]
    fn seats_are_given_from_the_second_on() {
        let net: IpNet = "10.77.0.0/29".parse().unwrap();
        let free = |taken: &[&str]| {
            free_seat(net, |address| taken.contains(&address.to_string().as_str()))
                .map(|seat| seat.to_string())
        };
        assert_eq!(free(&[]).unwrap(), "10.77.0.2");
        assert_eq!(free(&["10.77.0.2", "10.77.0.3"]).unwrap(), "10.77.0.4");
        let all = ["10.77.0.2", "10.77.0.3", "10.77.0.4", "10.77.0.5", "10.77.0.6"];
        assert_eq!(free(&all), None);
        assert!(!is_seat(net, "10.77.0.7".parse().unwrap()) && !is_seat(net, "10.77.0.0".parse().unwrap()));
        assert_eq!(free_seat("fd12::/64".parse().unwrap(), |_| false), Some("fd12::2".parse().unwrap()));
    }
}
