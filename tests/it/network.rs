//! What a sandbox reaches: msb runs in a network namespace behind which there is a small internet, with a private network and a
//! metadata service.

mod bulk;
mod names;
mod secrets;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use msb_test_support::{Msb, TestEnv, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm_as_root: the_internet_is_reached, datagrams_and_pings, names_are_found, nothing_private_is_reached);
    tests!(suite, vm_as_root: many_bytes, resolv_conf_of_the_image_stays, servers_and_clients_of_the_world);
    tests!(suite, vm_as_root: datagrams_in_pieces);
    names::register(suite);
    bulk::register(suite);
    secrets::register(suite);
}

/// Addresses of the internet, of a private network, and of a metadata service.
const ADDRESSES: [&str; 5] = ["93.184.216.34", "2606:4700::80", "10.1.2.3", "169.254.169.254", "192.88.1.1"];

/// Two network namespaces: the host's and the internet's.
struct Internet {
    name: String,
    servers: Vec<Child>,
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {words}");
}

impl Internet {
    fn new(env: &TestEnv) -> Self {
        Self::with(env, &[])
    }

    /// The same with `words` for `servers.py` before the addresses.
    fn with(env: &TestEnv, words: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("msb-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut internet = Self { name: name.clone(), servers: Vec::new() };
        for end in ["h", "i"] {
            ip(&format!("netns add {name}{end}"));
            ip(&format!("-n {name}{end} link set lo up"));
        }
        ip(&format!("link add v0 netns {name}h type veth peer name v1 netns {name}i"));
        for (end, link, host) in [("h", "v0", 2), ("i", "v1", 1)] {
            ip(&format!("-n {name}{end} addr add 192.88.0.{host}/24 dev {link}"));
            ip(&format!("-n {name}{end} addr add 2606:4700:1::{host}/64 dev {link} nodad"));
            ip(&format!("-n {name}{end} link set {link} up"));
        }
        ip(&format!("-n {name}h route add default via 192.88.0.1"));
        ip(&format!("-n {name}h route add default via 2606:4700:1::1"));
        for address in ADDRESSES {
            let (bits, more) = if address.contains(':') { (128, "nodad") } else { (32, "") };
            ip(&format!("-n {name}i addr add {address}/{bits} dev lo {more}"));
        }
        let pings = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range";
        let allowed =
            Command::new("ip").args(["netns", "exec", &format!("{name}h"), "sh", "-c", pings]).status();
        assert!(allowed.unwrap().success());
        let folder = format!("/etc/netns/{name}h");
        fs::create_dir_all(&folder).unwrap();
        internet.set_resolv_conf("nameserver 192.88.1.1\nsearch corp.example\n");
        let script = env.write("servers.py", include_str!("network/servers.py"));
        let mut servers = Command::new("ip")
            .args(["netns", "exec", &format!("{name}i"), "python3", "-B"])
            .arg(script)
            .args(words)
            .args(ADDRESSES)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(servers.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        internet.servers.push(servers);
        internet
    }

    /// A command on the side of the internet (`i`) or of the host (`h`).
    fn inside(&self, side: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{side}", self.name)]).args(words);
        command
    }

    /// Starts a server on one side, and waits until it listens at this address.
    fn serve(&mut self, side: &str, words: &[&str], (address, port): (&str, u16)) {
        self.servers.push(self.inside(side, words).spawn().unwrap());
        let knock = format!("import socket; socket.create_connection(('{address}', {port}), 60)");
        let mut tries = 0;
        while !self.inside(side, &["python3", "-c", &knock]).stderr(Stdio::null()).status().unwrap().success()
        {
            tries += 1;
            assert!(tries < 600, "{words:?} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// dnsmasq at `address` on one side, with `words` for what it knows and whom it asks.
    fn name_server(&mut self, side: &str, address: &str, words: &[&str]) {
        let listen = format!("--listen-address={address}");
        let fixed = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--bind-interfaces",
            "--pid-file=",
            &listen,
        ];
        self.serve(side, &[&fixed[..], words].concat(), (address, 53));
    }

    /// Whom the host asks for names from now on.
    fn set_resolv_conf(&self, text: &str) {
        fs::write(format!("/etc/netns/{}h/resolv.conf", self.name), text).unwrap();
    }

    /// `msb ARGS…` on the host of this internet.
    fn msb<I: IntoIterator<Item: AsRef<OsStr>>>(&self, vm: &Vm, args: I) -> Msb {
        let inside = ["netns", "exec", &format!("{}h", self.name), "msb"].map(str::to_owned);
        vm.program("ip").args(inside).args(args)
    }

    /// `msx IMAGE ARGS…` on the host of this internet.
    fn msx<I: IntoIterator<Item: AsRef<OsStr>>>(&self, vm: &Vm, image: &str, args: I) -> Msb {
        self.msx_with(vm, image, &[], args)
    }

    /// The same with flags.
    fn msx_with<I: IntoIterator<Item: AsRef<OsStr>>>(
        &self,
        vm: &Vm,
        image: &str,
        flags: &[&str],
        args: I,
    ) -> Msb {
        let host = format!("{}h", self.name);
        let msx = vm.program("ip").args(["netns", "exec", &host, "msx", &vm.image(image)]);
        msx.args(flags).arg("--").args(args)
    }

    fn sh(&self, vm: &Vm, script: &str) -> Msb {
        self.msx(vm, "busybox", ["sh", "-c", script])
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for servers in &mut self.servers {
            let _ = servers.kill();
            let _ = servers.wait();
        }
        for end in ["h", "i"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}{end}", self.name)]).status();
        }
        let _ = fs::remove_dir_all(format!("/etc/netns/{}h", self.name));
    }
}

fn the_internet_is_reached(vm: &Vm) {
    let internet = Internet::new(vm);
    let script = "wget -q -O - http://93.184.216.34/; wget -q -O - 'http://[2606:4700::80]/'; \
                  echo echoed | nc 93.184.216.34 7; nc 93.184.216.34 81 < /dev/null || echo refused";
    let wanted = "hello from ::ffff:93.184.216.34\nhello from 2606:4700::80\nechoed\nrefused\n";
    internet.sh(vm, script).run().success().stdout_is(wanted).stderr_has("Connection refused");
}

fn datagrams_and_pings(vm: &Vm) {
    let internet = Internet::new(vm);
    let script = "ping -c 1 -W 20 93.184.216.34 | grep -c 'bytes from'; ping -c 1 -W 20 2606:4700::80 | grep -c 'bytes from'; \
                  ping -c 1 -W 20 10.1.2.3 | grep -c 'bytes from'";
    internet.sh(vm, script).run().stdout_is("1\n1\n0\n");
    let program = "
import socket
for family, address in ((socket.AF_INET, '93.184.216.34'), (socket.AF_INET6, '2606:4700::80')):
    peer = socket.socket(family, socket.SOCK_DGRAM)
    peer.settimeout(60)
    peer.connect((address, 7))
    for size in (1, 60000):
        peer.send(b'x' * size)
        print(len(peer.recv(65536)))
peer.connect(('2606:4700::80', 9))
try:
    peer.send(b'x')
    peer.recv(1)
except ConnectionRefusedError:
    print('refused')
";
    let run = internet.msx(vm, "python", ["python3", "-c", program]).run();
    run.success().stdout_is("1\n60000\n1\n60000\nrefused\n");
}

/// Longer than the link's largest packet, and than a link that the sandbox has made small.
fn datagrams_in_pieces(vm: &Vm) {
    let internet = Internet::new(vm);
    let program = "
import fcntl, socket, struct
def exchange(family, address, size):
    peer = socket.socket(family, socket.SOCK_DGRAM)
    peer.settimeout(60)
    peer.connect((address, 7))
    sent = bytes(at * 7 % 251 for at in range(size))
    peer.send(sent)
    print(peer.recv(65536) == sent)
exchange(socket.AF_INET, '93.184.216.34', 65507)
exchange(socket.AF_INET6, '2606:4700::80', 65527)
SIOCSIFMTU = 0x8922
fcntl.ioctl(socket.socket(), SIOCSIFMTU, struct.pack('16si12x', b'eth0', 1400))
for size in (1300, 3000, 65507):
    exchange(socket.AF_INET, '93.184.216.34', size)
    exchange(socket.AF_INET6, '2606:4700::80', size)
";
    let run = internet.msx(vm, "python", ["python3", "-c", program]).run();
    run.success().stdout_is("True\n".repeat(8));
}

fn names_are_found(vm: &Vm) {
    let internet = Internet::new(vm);
    let script = "cat /etc/resolv.conf; wget -q -O - http://site.example/; wget -q -O - http://short/";
    let wanted = "nameserver 192.0.0.1\nsearch corp.example\nhello from ::ffff:93.184.216.34\nhello from ::ffff:93.184.216.34\n";
    internet.sh(vm, script).run().success().stdout_is(wanted);
}

fn nothing_private_is_reached(vm: &Vm) {
    let internet = Internet::new(vm);
    let targets =
        "10.1.2.3 169.254.169.254 192.88.0.2 127.0.0.1 192.0.0.1 100.64.0.1 ::1 fe80::1 ::ffff:10.1.2.3";
    let script = format!("for a in {targets}; do nc -w 20 $a 7 < /dev/null && echo reached $a; done; true");
    internet.sh(vm, &script).run().success().stdout_is("");
}

fn many_bytes(vm: &Vm) {
    let internet = Internet::new(vm);
    let script = "wget -q -O /dev/shm/x http://93.184.216.34/bytes/50000000 && stat -c %s /dev/shm/x; \
                  head -c 1000000 /dev/shm/x | nc 93.184.216.34 7 | wc -c";
    internet.sh(vm, script).run().success().stdout_is("50000000\n1000000\n");
}

/// What the image has there is covered, not changed.
fn resolv_conf_of_the_image_stays(vm: &Vm) {
    let internet = Internet::new(vm);
    let script = "echo mine > /etc/resolv.conf && cat /etc/resolv.conf && umount /etc/resolv.conf && cat /etc/resolv.conf";
    internet.sh(vm, script).run().success().stdout_is("mine\n");
}

/// nginx and dnsmasq on one side, curl, node and python on the other.
fn servers_and_clients_of_the_world(vm: &Vm) {
    let mut internet = Internet::with(vm, &["--without-names"]);
    let folder = vm.root().join("site");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("file"), vec![b'x'; 3_000_000]).unwrap();
    let folder = folder.to_str().unwrap();
    let places = "listen 93.184.216.34:8080; listen [2606:4700::80]:8080;";
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; server {{ {places} root {folder}; }} }}"
    );
    let config = vm.write("nginx.conf", config);
    let nginx = ["nginx", "-p", folder, "-e", "stderr", "-c", config.to_str().unwrap()];
    internet.serve("i", &nginx, ("93.184.216.34", 8080));
    // More than fits into a datagram without EDNS, and more than fits into any.
    let texts = (0..12).map(|number| format!("--txt-record=long.example,{number}{}", "y".repeat(200)));
    let texts: Vec<String> = texts.collect();
    let mut known = vec![
        "--address=/site.example/93.184.216.34",
        "--address=/site.example/2606:4700::80",
        "--address=/inside.example/10.1.2.3",
    ];
    known.extend(texts.iter().map(String::as_str));
    internet.name_server("i", "192.88.1.1", &known);
    let script = "
set -e
url=http://site.example:8080/file
curl -sS -4 $url | wc -c
curl -sS -6 $url | wc -c
python3 -c \"import urllib.request; print(len(urllib.request.urlopen('$url').read()))\"
node -e \"fetch('$url').then(it => it.arrayBuffer()).then(it => console.log(it.byteLength))\"
node -e \"require('dns').resolveTxt('long.example', (error, it) => console.log(error || it.length))\"
curl -sS http://inside.example:8080/file || echo curl: $?
";
    let run = internet.msx(vm, "clients", ["sh", "-c", script]).run().success();
    run.stdout_is("3000000\n3000000\n3000000\n3000000\n12\ncurl: 6\n");
}
