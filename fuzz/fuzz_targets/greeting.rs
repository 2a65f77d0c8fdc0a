//! Replies of proxies, in pieces, and calls of other gateways.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::net::gateway::fuzzing::{greet_proxy, hear_member};
use msb::net::proxy::ProxyKind;

fuzz_target!(|bytes: &[u8]| {
    hear_member(bytes);
    if let [how, reply @ ..] = bytes {
        let kind = if how & 1 == 0 { ProxyKind::Socks5 } else { ProxyKind::Http };
        let _ = greet_proxy((kind, how & 2 != 0), reply, usize::from(how >> 2));
    }
});
