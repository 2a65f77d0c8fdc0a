//! Names that nobody is asked about.

use super::*;

#[test]
fn the_host_has_a_name_where_the_policy_lets_one_through_to_it() {
    for (scope, rules, reached) in [
        (Scope::Public, &[][..], false),
        (Scope::Public, &["allow host:5432"], true),
        (Scope::None, &["allow host.msb.internal:5432"], true),
        (Scope::Any, &[], true),
        (Scope::Any, &["deny host"], false),
    ] {
        let mut bench = Bench::new(scope, rules);
        let got = answer(bench.ask("Host.msb.internal", RecordType::A));
        let expected = if reached { vec![ip("172.31.0.1")] } else { vec![] };
        assert_eq!(addresses(&got), expected, "{scope} {rules:?}");
        assert_eq!(got.metadata.response_code == ResponseCode::NXDomain, !reached);
        let got = answer(bench.ask("1.0.31.172.in-addr.arpa", RecordType::PTR));
        assert_eq!(got.answers.len(), usize::from(reached), "{scope} {rules:?}");
    }
    let mut bench = Bench::new(Scope::Any, &[]);
    let none = answer(bench.ask("host.msb.internal", RecordType::AAAA));
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(
        answer(bench.ask("x.msb.internal", RecordType::A)).metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(bench.names("172.31.0.1"), ["host.msb.internal"]);
}

#[test]
fn sandboxes_of_a_group_have_names() {
    for (scope, rules, reached) in [
        (Scope::Group, &[][..], true),
        (Scope::Public, &[], true),
        (Scope::None, &[], false),
        (Scope::None, &["allow db:5432"], true),
        (Scope::Group, &["deny db"], false),
    ] {
        let mut bench = Bench::new(scope, rules);
        let got = answer(bench.ask("db", RecordType::A));
        assert_eq!(addresses(&got).len(), usize::from(reached), "{scope} {rules:?}");
    }
    let mut bench = Bench::new(Scope::Group, &[]);
    let mut hosts = Hosts::default();
    hosts.add(name("cache"), ip("10.77.0.4"));
    bench.resolver.set_hosts(hosts);
    assert_eq!(addresses(&answer(bench.ask("cache", RecordType::A))), [ip("10.77.0.4")]);
    assert_eq!(answer(bench.ask("db", RecordType::A)).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn localhost_is_the_sandboxs_own() {
    let mut bench = Bench::new(Scope::None, &[]);
    assert_eq!(addresses(&answer(bench.ask("localhost", RecordType::A))), [ip("127.0.0.1")]);
    assert_eq!(addresses(&answer(bench.ask("x.localhost", RecordType::AAAA))), [ip("::1")]);
    assert!(bench.names("127.0.0.1").is_empty());
}

#[test]
fn nothing_leads_past_the_resolver() {
    let mut bench = Bench::new(Scope::Any, &[]);
    let canary = answer(bench.ask("use-application-dns.net", RecordType::A));
    assert_eq!(canary.metadata.response_code, ResponseCode::NXDomain);
    let discovery = answer(bench.ask("_dns.resolver.arpa", RecordType::SVCB));
    assert_eq!((discovery.metadata.response_code, discovery.answers.len()), (ResponseCode::NoError, 0));
}

#[test]
fn private_addresses_have_no_names_for_those_who_cannot_reach_them() {
    let private = [
        "1.0.168.192.in-addr.arpa",
        "254.169.254.169.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
    ];
    for owner in private {
        let got = answer(Bench::new(Scope::Public, &[]).ask(owner, RecordType::PTR));
        assert_eq!(got.metadata.response_code, ResponseCode::NXDomain, "{owner}");
        forward(Bench::new(Scope::Any, &[]).ask(owner, RecordType::PTR));
    }
    forward(Bench::new(Scope::Public, &[]).ask("1.1.1.1.in-addr.arpa", RecordType::PTR));
}
