//! What a guest's tools say.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::agent::{parse_change, parse_found, parse_metrics, parse_tool_error};

fuzz_target!(|line: &[u8]| {
    if let Ok(change) = parse_change(line) {
        assert!(change.path.as_bytes().starts_with(b"/"));
    }
    let _ = parse_found(line);
    if let Ok(metrics) = parse_metrics(line) {
        let plain = |p: &msb::agent::ProcessMetrics| !String::from_utf8_lossy(p.command.as_bytes()).contains(char::is_control);
        assert!(metrics.processes.iter().all(plain));
    }
    let _ = parse_tool_error(line);
});
