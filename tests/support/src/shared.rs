//! What all tests of one run share: the binary, the images, one registry, and one image cache.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

use crate::images::Images;
use crate::registry::Registry;

/// The images that are pulled once for all tests.
const PULLED: [&str; 5] = ["busybox", "python", "clients", "tricky", "tricky:tree"];

/// Made by the first test that needs it; taken down by [`shut_down`].
pub(crate) struct Shared {
    images: Images,
    store: PathBuf,
    address: String,
    seed: PathBuf,
}

struct Owned {
    _registry: Registry,
    _seed: TempDir,
}

static SHARED: OnceLock<Shared> = OnceLock::new();
static OWNED: Mutex<Option<Owned>> = Mutex::new(None);

impl Shared {
    /// The shared things, made at the first call. That call must come from a thread that lives as long as the run (the main one), because
    /// the registry dies with the thread that started it.
    pub(crate) fn get() -> &'static Self {
        SHARED.get_or_init(|| {
            let images = Images::build();
            let registry = Registry::serve(&images.registry_store());
            let seed = tempfile::Builder::new().prefix("msb-seed-").tempdir().unwrap();
            let shared = Self {
                store: images.registry_store(),
                images,
                address: registry.address().to_owned(),
                seed: seed.path().to_path_buf(),
            };
            for name in PULLED {
                let reference = registry.image(name);
                let mut command = Command::new(binary());
                command.env("MSB_HOME", seed.path()).args(["pull", &reference]);
                let output = command.output().unwrap();
                assert!(
                    output.status.success(),
                    "msb pull {reference}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            *OWNED.lock().unwrap() = Some(Owned { _registry: registry, _seed: seed });
            shared
        })
    }

    /// The images on disk.
    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// The store that the shared registry serves.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// `127.0.0.1:PORT` of the shared registry.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The image cache with the pulled images.
    pub(crate) fn cache(&self) -> PathBuf {
        self.seed.join("cache")
    }
}

/// The `msb` under test: `MSB_TEST_BIN`, else what [`set_binary`] named.
#[must_use]
pub fn binary() -> &'static Path {
    BINARY.get().map(PathBuf::as_path).expect("set_binary was called")
}

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Says which `msb` to test; the environment variable `MSB_TEST_BIN` goes before.
pub fn set_binary(built: Option<&str>) {
    let path = std::env::var_os("MSB_TEST_BIN").map(PathBuf::from).or_else(|| built.map(PathBuf::from));
    let path = path.expect("MSB_TEST_BIN names the msb to test");
    let path = path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    BINARY.get_or_init(|| path);
}

/// Makes what the tests share. Call it on the main thread before any test that uses images or machines.
pub fn prepare() {
    Shared::get();
}

/// The project's root folder.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/support is two levels below the root")
}

/// Stops the registry and removes the shared cache. Call it when all tests have ended.
pub fn shut_down() {
    drop(OWNED.lock().unwrap().take());
}
