//! Rules about the network, published ports, limits and proxies, as Sandboxfiles and command lines have them.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::net::Bandwidth;
use msb::net::policy::{Name, Rule};
use msb::net::port::PortSpec;
use msb::net::proxy::ProxySource;

fuzz_target!(|text: &str| {
    match text.parse::<Rule>() {
        Ok(rule) => assert_eq!(rule.to_string().parse().as_ref(), Ok(&rule)),
        Err(error) => assert!(text.get(error.at).is_some()),
    }
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.as_str().parse().as_ref(), Ok(&name));
    }
    if let Ok(ports) = text.parse::<PortSpec>() {
        assert_eq!(ports.to_string().parse().as_ref(), Ok(&ports));
        assert_eq!(ports.pairs().count(), usize::from(ports.count));
    }
    if let Ok(bandwidth) = text.parse::<Bandwidth>() {
        assert_eq!(bandwidth.to_string().parse().as_ref(), Ok(&bandwidth));
    }
    if let Ok(proxy) = text.parse::<ProxySource>() {
        assert_eq!(proxy.to_string().parse::<ProxySource>().ok().as_ref(), Some(&proxy));
    }
});
