//! Which rule decides.

use super::*;

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(
        Scope::Public,
        &[
            "allow 10.0.0.5:5432",
            "deny lan",
            "allow tcp://host:8080",
            "deny udp://any:53,5353",
            "deny icmp://internet",
        ],
    );
    for (address, protocol, port, allowed, words) in [
        ("10.0.0.5", Protocol::Tcp, 5432, true, "rule 1, `allow 10.0.0.5:5432`"),
        ("10.0.0.5", Protocol::Udp, 5432, true, "rule 1, `allow 10.0.0.5:5432`"),
        ("10.0.0.5", Protocol::Tcp, 5433, false, "rule 2, `deny lan`"),
        ("10.0.0.5", Protocol::Icmp, 0, false, "rule 2, `deny lan`"),
        ("192.168.1.5", Protocol::Tcp, 8080, true, "rule 3, `allow tcp://host:8080`"),
        ("172.31.255.1", Protocol::Tcp, 8080, true, "rule 3, `allow tcp://host:8080`"),
        ("192.168.1.5", Protocol::Udp, 8080, false, "scope `public`, which does not reach the host"),
        ("1.1.1.1", Protocol::Udp, 53, false, "rule 4, `deny udp://any:53,5353`"),
        ("1.1.1.1", Protocol::Tcp, 53, true, "scope `public`, which reaches the internet"),
        ("1.1.1.1", Protocol::Icmp, 0, false, "rule 5, `deny icmp://internet`"),
        (
            "169.254.169.254",
            Protocol::Tcp,
            80,
            false,
            "scope `public`, which does not reach metadata services",
        ),
    ] {
        let verdict = policy.decide(&to(address, protocol, port), &[]);
        assert_eq!(
            (verdict.allowed, verdict.reason.to_string().as_str()),
            (allowed, words),
            "{address} {protocol} {port}"
        );
    }
}

#[test]
fn scopes_reach_what_they_say() {
    for (scope, internet, group, lan, loopback) in [
        (Scope::None, false, false, false, false),
        (Scope::Group, false, true, false, false),
        (Scope::Public, true, true, false, false),
        (Scope::Any, true, true, true, true),
    ] {
        let policy = policy(scope, &[]);
        let reached =
            ["1.1.1.1", "10.77.0.9", "10.0.0.1", "127.0.0.1"].map(|address| reaches(&policy, address));
        assert_eq!(reached, [internet, group, lan, loopback], "{scope}");
    }
}

#[test]
fn names_count_for_the_addresses_they_led_to() {
    let policy = policy(Scope::None, &["deny api.example.com:22", "allow *.example.com", "deny any"]);
    let peer = |port| to("1.2.3.4", Protocol::Tcp, port);
    let names = [name("API.example.com."), name("edge.cdn.net")];
    assert!(policy.decide(&peer(443), &names).allowed);
    assert!(!policy.decide(&peer(22), &names).allowed);
    assert!(!policy.decide(&peer(443), &[]).allowed, "an address without a name");
    assert!(!policy.decide(&peer(443), &[name("example.com")]).allowed, "not below itself");
    assert!(!policy.decide(&peer(443), &[name("example.com.evil.net")]).allowed);
}

#[test]
fn names_are_looked_up_where_something_could_be_reached() {
    for (scope, rules, asked, allowed) in [
        (Scope::Public, &[][..], "x.example", true),
        (Scope::Any, &[], "x.example", true),
        (Scope::None, &[], "x.example", false),
        (Scope::Group, &[], "x.example", false),
        (Scope::None, &["allow x.example:443"], "x.example", true),
        (Scope::None, &["allow x.example:443"], "y.example", false),
        (Scope::None, &["allow *.example"], "y.example", true),
        (Scope::None, &["allow *.example"], "example", false),
        // A question is a message: networks do not open it, but for all of them.
        (Scope::None, &["allow 10.0.0.0/8", "allow host", "allow lan"], "y.example", false),
        (Scope::None, &["allow internet:443"], "y.example", true),
        (Scope::None, &["allow 0.0.0.0/0"], "y.example", true),
        (Scope::None, &["deny y.example", "allow any"], "y.example", false),
        (Scope::Public, &["deny *.example"], "y.example", false),
        (Scope::Public, &["deny *.example:25"], "y.example", true),
        (Scope::Public, &["allow y.example", "deny *.example"], "y.example", true),
        (Scope::Public, &["allow y.example", "deny any"], "y.example", true),
        (Scope::Public, &["allow y.example", "deny any"], "z.example", false),
        (Scope::Public, &["deny internet"], "z.example", false),
        (Scope::Public, &["deny internet", "allow z.example"], "z.example", true),
        (Scope::Any, &["deny internet"], "z.example", true),
        (Scope::None, &["allow from any"], "z.example", false),
    ] {
        let verdict = policy(scope, rules).decide_name(&name(asked));
        assert_eq!(verdict.allowed, allowed, "{scope} {rules:?} {asked}: {}", verdict.reason);
    }
}

#[test]
fn what_comes_in_is_decided_by_its_own_rules() {
    let policy = policy(
        Scope::None,
        &["deny lan", "allow from 192.168.7.0/24:8080", "deny from any:8080", "deny from udp://any"],
    );
    let from = |address, protocol, port| {
        let peer = Peer { direction: Direction::In, protocol, address: ip(address), port: Some(port) };
        let verdict = policy.decide(&peer, &[]);
        (verdict.allowed, verdict.reason.to_string())
    };
    let published = "the port is published, and no rule is about who connects to it".to_owned();
    assert_eq!(
        from("192.168.7.7", Protocol::Tcp, 8080),
        (true, "rule 2, `allow from 192.168.7.0/24:8080`".into())
    );
    assert_eq!(from("192.168.8.7", Protocol::Tcp, 8080), (false, "rule 3, `deny from any:8080`".into()));
    assert_eq!(from("192.168.8.7", Protocol::Tcp, 80), (true, published));
    assert_eq!(from("192.168.8.7", Protocol::Udp, 80), (false, "rule 4, `deny from udp://any`".into()));
}

#[test]
fn an_answer_is_of_use_if_a_port_could_be_reached() {
    for (scope, rules, address, of_use) in [
        (Scope::Public, &[][..], "10.0.0.1", false),
        (Scope::Public, &["allow tcp://lan:22"], "10.0.0.1", true),
        (Scope::Public, &["deny lan", "allow tcp://lan:22"], "10.0.0.1", false),
        (Scope::Public, &["deny lan:80", "allow tcp://lan:22"], "10.0.0.1", true),
        (Scope::Public, &["deny internet:25"], "1.1.1.1", true),
        (Scope::Public, &["deny 1.1.1.1"], "1.1.1.1", false),
        (Scope::None, &["allow x.example"], "1.1.1.1", true),
        (Scope::None, &["allow x.example"], "10.0.0.1", false),
    ] {
        let names = [name("x.example")];
        assert_eq!(
            policy(scope, rules).could_reach(ip(address), &names),
            of_use,
            "{scope} {rules:?} {address}"
        );
    }
}

#[test]
fn aliases_are_denied_by_rules_about_names_alone() {
    let policy = policy(
        Scope::None,
        &["allow ok.tracker.net", "deny *.tracker.net", "deny *.half.net:80", "deny any"],
    );
    assert!(policy.denies_alias(&name("a.tracker.net")).is_some());
    for other in ["ok.tracker.net", "tracker.net", "a.half.net", "a.cdn.net"] {
        assert!(policy.denies_alias(&name(other)).is_none(), "{other}");
    }
}
