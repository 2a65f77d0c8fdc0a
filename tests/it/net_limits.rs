//! Limits of bandwidth and connections.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use msb_test_support::{TestEnv, Vm, wait_until};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: bytes_per_second, connections_at_once);
    tests!(suite, cli: mistakes_are_named);
}

/// Not faster than is allowed, and whole.
fn bytes_per_second(vm: &Vm) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let (begun, mut all) = (Instant::now(), Vec::new());
        client.read_to_end(&mut all).unwrap();
        (begun.elapsed(), all.len())
    });
    let script = format!("head -c 1000000 /dev/zero | nc 192.0.0.1 {port}");
    vm.program("msx")
        .args([&vm.image("busybox"), "--allow", "host", "--bandwidth", "up=512K", "--", "sh", "-c", &script])
        .run()
        .success();
    let (lasted, count) = server.join().unwrap();
    assert_eq!(count, 1_000_000);
    // An eighth of a second's worth goes at once.
    assert!(lasted > Duration::from_millis(1500), "{lasted:?}");
}

/// One more is refused, which is recorded.
fn connections_at_once(vm: &Vm) {
    let lines = "    network:\n      rules: [allow host]\n      max_connections: 1\n";
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n{lines}", vm.image("busybox")));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("(echo open; sleep 1000) | nc 192.0.0.1 {port} & sleep 1000");
    vm.msb(["run", "-d", "app", "--", "sh", "-c", &script]).run().success();
    let (mut client, _) = listener.accept().unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let second = format!("nc 192.0.0.1 {port} < /dev/null");
    let refused = vm.msb(["exec", "app", "--", "sh", "-c", &second]).run();
    assert_ne!(refused.exit_code(), Some(0), "{refused}");
    wait_until(vm.hypervisor.limit(), "the limit is recorded", || {
        let events = vm.msb(["events", "app"]).run().success().out();
        events.contains("net-limit limit=1") && events.contains("what=TCP connections")
    });
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

fn mistakes_are_named(env: &TestEnv) {
    let file = |line: &str| {
        env.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: x\n    network: {{{line}}}\n"))
    };
    for (line, said) in [
        ("bandwidth: fast", "`fast` is not a bandwidth"),
        ("max_connections: 0", "write a whole number from 1"),
        ("bandwith: 1M", "bandwidth"),
        ("proxy: \"socks5://me:secret@proxy\"", "with a password"),
        ("proxy: proxy", "is not the URL of a proxy"),
    ] {
        file(line);
        env.msb(["net", "show", "app"]).run().failed_saying(&[said]);
    }
    let wrong = env.msb(["run", "app", "--proxy", "http://me:secret@proxy"]).run().stderr_has("file:/PATH");
    assert_eq!(wrong.exit_code(), Some(2), "{wrong}");
}
