//! Connections of sandboxes through proxies.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use msb_test_support::{Vm, wait_until};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: through_socks, through_http_with_a_password_from_a_file, nothing_else_goes_out);
}

/// A proxy that connects everybody to one server, and remembers what it was asked for.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(serve: fn(&mut TcpStream) -> Option<String>) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = server.local_addr().unwrap();
        thread::spawn(move || {
            for client in server.incoming() {
                let _ = client.unwrap().write_all(b"from behind the proxy\n");
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let Some(whom) = serve(&mut client) else { continue };
                noted.lock().unwrap().push(whom);
                let mut all = Vec::new();
                TcpStream::connect(behind).unwrap().read_to_end(&mut all).unwrap();
                client.write_all(&all).unwrap();
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// RFC 1928 without authentication, for IPv4 addresses.
fn socks(client: &mut TcpStream) -> Option<String> {
    let mut hello = [0; 3];
    client.read_exact(&mut hello).ok()?;
    assert_eq!(hello, [5, 1, 0]);
    client.write_all(&[5, 0]).ok()?;
    let mut request = [0; 10];
    client.read_exact(&mut request).ok()?;
    assert_eq!(request[..4], [5, 1, 0, 1]);
    if request[4] == 9 {
        // Refused by a peer of the proxy's.
        client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
        return None;
    }
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).ok()?;
    let [a, b, c, d] = [request[4], request[5], request[6], request[7]];
    Some(format!("{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([request[8], request[9]])))
}

/// CONNECT with a login.
fn http(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    // me:hunter2
    if !head.contains("\r\nProxy-Authorization: Basic bWU6aHVudGVyMg==\r\n") {
        client.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").ok()?;
        return None;
    }
    client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").ok()?;
    Some(head.lines().next()?.to_owned())
}

/// The policy decides first; what the proxy says about the peer is what the sandbox sees.
fn through_socks(vm: &Vm) {
    let proxy = Proxy::start(socks);
    let url = format!("socks5://127.0.0.1:{}", proxy.port);
    let script = "nc 93.184.216.34 7777 < /dev/null; nc 9.9.9.9 80 < /dev/null || echo refused; nc 10.1.2.3 80 < /dev/null || echo denied";
    vm.program("msx")
        .args([&vm.image("busybox"), "--proxy", &url, "--", "sh", "-c", script])
        .run()
        .success()
        .stdout_is("from behind the proxy\nrefused\ndenied\n")
        .stderr_has("Connection refused");
    assert_eq!(proxy.asked(), ["93.184.216.34:7777"]);
}

/// The password is in no definition, no command line and no log.
fn through_http_with_a_password_from_a_file(vm: &Vm) {
    let proxy = Proxy::start(http);
    let path = vm.write("proxy", format!("http://me:hunter2@127.0.0.1:{}\n", proxy.port));
    let lines = format!("    network: {{proxy: \"file:{}\"}}\n", path.display());
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n{lines}", vm.image("busybox")));
    vm.msb(["run", "-d", "app", "--", "sleep", "1000"]).run().success();
    vm.msb(["exec", "app", "--", "sh", "-c", "nc 93.184.216.34 443 < /dev/null"])
        .run()
        .success()
        .stdout_is("from behind the proxy\n");
    assert_eq!(proxy.asked(), ["CONNECT 93.184.216.34:443 HTTP/1.1"]);
    for words in [&["inspect", "app"][..], &["events"], &["ps", "--format", "json"], &["logs", "app"]] {
        let shown = vm.msb(words).run().success().out();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    vm.msb(["net", "explain", "app", "tcp://93.184.216.34:443"]).run().stdout_has("through file:");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
    std::fs::remove_file(&path).unwrap();
    vm.msb(["run", "-d", "app", "--", "sleep", "1000"]).run().failed_saying(&["cannot read the proxy"]);
}

/// Datagrams and pings would pass the proxy by; the host is reached without it. A proxy that is not there makes no hole.
fn nothing_else_goes_out(vm: &Vm) {
    let lines = "    network: {rules: [allow host], proxy: \"http://127.0.0.1:1\"}\n";
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n{lines}", vm.image("busybox")));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"the host\n"));
    vm.msb(["run", "-d", "app", "--", "sleep", "1000"]).run().success();
    let script = format!(
        "nc 192.0.0.1 {port} < /dev/null; ping -c 1 -W 5 93.184.216.34 > /dev/null || echo no ping; nc 93.184.216.34 80 < /dev/null || echo no proxy"
    );
    vm.msb(["exec", "app", "--", "sh", "-c", &script]).run().stdout_is("the host\nno ping\nno proxy\n");
    server.join().unwrap().unwrap();
    vm.msb(["net", "explain", "app", "udp://93.184.216.34:443"])
        .run()
        .stdout_has("a proxy is set, which carries TCP only");
    wait_until(vm.hypervisor.limit(), "it is recorded", || {
        let events = vm.msb(["events", "app"]).run().success().out();
        events.contains("a proxy is set, which carries TCP only")
            && events.contains("net-failed reason=Connection refused")
    });
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}
