//! What every command starts from: paths, `config.toml`, the terminal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::image::{
    self, Host, HostSettings, KeepBlobs, LoadOptions, PullOptions, Reference, Registries, Store,
};
use crate::manifest::Size;
use crate::paths::Paths;
use crate::sandbox::LogLimits;
use crate::ui::Ui;
use crate::vm::VmmChoice;

use super::args::MachineArgs;
use super::failure::Failure;

/// `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    /// The hypervisor: `auto`, `krun` or `qemu`.
    vmm: Option<String>,
    /// The guest kernel.
    kernel: Option<PathBuf>,
    /// Where image names without a registry come from.
    default_registry: Option<Host>,
    /// How each registry is reached.
    #[serde(default)]
    registry: BTreeMap<Host, HostSettings>,
    #[serde(default)]
    images: ImagesConfig,
    #[serde(default)]
    logs: LogsConfig,
    #[serde(default)]
    secrets: SecretsConfig,
}

/// What is said about the hosts of secrets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SecretsConfig {
    /// A PEM file with authorities that may vouch for them besides this machine's.
    ca: Option<PathBuf>,
}

/// What is said about the logs of sandboxes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LogsConfig {
    /// Bytes after which a new file is begun.
    max_size: Option<Size>,
    /// Files kept, the one being written included.
    files: Option<u32>,
}

/// What is said about images.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ImagesConfig {
    /// Which images keep their blobs, so that they can be saved and pushed without their registry.
    #[serde(default)]
    keep_blobs: KeepBlobs,
    /// Most bytes an image may unpack to.
    max_size: Option<Size>,
}

/// The surroundings of a command.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) paths: Paths,
    pub(super) ui: Ui,
    config: Config,
    registries: Arc<Registries>,
}

impl Context {
    pub(super) fn load(ui: Ui) -> Result<Self, Failure> {
        let paths = Paths::from_env()?;
        let file = paths.config_file();
        let mut config: Config = match std::fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Failure::new(format!("{} is not valid: {error}", file.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Config::default(),
            Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", file.display()))),
        };
        let folder = file.parent().unwrap_or(Path::new("/"));
        let hosts = std::mem::take(&mut config.registry);
        let registries = Registries::new(config.default_registry.take(), hosts, folder);
        Ok(Self { paths, ui, config, registries: Arc::new(registries) })
    }

    /// An image reference as a user types it.
    pub(super) fn reference(&self, name: &str) -> Result<Reference, Failure> {
        let default = self.registries.default_registry().as_str();
        Ok(Reference::parse_in(name, default).map_err(image::Error::from)?)
    }

    /// A reference as [`Context::reference`] reads it.
    pub(super) fn show(&self, reference: &Reference) -> String {
        reference.short_in(self.registries.default_registry().as_str())
    }

    /// Who may vouch for the hosts of secrets besides this machine's authorities; a relative path starts beside `config.toml`.
    pub(super) fn authorities(&self) -> Option<PathBuf> {
        let file = self.paths.config_file();
        self.config.secrets.ca.as_ref().map(|ca| file.with_file_name(ca))
    }

    /// What `config.toml` says about registries.
    pub(super) fn registries(&self) -> &Arc<Registries> {
        &self.registries
    }

    /// [`Context::show`] for several.
    pub(super) fn show_all(&self, references: &[Reference]) -> Vec<String> {
        references.iter().map(|reference| self.show(reference)).collect()
    }

    /// Which image in the store a user means.
    pub(super) fn selector(&self, text: &str) -> image::Selector {
        image::Selector::new(text, self.registries.default_registry().as_str())
    }

    /// How to pull, as `config.toml` wants it.
    pub(super) fn pull_options(&self) -> PullOptions {
        let default = PullOptions::default();
        PullOptions {
            registries: self.registries.clone(),
            keep_blobs: self.config.images.keep_blobs == KeepBlobs::Always,
            max_size: self.config.images.max_size.map_or(default.max_size, Size::bytes),
            ..default
        }
    }

    /// How to load, as `config.toml` wants it.
    pub(super) fn load_options(&self, name: Option<Reference>) -> LoadOptions {
        let keep_blobs = self.config.images.keep_blobs != KeepBlobs::Never;
        LoadOptions { name, keep_blobs, max_size: self.pull_options().max_size, ..LoadOptions::default() }
    }

    /// How much of a sandbox's log is kept.
    pub(super) fn log_limits(&self) -> LogLimits {
        let default = LogLimits::default();
        let LogsConfig { max_size, files } = &self.config.logs;
        LogLimits { size: max_size.map_or(default.size, Size::bytes), files: files.unwrap_or(default.files) }
    }

    pub(super) fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.paths.cache)?)
    }

    /// The hypervisor to use: flag or `MSB_VMM`, then `config.toml`, then automatic.
    pub(super) fn vmm(&self, args: &MachineArgs) -> Result<VmmChoice, Failure> {
        match (args.vmm, &self.config.vmm) {
            (Some(arg), _) => Ok(arg.into()),
            (None, Some(name)) => name.parse().map_err(|error| {
                Failure::new(format!("{}: {error}", self.paths.config_file().display()))
                    .hint(format!("vmm is one of {}", VmmChoice::NAMES.join(", ")))
            }),
            (None, None) => Ok(VmmChoice::Auto),
        }
    }

    /// The kernel that `config.toml` names.
    pub(super) fn configured_kernel(&self) -> Option<&PathBuf> {
        self.config.kernel.as_ref()
    }

    /// Which images installed sandboxes and projects need.
    pub(super) fn image_uses(&self) -> Result<Vec<image::Use>, Failure> {
        Ok(crate::sandbox::image_uses(&self.paths)?)
    }

    pub(super) fn installed(&self) -> crate::sandbox::Installed {
        crate::sandbox::Installed::new(&self.paths)
    }
}
