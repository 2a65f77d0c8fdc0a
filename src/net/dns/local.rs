//! Names that are answered here, without asking anybody.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType};

use super::asked::{Asked, Content, Extended};
use crate::net::policy::{Name, Policy};

/// How long a name of ours holds, in seconds: others join groups and leave them.
const TTL: u32 = 5;
/// The domain whose names are ours alone.
const OWN_DOMAIN: &str = "msb.internal";
/// The name by which browsers ask whether to resolve names over HTTPS past the resolver they were given.
const BROWSERS: &str = "use-application-dns.net";
/// Where resolvers say how to reach them in other ways (RFC 9462); the servers behind this one are not for the sandbox.
const DISCOVERY: &str = "resolver.arpa";

/// Names with fixed addresses: the host, and the sandboxes of one's groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(HashMap<Name, Vec<IpAddr>>);

impl Hosts {
    /// Adds an address of `name`.
    pub fn add(&mut self, name: Name, address: IpAddr) {
        let known = self.0.entry(name).or_default();
        if !known.contains(&address) {
            known.push(address);
        }
    }

    /// The names of `address`.
    pub(super) fn names(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        self.0.iter().filter(move |(_, addresses)| addresses.contains(&address)).map(|(name, _)| name)
    }

    /// The answer about `name`, if it is one of those that nobody else is asked about.
    pub(super) fn answer(&self, asked: &Asked, name: &Name, policy: &Policy) -> Option<Content> {
        if let Some(addresses) = self.0.get(name) {
            return Some(own(asked, name, addresses, policy));
        }
        let text = name.as_str();
        let below = |parent: &str| {
            text.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if below("localhost") {
            let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Some(records(asked, &own));
        }
        if below(OWN_DOMAIN) || text == BROWSERS {
            return Some(Content::of_code(ResponseCode::NXDomain));
        }
        if below(DISCOVERY) {
            return Some(Content::default());
        }
        self.reverse(asked, policy)
    }

    /// The answer about the name of an address, if it is one of ours or one that is none of the sandbox's business.
    fn reverse(&self, asked: &Asked, policy: &Policy) -> Option<Content> {
        let net = asked.query.name.parse_arpa_name().ok()?;
        let address = (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())?;
        let own: Vec<&Name> = self.names(address).collect();
        if !policy.could_reach(address, &[]) {
            let class = policy.class(address);
            return Some(Content::refused(Extended::blocked(format_args!(
                "the policy lets nothing through to {address} ({class})"
            ))));
        }
        if own.is_empty() {
            return None;
        }
        let mut content = Content::default();
        if matches!(asked.query.query_type, RecordType::PTR | RecordType::ANY) {
            let names = own.into_iter().filter_map(|name| WireName::from_ascii(format!("{name}.")).ok());
            content.answers = names
                .map(|name| Record::from_rdata(asked.query.name.clone(), TTL, RData::PTR(PTR(name))))
                .collect();
        }
        Some(content)
    }
}

/// The answer about a name of ours: those of its addresses that can be reached.
fn own(asked: &Asked, name: &Name, addresses: &[IpAddr], policy: &Policy) -> Content {
    if let Some(reason) = policy.denies_alias(name) {
        return Content::refused(Extended::blocked(reason));
    }
    let names = [name.clone()];
    let reachable: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| policy.could_reach(*address, &names)).collect();
    if reachable.is_empty() {
        let whose = addresses.first().map(|address| policy.class(*address));
        let class = whose.map_or_else(String::new, |class| format!(" ({class})"));
        return Content::refused(Extended::blocked(format_args!(
            "the policy lets nothing through to {name}{class}"
        )));
    }
    records(asked, &reachable)
}

/// Those of the addresses that are of the kind asked for.
fn records(asked: &Asked, addresses: &[IpAddr]) -> Content {
    let wanted = |address: &&IpAddr| match asked.query.query_type {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        kind => kind == RecordType::ANY,
    };
    let record = |address: &IpAddr| Record::from_rdata(asked.query.name.clone(), TTL, RData::from(*address));
    Content { answers: addresses.iter().filter(wanted).map(record).collect(), ..Content::default() }
}
