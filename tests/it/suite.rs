//! The list of tests of one run.
#![allow(clippy::print_stdout, reason = "the summary of the run is this program's output")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Trial};
use msb_test_support::{Hypervisor, TestEnv, Vm};

/// Tests that measure time or fill the machine run alone; all others hold this for reading.
static ALONE: RwLock<()> = RwLock::new(());

/// Collects the tests and runs those that were asked for.
pub(crate) struct Suite {
    arguments: Arguments,
    trials: Vec<Trial>,
    skipped: BTreeMap<String, usize>,
}

/// Registers functions of the calling module: `tests!(suite, vm: one, two)`.
macro_rules! tests {
    ($suite:ident, $kind:ident: $($name:ident),+ $(,)?) => {
        $($suite.$kind(concat!(module_path!(), "::", stringify!($name)), $name);)+
    };
}
pub(crate) use tests;

impl Suite {
    pub(crate) fn from_arguments() -> Self {
        let mut arguments = Arguments::from_args();
        if arguments.test_threads.is_none() {
            arguments.test_threads = Some(threads());
        }
        let mut suite = Self { arguments, trials: Vec::new(), skipped: BTreeMap::new() };
        for hypervisor in Hypervisor::ALL {
            suite.add_availability(hypervisor);
        }
        suite
    }

    /// A test of the command line alone: no images, no machine.
    pub(crate) fn cli(&mut self, name: &str, test: fn(&TestEnv)) {
        self.add(name.to_owned(), None, move || test(&TestEnv::new()));
    }

    /// A test with the shared registry and an empty image cache of its own, without a machine.
    pub(crate) fn registry(&mut self, name: &str, test: fn(&TestEnv)) {
        self.prepare(name);
        self.add(name.to_owned(), None, move || test(&TestEnv::new()));
    }

    /// The same, for a test that needs root on the host, such as one that mounts.
    pub(crate) fn registry_as_root(&mut self, name: &str, test: fn(&TestEnv)) {
        let reason = (!nix::unistd::geteuid().is_root()).then(|| "needs root on the host".to_owned());
        self.prepare(name);
        self.add(name.to_owned(), reason, move || test(&TestEnv::new()));
    }

    /// A test that starts machines from the shared images; becomes one trial per hypervisor.
    pub(crate) fn vm(&mut self, name: &str, test: fn(&Vm)) {
        self.per_hypervisor(name, move |hypervisor| {
            let _others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
            test(&Vm::new(hypervisor));
        });
    }

    /// The same, for a test that needs root on the host, such as one that makes networks.
    pub(crate) fn vm_as_root(&mut self, name: &str, test: fn(&Vm)) {
        for hypervisor in Hypervisor::ALL {
            let name = format!("{}::{}", short(name), hypervisor.name());
            let reason = (!nix::unistd::geteuid().is_root()).then(|| "needs root on the host".to_owned());
            let reason = reason.or_else(|| self.unless_selected(&name)).or_else(|| unavailable(hypervisor));
            self.add(name, reason, move || {
                let _others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
                test(&Vm::new(hypervisor));
            });
        }
    }

    /// A machine test that needs these programs on the host.
    pub(crate) fn vm_needing(&mut self, programs: &[&str], name: &str, test: fn(&Vm)) {
        let missing = programs.iter().find(|program| !is_installed(program));
        for hypervisor in Hypervisor::ALL {
            let name = format!("{}::{}", short(name), hypervisor.name());
            let reason = missing.map(|program| format!("needs {program} on the host"));
            let reason = reason.or_else(|| self.unless_selected(&name)).or_else(|| unavailable(hypervisor));
            self.add(name, reason, move || {
                let _others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
                test(&Vm::new(hypervisor));
            });
        }
    }

    /// The same with an empty image cache of its own.
    pub(crate) fn vm_without_images(&mut self, name: &str, test: fn(&Vm)) {
        self.per_hypervisor(name, move |hypervisor| {
            let _others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
            test(&Vm::without_images(hypervisor));
        });
    }

