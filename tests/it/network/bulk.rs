//! Much at once, as iperf3 sends it.

use msb_test_support::Vm;
use serde_json::Value;

use super::Internet;
use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm_as_root: much_at_once_arrives_both_ways);
}

/// A guest in software emulation takes its time.
fn megabytes(vm: &Vm) -> u64 {
    if vm.emulated() { 16 } else { 64 }
}

fn much_at_once_arrives_both_ways(vm: &Vm) {
    let mut internet = Internet::new(vm);
    // A server of datagrams that is bound to no address answers from any.
    for address in ["93.184.216.34", "2606:4700::80"] {
        let server = ["iperf3", "-s", "-p", "5201", "-B", address, "--logfile", "/dev/null"];
        internet.serve("i", &server, (address, 5201));
    }
    let count = megabytes(vm) << 20;
    let stream = format!("iperf3 -c 93.184.216.34 -J -P 4 -w 128K -n {count}");
    // Never faster than the slowest guest takes it: what is lost then is lost within the guest or the server.
    let datagrams = format!("iperf3 -c 93.184.216.34 -J -u -l 1400 -b 4M -n {}", 512 << 10);
    let script =
        format!("set -e; {stream}; {stream} -R; {stream} -6 -c 2606:4700::80; {datagrams}; {datagrams} -R");
    let run = internet.msx(vm, "clients", ["sh", "-c", &script]).run().success();
    let out = run.out();
    let results: Vec<Value> =
        serde_json::Deserializer::from_str(&out).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(results.len(), 5, "{out}");
    for result in &results[..3] {
        let end = &result["end"];
        let bytes = |what: &str| end[what]["bytes"].as_u64().unwrap();
        let (sent, received) = (bytes("sum_sent"), bytes("sum_received"));
        // The last of it is on its way when the sender says that it is done.
        assert!(sent >= count && received <= sent && received >= count / 2, "{sent} {received}");
        assert_eq!(end["streams"].as_array().unwrap().len(), 4);
        // Nothing is lost on a link within one machine. What a machine that stands still sends once more is little.
        let again = end["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
        assert!(again <= 100, "{again} segments were sent again");
    }
    for result in &results[3..] {
        let sum = &result["end"]["sum"];
        let number = |what: &str| sum[what].as_u64().unwrap();
        assert!(
            number("packets") >= (512 << 10) / 1400 && number("lost_packets") <= number("packets") / 10,
            "{sum}"
        );
    }
}
