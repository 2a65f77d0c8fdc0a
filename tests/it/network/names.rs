//! Names where the host's own way to them is not a plain one.

use msb_test_support::Vm;

use super::{Internet, ip};
use crate::suite::{Suite, tests};

pub(super) fn register(suite: &mut Suite) {
    tests!(suite, vm_as_root: split_names, translated_addresses);
}

/// The host's resolver on 127.0.0.53 asks another server for one domain, as systemd-resolved does; only that server knows it.
fn split_names(vm: &Vm) {
    let mut internet = Internet::with(vm, &["--without-names"]);
    internet.name_server("i", "192.88.1.1", &["--address=/site.example/93.184.216.34"]);
    internet.name_server("i", "10.1.2.3", &["--address=/corp.example/2606:4700::80"]);
    let split = ["--server=192.88.1.1", "--server=/corp.example/10.1.2.3"];
    internet.name_server("h", "127.0.0.53", &split);
    internet.set_resolv_conf("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n");
    let script = "for name in site.example wiki.corp.example wiki; do wget -q -O - http://$name/; done; \
                  nc -w 20 10.1.2.3 53 < /dev/null && echo reached";
    let wanted = "hello from ::ffff:93.184.216.34\nhello from 2606:4700::80\nhello from 2606:4700::80\n";
    internet.sh(vm, script).run().stdout_is(wanted);
}

/// A network with IPv6 only, whose name server puts addresses of IPv4 into a prefix of a translator (RFC 6147): the well-known one,
/// in which private addresses stay private, and one of its own, which is the internet's unless a rule says otherwise.
fn translated_addresses(vm: &Vm) {
    let mut internet = Internet::with(vm, &["--without-names"]);
    // 93.184.216.34 and 10.1.2.3, at the end and with a prefix of 96 bits (RFC 6052).
    let (public, private, own) = ("64:ff9b::5db8:d822", "64:ff9b::a01:203", "2606:4700:64::5db8:d822");
    for address in [public, private, own] {
        ip(&format!("-n {}i addr add {address}/128 dev lo nodad", internet.name));
    }
    ip(&format!("-n {}h -4 addr flush dev v0", internet.name));
    ip(&format!("-n {}i addr add 2606:4700::53/128 dev lo nodad", internet.name));
    let at = |name: &str, address: &str| format!("--address=/{name}.example/{address}");
    let known = [at("public", public), at("private", private), at("own", own)];
    internet.name_server("i", "2606:4700::53", &known.each_ref().map(String::as_str));
    internet.set_resolv_conf("nameserver 2606:4700::53\n");
    let script = "for name in public own private; do wget -q -O - http://$name.example/ || echo no $name; done; \
                  wget -q -O - 'http://[64:ff9b::a01:203]/' || echo not by its address";
    let wanted = format!("hello from {public}\nhello from {own}\nno private\nnot by its address\n");
    internet.sh(vm, script).run().stdout_is(wanted);
    let denied = ["--deny", "2606:4700:64::/96"];
    let run = internet.msx_with(vm, "busybox", &denied, ["sh", "-c", script]).run();
    run.stdout_is(format!("hello from {public}\nno own\nno private\nnot by its address\n"));
}
