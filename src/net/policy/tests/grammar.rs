//! How rules are written.

use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_form_is_read_and_written() {
    for (text, written) in [
        ("allow example.com", "allow example.com"),
        ("  allow   to  Example.COM. ", "allow example.com"),
        ("deny *.Example.com", "deny *.example.com"),
        ("allow tcp://*.example.com:443", "allow tcp://*.example.com:443"),
        ("allow udp://1.1.1.1:53", "allow udp://1.1.1.1:53"),
        ("allow icmp://any", "allow icmp://any"),
        ("deny 10.0.0.0/8", "deny 10.0.0.0/8"),
        ("deny 10.0.0.0/8:22,80,8000-8999", "deny 10.0.0.0/8:22,80,8000-8999"),
        ("deny 10.0.0.1/32", "deny 10.0.0.1"),
        ("allow 2001:db8::1", "allow 2001:db8::1"),
        ("allow 2001:db8::/32", "allow 2001:db8::/32"),
        ("allow [2001:db8::1]", "allow 2001:db8::1"),
        ("allow tcp://[2001:db8::/32]:443-443", "allow tcp://[2001:db8::/32]:443"),
        ("allow [::1]:80", "allow [::1]:80"),
        ("deny any", "deny any"),
        ("allow from lan:8080", "allow from lan:8080"),
        ("deny from 0.0.0.0/0", "deny from 0.0.0.0/0"),
        ("allow group:22", "allow group:22"),
        ("allow host.msb.internal:5432", "allow host:5432"),
        ("allow db:5432", "allow db:5432"),
        ("allow 1password.com", "allow 1password.com"),
        ("allow 3com", "allow 3com"),
        ("allow bücher.example", "allow xn--bcher-kva.example"),
        ("allow Host.MSB.Internal.:80", "allow host:80"),
        ("allow LAN:80", "allow lan:80"),
        ("deny Any", "deny any"),
        // Names that are words of the grammar.
        ("deny any.", "deny any."),
        ("deny lan.:80", "deny lan.:80"),
        ("deny to to.", "deny to."),
        ("deny FROM", "deny from."),
        // And those that are refused without the dot.
        ("deny Private.:80", "deny private.:80"),
        ("deny *.private", "deny *.private"),
        ("deny all.example", "deny all.example"),
    ] {
        assert_eq!(rule(text).to_string(), written);
        assert_eq!(rule(written), rule(text));
    }
    for class in Class::GROUPS {
        assert_eq!(rule(&format!("deny {class}")).target, Target::Class(class));
    }
    assert_eq!(Rule::with_action(Action::Deny, "from lan:80"), Ok(rule("deny from lan:80")));
}

#[test]
fn mistakes_are_named_where_they_are() {
    for (text, part, words) in [
        ("", "", "is no action"),
        ("permit x", "permit", "is no action"),
        ("allow", "allow", "does not say to whom"),
        ("allow to", "allow to", "does not say to whom"),
        ("allow x.example tcp", "tcp", "is too much"),
        ("allow http://x.example", "http://x.example", "write x.example:80"),
        ("allow https://x.example/a?b", "https://x.example/a?b", "write x.example:443"),
        ("allow https://x.example:8443", "https://x.example:8443", "write x.example:8443"),
        ("allow ftp://x.example", "ftp", "is not a protocol"),
        ("deny private", "private", "write lan, loopback, link-local or metadata; for a host of this name"),
        ("deny tcp://PUBLIC:80", "PUBLIC", "write internet; for a host of this name write `public.`"),
        ("allow all", "all", "write any"),
        ("deny from localhost", "localhost", "is no group of addresses"),
        ("allow TCP://x.example", "TCP", "is not a protocol"),
        ("allow x.example:", "", "is not a port"),
        ("allow x.example:http", "http", "is not a port"),
        ("allow x.example:80,,81", "", "is not a port"),
        ("allow x.example:0", "0", "is not a port"),
        ("allow x.example:80-70", "80-70", "is not a port"),
        ("allow x.example:65536", "65536", "is not a port"),
        ("allow icmp://x.example:8", "8", "icmp has no ports"),
        ("allow 10.0.0.0/33", "10.0.0.0/33", "is not a network"),
        ("allow 10.0.0.0/", "10.0.0.0/", "is not a network"),
        ("allow 10.0.0.1/8", "10.0.0.1/8", "10.0.0.0/8 has not"),
        ("allow 2001:db8::1/32", "2001:db8::1/32", "2001:db8::/32 has not"),
        ("allow x.example/24", "x.example", "is not an IPv4 address"),
        ("allow 127.1", "127.1", "is not an IPv4 address"),
        ("allow 0x7f000001", "0x7f000001", "is not an IPv4 address"),
        ("allow 010.0.0.1", "010.0.0.1", "is not an IPv4 address"),
        ("allow 2130706433", "2130706433", "is not an IPv4 address"),
        ("allow 10.0.0.256:80", "10.0.0.256", "is not an IPv4 address"),
        ("allow 2001:db8::1:65536", "2001:db8::1:65536", "in brackets"),
        ("allow 2001:db8::g", "2001:db8::g", "is not an IPv6 address"),
        ("allow [::1", "[::1", "is not an IPv6 address"),
        ("allow [::1]x", "x", "is too much"),
        ("allow [127.0.0.1]:80", "127.0.0.1", "is not an IPv6 address"),
        ("allow [fe80::1%eth0]:80", "fe80::1%eth0", "has a zone"),
        ("allow *", "*", "everything is written `any`"),
        ("allow *example.com", "*example.com", "has a star"),
        ("allow a.*.example.com", "a.*.example.com", "has a star"),
        ("allow *.*.example.com", "*.example.com", "has a star"),
        ("allow *.", "allow *.", "does not say to whom"),
        ("allow a..b", "a..b", "is not a host name"),
        ("allow a_b!", "a_b!", "is not a host name"),
        ("allow from x.example:80", "x.example:80", "has none"),
    ] {
        let error = text.parse::<Rule>().unwrap_err();
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert_eq!(error.part, part, "{text}: {error}");
        assert_eq!(text[error.at.clone()], error.part, "{text}");
    }
    let again = Rule::with_action(Action::Allow, "allow x").unwrap_err();
    assert_eq!((again.part.as_str(), again.problem), ("allow", RuleProblem::ActionAgain));
    assert!(Rule::with_action(Action::Allow, "allow").is_ok(), "a host may have this name");
    let long = format!("allow {}", "a,".repeat(600));
    assert_eq!(long.parse::<Rule>().unwrap_err().problem, RuleProblem::TooLong);
    let many = format!("allow x:{}", vec!["1"; 65].join(","));
    assert_eq!(many.parse::<Rule>().unwrap_err().problem, RuleProblem::TooManyPorts);
    assert!("pubic".parse::<Scope>().unwrap_err().to_string().contains("none, group, public and any"));
    assert_eq!("Public".parse::<Scope>(), Ok(Scope::Public));
}

