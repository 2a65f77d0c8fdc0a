//! The same with a real guest on each hypervisor: what its own processor and the hypervisor's devices take is in these figures.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use msb::net::gateway::Link;

use crate::measure::Msb;
use crate::server::Servers;

/// Seconds of each transfer.
const LENGTH: &str = "5";
/// Prints the mean of round trips of one byte, in µs: the clock of an emulated machine tells milliseconds apart at best.
const ROUND_TRIPS: &str = "
import socket, sys, time
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])))
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
start = time.monotonic()
for _ in range(2000):
    stream.send(b'1'), stream.recv(1)
print((time.monotonic() - start) / 2000 * 1e6)
";

/// Prints the figures of every hypervisor that there is a kernel for.
pub(crate) fn measure() {
    let Some(images) = std::env::var_os("MSB_BENCH_IMAGES") else {
        return println!("real guests: skipped, MSB_BENCH_IMAGES is not set");
    };
    let from = format!("oci:{}:clients", images.display());
    let bench = Bench { msb: Msb::with(&from), servers: Servers::start() };
    for (vmm, kernel) in [("krun", "MSB_KERNEL"), ("qemu", "MSB_BENCH_QEMU_KERNEL")] {
        match std::env::var(kernel) {
            Ok(kernel) => bench.guest(vmm, &kernel),
            Err(_) => println!("{vmm}: skipped, {kernel} is not set"),
        }
    }
}

struct Bench {
    msb: Msb,
    servers: Servers,
}

impl Bench {
    fn guest(&self, vmm: &str, kernel: &str) {
        let gateway = Link::default().gateway_v4.to_string();
        let up = self.transfer((vmm, kernel), &gateway, &[]);
        let down = self.transfer((vmm, kernel), &gateway, &["--reverse"]);
        let echo = self.servers.echo.to_string();
        let trip = self.in_guest((vmm, kernel), &["python3", "-c", ROUND_TRIPS, &gateway, &echo]);
        let trip: f64 = trip.trim().parse().expect("a number");
        println!(
            "{vmm}, with its guest: {up:.1} MiB/s from it, {down:.1} MiB/s to it, {trip:.0} µs for a round trip"
        );
    }

    /// MiB/s.
    fn transfer(&self, on: (&str, &str), gateway: &str, more: &[&str]) -> f64 {
        let server = Iperf::start();
        let port = server.port.to_string();
        let mut command = vec!["iperf3", "--client", gateway, "--port", &port, "--time", LENGTH, "--json"];
        command.extend(more);
        let report: serde_json::Value = serde_json::from_str(&self.in_guest(on, &command)).expect("JSON");
        report["end"]["sum_received"]["bits_per_second"].as_f64().expect("a number")
            / 8.0
            / f64::from(1 << 20)
    }

    /// What `program` prints in a guest that may reach the host.
    fn in_guest(&self, (vmm, kernel): (&str, &str), program: &[&str]) -> String {
        let mut command = self.msb.command(&["-q", "exe", "bench", "--scope", "any", "--"]);
        command.args(program).env("MSB_VMM", vmm).env("MSB_KERNEL", kernel);
        if vmm == "qemu" {
            command.env_remove("MSB_KVM_PROBE");
        }
        let output = command.stderr(Stdio::inherit()).output().expect("msb starts");
        assert!(output.status.success(), "{program:?} in a guest of {vmm}: {}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }
}

/// A server on the host's loopback for one transfer.
struct Iperf {
    child: Child,
    port: u16,
}

impl Iperf {
    fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let mut command = Command::new("iperf3");
        command.args(["--server", "--one-off", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        let child = command.stdout(Stdio::null()).spawn().expect("iperf3 is installed");
        Self { child, port }
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
