//! Ways out of `public`, and in disguise around what is denied.

use super::*;

/// Every address that `public` must not reach, with what it is.
const PRIVATE: &[(&str, Class)] = &[
    // Where a connect() on the host ends at the host itself.
    ("0.0.0.0", Class::Loopback),
    ("0.1.2.3", Class::Loopback),
    ("0.255.255.255", Class::Loopback),
    ("127.0.0.1", Class::Loopback),
    ("127.1.2.3", Class::Loopback),
    ("127.255.255.255", Class::Loopback),
    ("::", Class::Loopback),
    ("::1", Class::Loopback),
    // Private networks, at their edges.
    ("10.0.0.0", Class::Lan),
    ("10.255.255.255", Class::Lan),
    ("172.16.0.1", Class::Lan),
    ("172.31.255.255", Class::Lan),
    ("192.168.0.1", Class::Lan),
    ("192.168.255.255", Class::Lan),
    ("100.64.0.1", Class::Lan),
    ("100.127.255.255", Class::Lan),
    ("fc00::1", Class::Lan),
    ("fdff:ffff::1", Class::Lan),
    ("fec0::1", Class::Lan),
    // The link, and what clouds put there and elsewhere.
    ("169.254.0.1", Class::LinkLocal),
    ("169.254.255.255", Class::LinkLocal),
    ("fe80::1", Class::LinkLocal),
    ("febf::1", Class::LinkLocal),
    ("169.254.169.254", Class::Metadata),
    ("169.254.170.2", Class::Metadata),
    ("169.254.170.23", Class::Metadata),
    ("100.100.100.200", Class::Metadata),
    ("168.63.129.16", Class::Metadata),
    ("192.0.0.192", Class::Metadata),
    ("fd00:ec2::254", Class::Metadata),
    ("fd20:ce::254", Class::Metadata),
    ("fd00:c1::a9fe:a9fe", Class::Metadata),
    ("fd00:42::42", Class::Metadata),
    // Many at once.
    ("224.0.0.1", Class::Multicast),
    ("239.255.255.250", Class::Multicast),
    ("ff02::1", Class::Multicast),
    ("ff0e::1", Class::Multicast),
    ("255.255.255.255", Class::Reserved),
    // Nobody's.
    ("192.0.0.1", Class::Reserved),
    ("192.0.2.1", Class::Reserved),
    ("198.51.100.1", Class::Reserved),
    ("203.0.113.1", Class::Reserved),
    ("198.18.0.1", Class::Reserved),
    ("198.19.255.255", Class::Reserved),
    ("192.88.99.1", Class::Reserved),
    ("240.0.0.1", Class::Reserved),
    ("254.255.255.255", Class::Reserved),
    ("100::1", Class::Reserved),
    ("2001:db8::1", Class::Reserved),
    ("3fff::1", Class::Reserved),
    ("5f00::1", Class::Reserved),
    ("2001:10::1", Class::Reserved),
    ("2001:20::1", Class::Reserved),
    ("2001:2::1", Class::Reserved),
    ("4000::1", Class::Reserved),
    ("1::1", Class::Reserved),
    // IPv4 mapped into IPv6.
    ("::ffff:127.0.0.1", Class::Loopback),
    ("::ffff:0.0.0.0", Class::Loopback),
    ("::ffff:10.0.0.1", Class::Lan),
    ("::ffff:169.254.169.254", Class::Metadata),
    ("::ffff:192.168.1.5", Class::Host),
    ("::ffff:224.0.0.1", Class::Multicast),
    // Compatible and translated.
    ("::127.0.0.1", Class::Reserved),
    ("::10.0.0.1", Class::Reserved),
    ("::169.254.169.254", Class::Reserved),
    ("::8.8.8.8", Class::Reserved),
    ("::ffff:0:127.0.0.1", Class::Reserved),
    ("::ffff:0:10.0.0.1", Class::Reserved),
    // NAT64, of the well-known prefix and of local ones.
    ("64:ff9b::127.0.0.1", Class::Loopback),
    ("64:ff9b::10.0.0.1", Class::Lan),
    ("64:ff9b::169.254.169.254", Class::Metadata),
    ("64:ff9b::0.0.0.0", Class::Loopback),
    ("64:ff9b::8.8.4.4", Class::Host),
    ("64:ff9b::10.77.0.2", Class::Reserved),
    ("64:ff9b:1::10.0.0.1", Class::Reserved),
    ("64:ff9b:1:7f00:0:100::", Class::Reserved),
    ("64:ff9b:1::8.8.8.8", Class::Reserved),
    // 6to4, Teredo, ISATAP.
    ("2002:7f00:1::1", Class::Reserved),
    ("2002:a00:1::1", Class::Reserved),
    ("2002:a9fe:a9fe::1", Class::Reserved),
    ("2002:808:808::1", Class::Reserved),
    ("2001:0:7f00:1::1", Class::Reserved),
    ("2001::f5ff:fffe", Class::Reserved),
    ("2a00:1450:4001:1:0:5efe:10.0.0.1", Class::Reserved),
    ("2a00:1450:4001:1:200:5efe:127.0.0.1", Class::Reserved),
    ("fe80::5efe:10.0.0.1", Class::LinkLocal),
    // The host by all of its own addresses, and the gateway.
    ("8.8.4.4", Class::Host),
    ("192.168.1.5", Class::Host),
    ("2a00:1450::5", Class::Host),
    ("fd12::5", Class::Host),
    ("172.31.255.1", Class::Host),
    ("fd99::1", Class::Host),
];

