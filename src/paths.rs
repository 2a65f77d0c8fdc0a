//! Where msb keeps its files: the XDG base directories, or all of them under `MSB_HOME`.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

/// The folders of one user. None of them is created by [`Paths::from_env`]; see [`create_private`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Settings: `config.toml`.
    pub config: PathBuf,
    /// Images; safe to delete.
    pub cache: PathBuf,
    /// What must last: installed sandboxes, the guest kernel.
    pub data: PathBuf,
    /// Sockets and other things of this boot.
    pub runtime: PathBuf,
    /// Where launchers of installed sandboxes go; should be on `PATH`.
    pub launchers: PathBuf,
    /// The value of `MSB_HOME`, if that decided.
    pub home: Option<PathBuf>,
}

/// Neither `MSB_HOME` nor a home folder is known.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where to keep files: neither HOME nor MSB_HOME is set")]
pub struct NoHome;

impl Paths {
    /// Reads `MSB_HOME`, else the XDG variables and `HOME`.
    ///
    /// # Errors
    /// [`NoHome`] when none of them is set.
    pub fn from_env() -> Result<Self, NoHome> {
        if let Some(home) = std::env::var_os("MSB_HOME").filter(|home| !home.is_empty()) {
            let home = std::path::absolute(home).map_err(|_| NoHome)?;
            return Ok(Self::under(&home));
        }
        let dirs = ProjectDirs::from("", "", "msb").ok_or(NoHome)?;
        let user = directories::BaseDirs::new().ok_or(NoHome)?;
        Ok(Self {
            config: dirs.config_dir().to_owned(),
            cache: dirs.cache_dir().to_owned(),
            data: dirs.data_dir().to_owned(),
            runtime: dirs.runtime_dir().map_or_else(|| dirs.data_dir().join("run"), Path::to_owned),
            launchers: user
                .executable_dir()
                .map_or_else(|| user.home_dir().join(".local/bin"), Path::to_owned),
            home: None,
        })
    }

    /// All folders under one, as `MSB_HOME` has it.
    #[must_use]
    pub fn under(home: &Path) -> Self {
        Self {
            config: home.join("config"),
            cache: home.join("cache"),
            data: home.join("data"),
            runtime: home.join("run"),
            launchers: home.join("bin"),
            home: Some(home.to_owned()),
        }
    }

    /// Settings of all projects.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }
}

/// Creates `dir` and its missing parents, readable by the user alone.
///
/// # Errors
/// The system's answer, with the path in its text.
pub fn create_private(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot create folder {}: {error}", dir.display()))
    })
}

/// Whether the folder that this is about is the user's and nobody else's to look into or write to: [`create_private`] leaves one as it is
/// that is there already, and others may have made it where they can write, as below `/tmp`.
///
/// # Errors
/// It is not, and what to do.
pub fn check_private(folder: &Metadata) -> io::Result<()> {
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if folder.uid() != nix::unistd::geteuid().as_raw() {
        return refused(format!("the folder belongs to another user (uid {}): remove it", folder.uid()));
    }
    match folder.mode() & 0o777 {
        mode if mode & 0o077 != 0 => {
            refused(format!("others may use the folder (mode {mode:o}): run chmod 700 on it"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_folder_holds_everything_under_msb_home() {
        let paths = Paths::under(Path::new("/h"));
        for path in [&paths.config, &paths.cache, &paths.data, &paths.runtime, &paths.launchers] {
            assert!(path.starts_with("/h"));
        }
    }

    #[test]
    fn created_folders_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("a/b");
        create_private(&made).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        create_private(&made).unwrap();
        check_private(&made.metadata().unwrap()).unwrap();
        for mode in [0o701, 0o720, 0o755, 0o777] {
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = check_private(&made.metadata().unwrap()).unwrap_err();
            assert!(error.to_string().contains(&format!("{mode:o}")), "{error}");
        }
    }
}
