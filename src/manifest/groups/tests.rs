#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::super::parse;
use super::*;

const FILE: &str = "groups:\n  back:\n    network: {subnet: 10.77.0.0/24}\n  front: {}\nsandboxes:\n  db:\n    image: x\n    \
    groups: {back: {network: {ip: 10.77.0.10, hostname: Store}}, front: }\n  web:\n    image: x\n    groups: [back, front]\n";

fn refused(text: &str, said: &str) {
    let error = parse(text, Path::new("f")).unwrap_err();
    let all = format!("{error} {:?}", error.hint());
    assert!(all.contains(said), "{text}\n{all}");
}

#[test]
fn groups_and_members_are_read_in_every_form() {
    let file = parse(FILE, Path::new("f")).unwrap();
    assert_eq!(file.groups["back"].network.subnet, Some("10.77.0.0/24".parse().unwrap()));
    let db = &file.sandboxes["db"].groups["back"].network;
    assert_eq!(
        (db.ip, db.hostname.as_ref().unwrap().as_str()),
        (Some("10.77.0.10".parse().unwrap()), "store")
    );
    assert!(is_list(&file.sandboxes["web"].groups) && !is_list(&file.sandboxes["db"].groups));
    // Nothing need be declared, and none of it is a file as before.
    let file = parse("sandboxes:\n  a:\n    image: x\n    groups: [g]\n", Path::new("f")).unwrap();
    assert!(file.groups.is_empty() && file.sandboxes["a"].groups.contains_key("g"));
}

#[test]
fn mistakes_are_named() {
    let with = |from: &str, to: &str| FILE.replace(from, to);
    refused(&with("[back, front]", "[bak]"), "did you mean `back`");
    refused(&with("[back, front]", "[back, back]"), "`back` is there twice");
    refused(&with("[back, front]", "[../x]"), "not the name of a group");
    refused(&with("10.77.0.10", "10.78.0.10"), "not in 10.77.0.0/24");
    refused(&with("10.77.0.10", "10.77.0"), "invalid IP address");
    refused(&with("10.77.0.0/24", "8.8.8.0/24"), "no private network");
    refused(&with("10.77.0.0/24", "10.77.0.1/24"), "no network");
    refused(
        &with("front: {}", "front: {network: {subnet: 10.77.0.128/25}}"),
        "has addresses of group `back`",
    );
    refused(&with("front: {}", "front: {volumes: {a: b}}"), "groups have no volumes");
    refused(&with("[back, front]", "{back: {network: {ip: 10.77.0.10}}}"), "which is that of `db`");
    refused(&with("[back, front]", "{front: {network: {ip: 10.0.0.1}}}"), "needs a group with a `subnet`");
}
