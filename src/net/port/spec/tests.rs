#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn spec(text: &str) -> PortSpec {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn reads_every_form() {
    for (text, bind, host, guest, count, transport) in [
        ("8080:80", None, 8080, 80, 1, Transport::Tcp),
        ("8080", None, 8080, 8080, 1, Transport::Tcp),
        ("53:53/udp", None, 53, 53, 1, Transport::Udp),
        ("0:80", None, 0, 80, 1, Transport::Tcp),
        ("0:8000-8003/tcp", None, 0, 8000, 4, Transport::Tcp),
        ("7000-7009:8000-8009", None, 7000, 8000, 10, Transport::Tcp),
        ("127.0.0.2:1:65535", Some("127.0.0.2"), 1, 65535, 1, Transport::Tcp),
        ("0.0.0.0:5000-5001:5000-5001/udp", Some("0.0.0.0"), 5000, 5000, 2, Transport::Udp),
        ("[::]:8080:80", Some("::"), 8080, 80, 1, Transport::Tcp),
        ("[::1]:0:80", Some("::1"), 0, 80, 1, Transport::Tcp),
    ] {
        let bind = bind.map(|bind| bind.parse().unwrap());
        assert_eq!(spec(text), PortSpec { bind, host, guest, count, transport }, "{text}");
    }
}

#[test]
fn names_mistakes() {
    for (text, words) in [
        ("", "`` is not a port"),
        ("http:80", "`http` is not a port"),
        ("80:", "`` is not a port"),
        ("+80:80", "`+80` is not a port"),
        ("65536:80", "`65536` is not a port"),
        ("80:0", "a sandbox has no port 0"),
        ("0", "a sandbox has no port 0"),
        ("90-80:90-80", "`90-80` ends before it begins"),
        ("80-81:80", "not equally many"),
        ("80:80-81", "not equally many"),
        ("0-1:80-81", "not equally many"),
        ("80:80/sctp", "`sctp` is not a protocol"),
        ("localhost:80:80", "`localhost` is not an address"),
        ("::1:80:80", "too many colons"),
        ("[::1]", "is not an address"),
        ("[::1]:80", "is not a port"),
        ("[127.0.0.1]:80:80", "`127.0.0.1` is not an address"),
        ("1.2.3.4:1:2:3", "too many colons"),
    ] {
        let error = text.parse::<PortSpec>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn the_same_port_of_the_host_is_published_once() {
    for (one, other, clash) in [
        ("80:80", "80:81", Some(80)),
        ("80:80", "80:80/udp", None),
        ("0:80", "0:80", None),
        ("80:80", "0.0.0.0:80:80", Some(80)),
        ("127.0.0.2:80:80", "127.0.0.3:80:80", None),
        ("80:80", "[::]:80:80", Some(80)),
        ("80:80", "127.0.0.1:80:81", Some(80)),
        // Each serves its own family.
        ("0.0.0.0:80:80", "[::]:80:80", None),
        ("70-90:70-90", "90-99:90-99", Some(90)),
        ("70-90:70-90", "91:91", None),
    ] {
        assert_eq!(spec(one).clash(&spec(other)), clash, "{one} and {other}");
        assert_eq!(spec(other).clash(&spec(one)), clash, "{other} and {one}");
    }
    assert_eq!(spec("10-11:20-21").pairs().collect::<Vec<_>>(), [(10, 20), (11, 21)]);
    assert_eq!(spec("0:20-21").pairs().collect::<Vec<_>>(), [(0, 20), (0, 21)]);
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        bind in any::<Option<IpAddr>>(),
        host in any::<u16>(),
        guest in 1u16..,
        count in 1u16..1000,
        udp in any::<bool>(),
    ) {
        let most = u16::MAX - host.max(guest);
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let one = PortSpec { bind, host, guest, count: count.min(most.max(1)), transport };
        prop_assume!(u32::from(host.max(guest)) + u32::from(one.count) <= 65536);
        prop_assert_eq!(one.to_string().parse::<PortSpec>(), Ok(one));
    }

    #[test]
    fn any_text_is_answered(text in "[0-9:./\\[\\]a-z-]{0,24}") {
        if let Ok(spec) = text.parse::<PortSpec>() {
            prop_assert_eq!(spec.pairs().count(), usize::from(spec.count));
            prop_assert_eq!(spec.to_string().parse::<PortSpec>(), Ok(spec));
        }
    }
}
