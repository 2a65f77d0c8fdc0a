#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

fn whom(text: &str) -> Whom {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn peers_are_written_as_in_rules_and_as_people_do() {
    for (text, protocol, port) in [
        ("tcp://x.example:443", Protocol::Tcp, Some(443)),
        ("x.example:22", Protocol::Tcp, Some(22)),
        ("https://x.example/a?b", Protocol::Tcp, Some(443)),
        ("http://x.example:8080/", Protocol::Tcp, Some(8080)),
        ("udp://[2001:db8::1]:53", Protocol::Udp, Some(53)),
        ("icmp://1.1.1.1", Protocol::Icmp, None),
        ("host:5432", Protocol::Tcp, Some(5432)),
    ] {
        let read = whom(text);
        assert_eq!((read.protocol, read.port), (protocol, port), "{text}");
    }
    for (text, words) in [
        ("tcp://10.0.0.0/8:80", "more than one place"),
        ("tcp://*.x.example:80", "more than one place"),
        ("lan:80", "more than one place"),
        ("any:80", "more than one place"),
        ("tcp://x.example", "does not say which port"),
        ("host", "write it as tcp://host:443"),
        ("2001:db8::1", "write it as tcp://[2001:db8::1]:443"),
        ("udp://x.example", "write it as udp://x.example:443"),
        ("x.example:80-90", "names several ports: ask about one"),
        ("tcp://1.1.1.1:80,443", "names several ports: ask about one"),
        ("1.1.1.1:99999", "is not a port"),
        ("ftp://x.example:21", "is not a protocol"),
    ] {
        let error = text.parse::<Whom>().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(words), "{text}: {error}");
    }
}

#[test]
fn addresses_are_explained_by_what_decides() {
    let rules = vec!["allow tcp://host:5432".parse().unwrap()];
    let ports = ["8000:80", "0.0.0.0:9000:90", "192.0.2.7:9001:91", "[::]:9002:92"];
    let ports = ports.map(|port| port.parse().unwrap()).to_vec();
    let network = Network { rules, ports, ..Network::default() };
    for (text, direction, allowed, words) in [
        ("tcp://1.1.1.1:443", Direction::Out, true, "scope `public`, which reaches the internet"),
        ("https://10.0.0.1", Direction::Out, false, "private networks (lan)"),
        ("host:5432", Direction::Out, true, "rule 1, `allow tcp://host:5432`"),
        ("host.msb.internal:80", Direction::Out, false, "does not reach the host"),
        ("10.0.0.1:90", Direction::In, true, "the port is published"),
        ("10.0.0.1:91", Direction::In, true, "the port is published"),
        ("127.0.0.1:80", Direction::In, true, "the port is published"),
        ("host:80", Direction::In, true, "the port is published"),
        (
            "10.0.0.1:80",
            Direction::In,
            false,
            "published on 127.0.0.1 and [::1] alone; publish with -p 0.0.0.0:8000:80",
        ),
        ("[fd00::1]:90", Direction::In, false, "published on 0.0.0.0 alone; publish with -p [::]:9000:90"),
        ("10.0.0.1:92", Direction::In, false, "published on [::] alone; publish with -p 0.0.0.0:9002:92"),
        ("10.0.0.1:8000", Direction::In, false, "8000 is this machine's port; ask for the sandbox's, 80"),
        ("10.0.0.1:81", Direction::In, false, "no port of the sandbox of this number"),
        ("udp://10.0.0.1:80", Direction::In, false, "no port of the sandbox of this number"),
    ] {
        let explained = network.explain(&whom(text), direction, &Circle::nobody()).unwrap();
        // A machine without a network is told apart from a policy that allows nothing.
        let is_cut_off = text.contains("1.1.1.1") && !has_route([1, 1, 1, 1].into());
        let expected = (Some(allowed && !is_cut_off), 1 + usize::from(is_cut_off));
        assert_eq!((explained.allowed, explained.steps.len()), expected, "{text}");
        assert!(explained.steps[0].reason.contains(words), "{text}: {}", explained.steps[0].reason);
    }
    assert!(network.explain(&whom("x.example:80"), Direction::In, &Circle::nobody()).is_err());
}

