//! Where a test runs: folders of its own, nothing of the user's.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::command::Msb;
use crate::hypervisor::{Availability, Hypervisor};
use crate::images::Images;
use crate::process::Process;
use crate::registry::{Door, Registry};
use crate::shared::{Shared, binary};

/// A home, a temporary folder, an empty working folder and a PATH on which `msb` and its other names are found. Removed at the end, with
/// every process started from it.
#[derive(Debug)]
pub struct TestEnv {
    root: TempDir,
    variables: Vec<(&'static str, OsString)>,
    limit: Duration,
}

/// A [`TestEnv`] in which machines can be started, under one hypervisor.
#[derive(Debug)]
pub struct Vm {
    env: TestEnv,
    /// The one under which this test runs.
    pub hypervisor: Hypervisor,
}

impl std::ops::Deref for Vm {
    type Target = TestEnv;
    fn deref(&self) -> &TestEnv {
        &self.env
    }
}

impl Vm {
    /// An environment with the shared images.
    ///
    /// # Panics
    /// When the hypervisor is not available.
    #[must_use]
    pub fn new(hypervisor: Hypervisor) -> Self {
        Self::in_env(TestEnv::with_images(), hypervisor)
    }

    /// An environment with an image cache of its own, empty.
    #[must_use]
    pub fn without_images(hypervisor: Hypervisor) -> Self {
        Self::in_env(TestEnv::new(), hypervisor)
    }

    fn in_env(mut env: TestEnv, hypervisor: Hypervisor) -> Self {
        let machine = hypervisor.availability().expect("the hypervisor is available");
        env.variables = vm_variables(hypervisor, machine);
        env.limit = hypervisor.limit();
        Self { env, hypervisor }
    }

    /// `msx IMAGE -- ARGS…` with an image of the shared registry.
    #[must_use]
    pub fn msx<I: IntoIterator<Item: AsRef<OsStr>>>(&self, image: &str, args: I) -> Msb {
        self.program("msx").arg(self.image(image)).arg("--").args(args)
    }

    /// `msx busybox -- sh -c SCRIPT`.
    #[must_use]
    pub fn sh(&self, script: &str) -> Msb {
        self.msx("busybox", ["sh", "-c", script])
    }

    /// Whether this is software emulation, on which heavy tests do less.
    #[must_use]
    pub fn emulated(&self) -> bool {
        self.hypervisor == Hypervisor::Qemu
    }
}

/// The variables that make `msb` use this hypervisor with this kernel.
pub(crate) fn vm_variables(hypervisor: Hypervisor, machine: &Availability) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![
        ("MSB_VMM", OsString::from(hypervisor.name())),
        ("MSB_KERNEL", machine.kernel.clone().into_os_string()),
    ];
    if machine.skip_probe {
        variables.push(("MSB_KVM_PROBE", OsString::from("skip")));
    }
    variables
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl TestEnv {
    /// An environment without images.
    #[must_use]
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("msb-test-").tempdir().unwrap();
        for folder in ["home", "msb", "tmp", "work", "bin"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        for name in ["msb", "msr", "msx", "msi"] {
            symlink(binary(), root.path().join("bin").join(name)).unwrap();
        }
        Self { root, variables: Vec::new(), limit: Duration::from_secs(60) }
    }

    /// An environment whose image cache is the one that all tests share, with the images pulled.
    #[must_use]
    pub fn with_images() -> Self {
        let env = Self::new();
        symlink(Shared::get().cache(), env.home().join("cache")).unwrap();
        env
    }

    /// `MSB_HOME`.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.root.path().join("msb")
    }

    /// `HOME`.
    #[must_use]
    pub fn user_home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// `TMPDIR`.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// The folder in which commands run unless told otherwise; empty at first.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// The first folder on the PATH.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    /// All folders of this environment but for the image cache.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file in the working folder.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Reads a file of the working folder.
    #[must_use]
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `msb ARGS…`
    #[must_use]
    pub fn msb<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Msb {
        self.program("msb").args(args)
    }

    /// Any program on the environment's PATH, such as `msx` or an installed sandbox.
    #[must_use]
    pub fn program(&self, name: impl AsRef<OsStr>) -> Msb {
        let path = self.path();
        // Looked up here, because Command searches the PATH of this process, not the one it sets.
        let found =
            std::env::split_paths(&path).map(|folder| folder.join(name.as_ref())).find(|path| path.is_file());
        let mut command = Command::new(found.unwrap_or_else(|| name.as_ref().into()));
        command.env_clear().current_dir(self.work());
        command
            .env("PATH", path)
            .env("HOME", self.user_home())
            .env("MSB_HOME", self.home())
            .env("TMPDIR", self.tmp());
        command.env("LANG", "C.UTF-8").env("TERM", "xterm-256color").env("RUST_BACKTRACE", "0");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Msb::new(command, self.limit)
    }

    /// The PATH commands get: ours, where `msi` puts its launchers, the system's.
    #[must_use]
    pub fn path(&self) -> OsString {
        let ours = [self.bin(), self.user_home().join(".local/bin"), self.home().join("bin")];
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        std::env::join_paths(ours.into_iter().chain(system)).unwrap()
    }

    /// The reference of an image in the shared registry: `busybox`, `python:3.11`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        let tag = if name.contains([':', '@']) { "" } else { ":latest" };
        format!("{}/{name}{tag}", Shared::get().address())
    }

    /// The images on disk.
    #[must_use]
    pub fn images(&self) -> &'static Images {
        Shared::get().images()
    }

    /// A registry of this test alone, with the shared one's images.
    #[must_use]
    pub fn own_registry(&self) -> Registry {
        Registry::serve(Shared::get().store())
    }

    /// A registry of this test alone, whose tags can be moved.
    #[must_use]
    pub fn movable_registry(&self) -> Registry {
        Registry::serve_copy(Shared::get().store(), &self.root.path().join("store"))
    }

    /// The same behind a door.
    #[must_use]
    pub fn guarded_registry(&self, door: Door) -> Registry {
        Registry::serve_behind(Shared::get().store(), door)
    }

    /// A registry of this test alone with nothing in it, to push to.
    #[must_use]
    pub fn empty_registry(&self) -> Registry {
        Registry::serve_empty(&self.root.path().join("pushed"))
    }

    /// A registry of this test alone, in which the image `repository:latest` has a changed byte.
    #[must_use]
    pub fn corrupted_registry(&self, repository: &str) -> Registry {
        Registry::serve_corrupted(Shared::get().store(), &self.root.path().join("store"), repository)
    }

    /// The processes that run for this environment now.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        Process::of_home(self.root.path())
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        for process in self.processes() {
            process.signal(Signal::SIGKILL);
        }
    }
}