fn any_rule() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
        (any::<std::net::IpAddr>(), 0u8..=32).prop_map(|(address, bits)| {
            let net = ipnet::IpNet::new(address, bits).unwrap().trunc();
            if address.is_ipv4() { net.to_string() } else { format!("[{net}]") }
        }),
        "(\\*\\.)?[a-z_][a-z0-9_-]{0,9}(\\.[a-z][a-z0-9-]{0,9}){0,3}"
            .prop_filter("words without a dot may be refused", |name| name.contains('.')
                || name.contains('_')),
        prop::sample::select(Class::GROUPS.to_vec()).prop_map(|class| class.to_string()),
        prop::sample::select(vec!["any", "any.", "host.", "lan.", "to.", "from.", "all."])
            .prop_map(str::to_owned),
    ];
    let ports = prop::collection::vec((1u16.., 0u16..50), 0..4).prop_map(|ports| {
        let one = |(first, more): (u16, u16)| format!("{first}-{}", first.saturating_add(more));
        ports.into_iter().map(one).collect::<Vec<_>>().join(",")
    });
    ("allow|deny", "|tcp://|udp://", target, ports).prop_map(|(action, protocol, target, ports)| {
        let colon = if ports.is_empty() { "" } else { ":" };
        format!("{action} {protocol}{target}{colon}{ports}")
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(text in any_rule()) {
        let read = rule(&text);
        prop_assert_eq!(read.to_string().parse::<Rule>(), Ok(read.clone()));
        let json = serde_json::to_string(&read).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), read);
    }

    #[test]
    fn any_text_is_answered(text in "(allow |deny )?(from |to )?[a-z0-9:/.,*\\[\\]% \u{e9}-]{0,24}") {
        match text.parse::<Rule>() {
            Ok(read) => prop_assert_eq!(read.to_string().parse::<Rule>(), Ok(read)),
            Err(error) => prop_assert!(text.get(error.at).is_some()),
        }
    }

    /// Whatever the address: `public` lets through only what is in the internet by every way of reading it.
    #[test]
    fn public_lets_through_the_internet_alone(bytes in any::<[u8; 16]>(), v4 in any::<bool>(), prefix in 0usize..8) {
        let prefixes: [&[u8]; 8] = [
            &[], &[0x20, 0x02], &[0x20, 0x01, 0, 0], &[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0x64, 0xff, 0x9b, 0, 1], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff], &[0; 12],
            &[0x2a, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0x5e, 0xfe],
        ];
        let mut bytes = bytes;
        bytes[..prefixes[prefix].len()].copy_from_slice(prefixes[prefix]);
        let address = if v4 { IpAddr::from([bytes[12], bytes[13], bytes[14], bytes[15]]) } else { IpAddr::from(bytes) };
        let public = policy(Scope::Public, &[]);
        if public.decide(&to(&address.to_string(), Protocol::Tcp, 1), &[]).allowed {
            if let IpAddr::V6(v6) = address {
                for hidden in embedded(v6) {
                    let class = public.class(hidden.into());
                    prop_assert!(matches!(class, Class::Internet | Class::Group), "{} hides {}", address, hidden);
                }
            }
            prop_assert!(!address.is_loopback() && !address.is_multicast() && !address.is_unspecified());
        }
    }
}
