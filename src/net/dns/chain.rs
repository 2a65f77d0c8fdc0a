//! What of a server's answer is passed on.

use std::net::IpAddr;

use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType};

use super::asked::{Asked, Content, Extended};
use crate::net::policy::{Name, Policy};

/// Longest chain of aliases that is followed.
const LONGEST_CHAIN: usize = 16;

/// An answer that is fit for the sandbox.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) content: Content,
    /// The names that were asked for and led there.
    pub(super) names: Vec<Name>,
    /// The addresses in it, with the seconds they are good for.
    pub(super) addresses: Vec<(IpAddr, u32)>,
}

/// The name as policy knows it; `None` for the root.
pub(super) fn policy_name(name: &WireName) -> Option<Name> {
    Name::from_labels(name.iter())
}

/// Takes out of `content`, which answers `asked`, all that does not belong to it and what the policy does not let through.
/// `ipv6` is whether this host gets anywhere over IPv6.
pub(super) fn fit(asked: &Asked, mut content: Content, policy: &Policy, ipv6: bool) -> Fit {
    let answers = std::mem::take(&mut content.answers);
    let chain: Vec<WireName> = chain(&asked.query.name, &answers).into_iter().cloned().collect();
    let names: Vec<Name> = chain.iter().filter_map(policy_name).collect();
    if let Some(reason) = names.iter().skip(1).find_map(|name| policy.denies_alias(name)) {
        let content = Content::refused(Extended::blocked(reason));
        return Fit { content, names, addresses: Vec::new() };
    }
    let mut fit = Fit { content, names, addresses: Vec::new() };
    let mut removed = None;
    for mut record in answers {
        let belongs = is_about_keys(&record) || chain.contains(&record.name);
        if !belongs {
            continue;
        }
        if record.name == asked.query.name {
            // In the letters it was asked with, not in those the server was.
            record.name = asked.query.name.clone();
        }
        let addresses = addresses(&record.data);
        let fits = |address: &IpAddr| policy.could_reach(*address, &fit.names);
        match record.data {
            RData::AAAA(_) if !ipv6 => continue,
            RData::A(_) | RData::AAAA(_) if !addresses.iter().all(fits) => {
                removed = addresses.first().copied();
                continue;
            }
            _ => {}
        }
        // Hints beside a service are addresses as well; one that cannot be reached is not remembered.
        let reachable: Vec<(IpAddr, u32)> =
            addresses.iter().filter(|address| fits(address)).map(|address| (*address, record.ttl)).collect();
        fit.addresses.extend(reachable);
        fit.content.answers.push(record);
    }
    fit.content.authorities.retain(|record| matches!(record.data, RData::SOA(_)) || is_about_keys(record));
    if let Some(address) = removed {
        fit.content.authentic = false;
        let class = policy.class(address);
        fit.content.extended =
            Some(Extended::filtered(format_args!("the policy lets nothing through to {address} ({class})")));
    }
    fit
}

/// The names from the one asked for to the last one it stands for.
fn chain<'a>(asked: &'a WireName, answers: &'a [Record]) -> Vec<&'a WireName> {
    let mut chain = vec![asked];
    while chain.len() <= LONGEST_CHAIN {
        let last = chain[chain.len() - 1];
        let next = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *last => Some(&target.0),
            _ => None,
        });
        match next {
            Some(next) if !chain.contains(&next) => chain.push(next),
            _ => break,
        }
    }
    chain
}

/// Whether it is one of the records that prove others, or DNAME, from which aliases are made.
fn is_about_keys(record: &Record) -> bool {
    let kind = record.record_type();
    matches!(kind, RecordType::Unknown(39)) || kind.is_dnssec()
}

fn addresses(data: &RData) -> Vec<IpAddr> {
    match data {
        RData::A(address) => vec![address.0.into()],
        RData::AAAA(address) => vec![address.0.into()],
        RData::HTTPS(service) => hints(&service.0),
        RData::SVCB(service) => hints(service),
        _ => Vec::new(),
    }
}

fn hints(service: &SVCB) -> Vec<IpAddr> {
    let of_value = |value: &SvcParamValue| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|address| address.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|address| address.0.into()).collect(),
            _ => Vec::new(),
        }
    };
    service.svc_params.iter().flat_map(|(_, value)| of_value(value)).collect()
}
