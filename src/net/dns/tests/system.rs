//! resolv.conf.

use std::fs;

use super::*;

#[test]
fn resolv_conf_is_read_as_resolver_libraries_do() {
    let text = "# made by hand\nnameserver 127.0.0.53 # stub\n; no\nnameserver\t2001:db8::1\nnameserver fe80::1%1\nnameserver 9.9.9.9\n\
        nameserver x\ndomain old.example\nsearch corp.example  lan. bad..name\noptions edns0 ndots:2 timeout:1 attempts:3 use-vc\nsortlist 1\n";
    let read = Upstreams::parse(text);
    let servers: Vec<String> = read.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["127.0.0.53:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]);
    assert_eq!(read.search, [name("corp.example"), name("lan")]);
    assert_eq!((read.ndots, read.timeout, read.attempts), (2, Duration::from_secs(1), 3));
    assert_eq!(read.transport, Transport::Tcp);
}

#[test]
fn limits_and_defaults_hold() {
    for text in ["", "nameserver", "nameserver x.example", "options timeout:x attempts: ndots"] {
        let read = Upstreams::parse(text);
        assert_eq!(read.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((read.ndots, read.attempts, read.transport), (1, 2, Transport::Udp));
    }
    let read = Upstreams::parse("options timeout:60 attempts:0 ndots:99");
    assert_eq!((read.ndots, read.timeout, read.attempts), (15, Duration::from_secs(2), 1));
    let many = "nameserver 1.1.1.1\n".repeat(50) + "search " + &"a ".repeat(100);
    assert_eq!((Upstreams::parse(&many).servers.len(), Upstreams::parse(&many).search.len()), (3, 32));
}

#[test]
fn it_is_read_again_when_it_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let mut system = System::new(&path);
    assert_eq!(system.changed().unwrap().unwrap().servers, ["127.0.0.1:53".parse().unwrap()]);
    assert_eq!(system.changed().unwrap(), None);
    fs::write(&path, "nameserver 192.0.2.1").unwrap();
    assert_eq!(system.changed().unwrap().unwrap().servers, ["192.0.2.1:53".parse().unwrap()]);
    assert_eq!(system.changed().unwrap(), None);
    // As network managers do it: a new file under the old name.
    let new = dir.path().join("new");
    fs::write(&new, "nameserver 192.0.2.2").unwrap();
    fs::rename(&new, &path).unwrap();
    assert_eq!(system.changed().unwrap().unwrap().servers, ["192.0.2.2:53".parse().unwrap()]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(system.changed().is_err());
}
