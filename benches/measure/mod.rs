//! What all benchmarks do alike: medians, and a line per figure with its bar.

use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn report(what: &str, value: f64, unit: &str, bar: f64) {
    println!("{what:<58} {value:>9.2} {unit:<3}  bar {bar:>7.2}  ratio {:.2}", value / bar);
}

pub(crate) fn ms(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}

/// Wall clock in ms of a command that must succeed.
pub(crate) fn time(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.status().expect("the program starts");
    let length = ms(start.elapsed());
    assert!(status.success(), "{command:?} failed");
    length
}

/// A command line for `sh`, in the place of which it runs.
pub(crate) fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec env {line}")).stdin(std::process::Stdio::null());
    command
}
