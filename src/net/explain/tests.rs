#![allow(clippy::unwrap_used)]

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
        ("x.example:80-90", "does not say which port"),
        ("ftp://x.example:21", "is not a protocol"),
    ] {
        let error = text.parse::<Whom>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn addresses_are_explained_by_what_decides() {
    let rules = vec!["allow tcp://host:5432".parse().unwrap()];
    let network = Network { rules, ports: vec!["8000:80".parse().unwrap()], ..Network::default() };
    for (text, direction, allowed, words) in [
        ("tcp://1.1.1.1:443", Direction::Out, true, "scope `public`, which reaches the internet"),
        ("https://10.0.0.1", Direction::Out, false, "private networks (lan)"),
        ("host:5432", Direction::Out, true, "rule 1, `allow tcp://host:5432`"),
        ("host.msb.internal:80", Direction::Out, false, "does not reach the host"),
        ("10.0.0.1:80", Direction::In, true, "the port is published"),
        ("10.0.0.1:8000", Direction::In, false, "no port of the sandbox of this number"),
        ("udp://10.0.0.1:80", Direction::In, false, "no port of the sandbox of this number"),
    ] {
        let explained = network.explain(&whom(text), direction, &[]).unwrap();
        // A machine without a network is told apart from a policy that allows nothing.
        let is_cut_off = text.contains("1.1.1.1") && !has_route([1, 1, 1, 1].into());
        let expected = (allowed && !is_cut_off, 1 + usize::from(is_cut_off));
        assert_eq!((explained.allowed, explained.steps.len()), expected, "{text}");
        assert!(explained.steps[0].reason.contains(words), "{text}: {}", explained.steps[0].reason);
    }
    assert!(network.explain(&whom("x.example:80"), Direction::In, &[]).is_err());
}

#[test]
fn refused_names_are_not_looked_up() {
    let network = Network { scope: Scope::None, ..Network::default() };
    let explained = network.explain(&whom("tcp://x.example:443"), Direction::Out, &[]).unwrap();
    assert!(!explained.allowed);
    assert_eq!((explained.steps.len(), explained.steps[0].what.as_str()), (1, "look up x.example"));
}