#[test]
fn public_reaches_nothing_private() {
    let public = policy(Scope::Public, &[]);
    assert!(PRIVATE.len() >= 40);
    for (address, class) in PRIVATE {
        assert_eq!(public.class(ip(address)), *class, "{address}");
        for peer in
            [to(address, Protocol::Tcp, 80), to(address, Protocol::Udp, 53), to(address, Protocol::Icmp, 0)]
        {
            let verdict = public.decide(&peer, &[]);
            assert!(!verdict.allowed, "{peer:?}: {}", verdict.reason);
        }
        assert!(!public.could_reach(ip(address), &[]), "{address}");
    }
}

#[test]
fn public_reaches_the_internet_and_its_groups() {
    let public = policy(Scope::Public, &[]);
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    ] {
        assert!(reaches(&public, address), "{address}");
        assert_eq!(public.class(ip(address)), Class::Internet, "{address}");
    }
    assert!(reaches(&public, "10.77.0.2"));
    assert!(!reaches(&public, "10.77.1.2"));
}

#[test]
fn a_name_that_leads_somewhere_private_opens_nothing() {
    let names = [name("db.example.com")];
    for (scope, rules) in [
        (Scope::Public, &["allow db.example.com"][..]),
        (Scope::None, &["allow *.example.com"]),
        (Scope::None, &["allow tcp://db.example.com:443", "deny 1.1.1.1"]),
    ] {
        let policy = policy(scope, rules);
        for (address, class) in PRIVATE {
            let verdict = policy.decide(&to(address, Protocol::Tcp, 443), &names);
            assert!(!verdict.allowed, "{address}: {}", verdict.reason);
            assert!(matches!(verdict.reason, Reason::PrivateAnswer(1, _, of) if of == *class), "{address}");
            assert!(!policy.could_reach(ip(address), &names), "{address}");
        }
        assert!(policy.decide(&to("1.0.0.1", Protocol::Tcp, 443), &names).allowed);
    }
    // Who wants that says so with a rule about the address.
    let both = policy(Scope::None, &["allow db.example.com", "allow 10.0.0.5"]);
    assert!(both.decide(&to("10.0.0.5", Protocol::Tcp, 443), &names).allowed);
    assert!(!both.decide(&to("10.0.0.6", Protocol::Tcp, 443), &names).allowed);
}

#[test]
fn what_is_denied_is_denied_in_every_disguise() {
    let any = policy(Scope::Any, &["deny 9.9.9.9", "deny lan", "deny metadata", "deny 192.0.2.0/24"]);
    for address in [
        "9.9.9.9",
        "::ffff:9.9.9.9",
        "::9.9.9.9",
        "::ffff:0:9.9.9.9",
        "64:ff9b::9.9.9.9",
        "64:ff9b:1::9.9.9.9",
        "64:ff9b:1:909:9:900::",
        "2002:909:909::1",
        "2001:0:909:909::1",
        "2001::f6f6:f6f6",
        "2a00::5efe:9.9.9.9",
        "64:ff9b::10.1.2.3",
        "2002:a01:203::",
        "2a00::200:5efe:192.168.7.7",
        "2002:a9fe:a9fe::",
        "::192.0.2.3",
    ] {
        assert!(!reaches(&any, address), "{address}");
    }
    for address in ["9.9.9.10", "::ffff:9.9.9.10", "2002:909:90a::1", "127.0.0.1", "::1", "::", "2a00::1"] {
        assert!(reaches(&any, address), "{address}");
    }
    // What is allowed is allowed as itself alone.
    let none = policy(Scope::None, &["allow 10.0.0.5", "allow lan:22"]);
    assert!(reaches(&none, "10.0.0.5") && reaches(&none, "::ffff:10.0.0.5"));
    for address in ["::10.0.0.5", "64:ff9b::10.0.0.5", "2002:a00:5::", "2a00::5efe:10.0.0.5"] {
        assert!(!reaches(&none, address), "{address}");
    }
}

#[test]
fn the_hosts_addresses_are_read_anew() {
    let before = policy(Scope::Public, &[]);
    assert!(reaches(&before, "5.5.5.5"));
    let after = before.with_host([ip("5.5.5.5")].into_iter().collect());
    assert!(!reaches(&after, "5.5.5.5"));
    assert!(reaches(&before, "5.5.5.5"));
}

#[test]
fn neighbours_are_private_whatever_addresses_they_have() {
    let host: HostAddresses = [ip("5.5.5.5"), ip("2a00:1450:1::5")].into_iter().collect();
    let links = ["5.5.5.0/24", "2a00:1450:1::/64", "7.7.7.7/32", "0.0.0.0/1", "::/0"];
    let host = host.on_links(links.map(|net| net.parse().unwrap()));
    let public = policy(Scope::Public, &[]).with_host(host.clone());
    for address in ["5.5.5.6", "2a00:1450:1::6", "64:ff9b::5.5.5.6", "::ffff:5.5.5.6"] {
        assert_eq!(public.class(ip(address)), Class::Lan, "{address}");
        assert!(!reaches(&public, address), "{address}");
    }
    assert_eq!(public.class(ip("5.5.5.5")), Class::Host);
    for address in ["5.5.6.6", "2a00:1450:2::6", "7.7.7.7", "1.1.1.1", "2606:4700::1"] {
        assert!(reaches(&public, address), "{address}");
    }
    assert!(reaches(&policy(Scope::None, &["allow lan"]).with_host(host), "5.5.5.6"));
}
