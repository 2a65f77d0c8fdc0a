//! The `msb` program; `msr`, `msx` and `msi` are links to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    msb::cli::main(std::env::args_os())
}