    /// A machine test that runs while no other one does.
    pub(crate) fn vm_alone(&mut self, name: &str, test: fn(&Vm)) {
        self.per_hypervisor(name, move |hypervisor| {
            let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
            test(&Vm::new(hypervisor));
        });
    }

    /// A machine test of libkrun with the kernel made for this machine's KVM; there is nothing to test where the normal one runs.
    pub(crate) fn vm_unsuited_kernel(&mut self, name: &str, test: fn(&Vm)) {
        let name = format!("{}::krun", short(name));
        let reason = self.unless_selected(&name).or_else(|| match Hypervisor::Krun.availability() {
            Err(reason) => Some(format!("krun: {reason}")),
            Ok(machine) if !machine.skip_probe => Some("this KVM runs the normal kernel".to_owned()),
            Ok(_) => None,
        });
        self.add(name, reason, move || test(&Vm::new(Hypervisor::Krun)));
    }

    /// Runs the tests and prints how many were skipped for which reason.
    pub(crate) fn run(self) -> ExitCode {
        let conclusion = libtest_mimic::run(&self.arguments, self.trials);
        for (reason, count) in &self.skipped {
            println!("skipped: {count} ({reason})");
        }
        msb_test_support::shut_down();
        conclusion.exit_code()
    }

    fn per_hypervisor(&mut self, name: &str, test: impl Fn(Hypervisor) + Send + Copy + 'static) {
        for hypervisor in Hypervisor::ALL {
            let name = format!("{}::{}", short(name), hypervisor.name());
            let reason = self.unless_selected(&name).or_else(|| unavailable(hypervisor));
            self.add(name, reason, move || test(hypervisor));
        }
    }

    fn add_availability(&mut self, hypervisor: Hypervisor) {
        let name = format!("hypervisor::{}", hypervisor.name());
        let reason = self.unless_selected(&name).or_else(|| unavailable(hypervisor));
        let reason = reason.filter(|_| !hypervisor.required());
        self.add(name, reason, move || {
            hypervisor.availability().unwrap_or_else(|reason| panic!("MSB_REQUIRE_VMM: {reason}"));
        });
    }

    fn add(&mut self, name: String, skipped_because: Option<String>, test: impl FnOnce() + Send + 'static) {
        let name = short(&name).to_owned();
        let selected = self.selected(&name);
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        self.trials.push(trial.with_ignored_flag(skipped_because.is_some()));
        if let Some(reason) = skipped_because.filter(|_| selected) {
            *self.skipped.entry(reason).or_default() += 1;
        }
    }

    /// Starts what tests share, on the main thread, when a test that needs it is going to run.
    fn prepare(&self, name: &str) {
        if self.selected(short(name)) {
            msb_test_support::prepare();
        }
    }

    /// For a test that is not going to run nothing is started to find out whether it could. The reason is never shown.
    fn unless_selected(&self, name: &str) -> Option<String> {
        if self.selected(name) {
            msb_test_support::prepare();
            return None;
        }
        (!self.arguments.list).then(String::new)
    }

    fn selected(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.arguments.exact { name == filter } else { name.contains(filter.as_str()) }
        };
        !self.arguments.list
            && self.arguments.filter.as_ref().is_none_or(matches)
            && !self.arguments.skip.iter().any(matches)
    }
}

/// Whether the system has this program.
fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

fn unavailable(hypervisor: Hypervisor) -> Option<String> {
    let reason = hypervisor.availability().err()?;
    Some(format!("{}: {reason}", hypervisor.name()))
}

/// `it::streams::cat` is `streams::cat`.
fn short(name: &str) -> &str {
    name.strip_prefix("it::").unwrap_or(name)
}

/// As many as there are cores, while each has 1.5 GiB of memory.
fn threads() -> usize {
    if let Some(wanted) = std::env::var("MSB_TEST_THREADS").ok().and_then(|text| text.parse().ok()) {
        return wanted;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib =
        available.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or(0);
    cores.min(kib / (1536 * 1024)).max(1)
}