#[test]
fn refused_names_are_not_looked_up() {
    let network = Network { scope: Scope::None, ..Network::default() };
    let explained = network.explain(&whom("tcp://x.example:443"), Direction::Out, &Circle::nobody()).unwrap();
    assert_eq!(explained.allowed, Some(false));
    assert_eq!((explained.steps.len(), explained.steps[0].what.as_str()), (1, "look up x.example"));
}

/// Nobody denies what no name server was heard about.
#[test]
fn a_name_without_an_answer_is_undecided() {
    let whom = whom("tcp://x.example:443");
    let (name, mut steps) = ("x.example".parse().unwrap(), Vec::new());
    let policy = Network::default().policy(Segment::default(), HostAddresses::default());
    let resolver = Resolver::new(System::default().upstreams().clone(), Hosts::default(), true);
    let offline = Err(io::Error::other("no name server answered about x.example"));
    addresses(&mut steps, &policy, &whom, (&name, offline, &resolver));
    assert_eq!((steps[0].allowed, overall(&steps)), (None, None));
    assert!(steps[0].reason.contains("no name server"), "{}", steps[0].reason);
    // One family's address is enough, and what is refused is refused.
    let step = |address: &str, allowed| Decision {
        address: Some(address.parse().unwrap()),
        allowed,
        ..failed(String::new(), "")
    };
    let (v4, v6) = ("192.0.2.1", "2001:db8::1");
    assert_eq!(overall(&[step(v4, Some(true)), step(v6, Some(true)), step(v6, Some(false))]), Some(true));
    assert_eq!(overall(&[step(v4, Some(false)), step(v6, None)]), None);
    assert_eq!(overall(&[step(v4, Some(true)), failed(String::new(), "")]), Some(false));
}

/// Both ends of a connection within a group have a say.
#[test]
fn the_other_sandbox_of_a_group_decides_too() {
    let member = |name: &str, address: &str| serde_json::json!({ "name": name, "folder": format!("/{name}"), "address": address, "names": [name] });
    let group = serde_json::json!({
        "number": 1, "name": "back", "project": null, "subnet": "10.77.0.0/24",
        "members": [member("web", "10.77.0.2"), member("db", "10.77.0.3")],
    });
    let groups = [serde_json::from_value::<Known>(group).unwrap()];
    for (rule, text, direction, allowed) in [
        (None, "tcp://db:8000", Direction::Out, Some(true)),
        (Some("deny from group:80"), "tcp://db:8000", Direction::Out, Some(true)),
        (Some("deny from group"), "tcp://db:8000", Direction::Out, Some(false)),
        (Some("deny from 10.77.0.2"), "10.77.0.3:8000", Direction::Out, Some(false)),
        (Some("deny group"), "tcp://db:8000", Direction::Out, Some(true)),
        (Some("deny group"), "db:8000", Direction::In, Some(false)),
        (Some("deny web:8000"), "db:8000", Direction::In, Some(false)),
        (Some("unknown"), "tcp://db:8000", Direction::Out, None),
    ] {
        let others = |folder: &Path| {
            assert_eq!(folder, Path::new("/db"));
            let rules = rule.map(str::parse).transpose().ok()?;
            Some(Network { rules: rules.into_iter().collect(), ..Network::default() })
        };
        let circle = Circle { groups: &groups, folder: Some(Path::new("/web")), network: &others };
        let explained = Network::default().explain(&whom(text), direction, &circle).unwrap();
        assert_eq!((explained.allowed, explained.steps.len()), (allowed, 2), "{rule:?} {text}");
        assert!(explained.steps[1].what.starts_with("db: "), "{}", explained.steps[1].what);
    }
}
