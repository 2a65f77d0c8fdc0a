//! The end-to-end tests: the real binary, a real registry, real images, real machines.
//!
//! Every test that starts a machine runs once per hypervisor, as `name::krun` and `name::qemu`. Where one cannot run, its tests are ignored and the
//! reason stands at the end of the output; `MSB_REQUIRE_VMM=krun,qemu` makes that a failure. `cargo test --test it -- FILTER` runs some of
//! them, `-- --list` names them, `MSB_TEST_THREADS` says how many run at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arguments;
mod background;
mod bad_input;
mod config;
mod crashes;
mod durability;
mod explain;
mod failures;
mod groups;
mod guest_files;
mod homes;
mod hosts;
mod image_store;
mod images;
mod installed;
mod lock_file;
mod machine_limits;
mod net_limits;
mod net_live;
mod net_record;
mod network;
mod ports;
mod project_keys;
mod project_verbs;
mod projects;
mod proxy;
mod registries;
mod sandboxfile;
mod secrets;
mod streams;
mod suite;
mod terminals;
mod throw_away;
mod tooling;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    msb_test_support::set_binary(option_env!("CARGO_BIN_EXE_msb"));
    let mut suite = suite::Suite::from_arguments();
    for register in [
        arguments::register,
        background::register,
        bad_input::register,
        config::register,
        crashes::register,
        durability::register,
        explain::register,
        failures::register,
        groups::register,
        guest_files::register,
        homes::register,
        hosts::register,
        image_store::register,
        images::register,
        installed::register,
        lock_file::register,
        machine_limits::register,
        ports::register,
        project_keys::register,
        project_verbs::register,
        net_limits::register,
        net_live::register,
        net_record::register,
        network::register,
        projects::register,
        proxy::register,
        registries::register,
        sandboxfile::register,
        secrets::register,
        streams::register,
        terminals::register,
        throw_away::register,
        tooling::register,
        volumes::register,
    ] {
        register(&mut suite);
    }
    suite.run()
}
