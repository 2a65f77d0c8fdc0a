//! Rules about the network and published ports, as Sandboxfiles and command lines have them.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::net::policy::{Name, Rule};
use msb::net::port::PortSpec;

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
});
