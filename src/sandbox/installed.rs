//! Sandboxes installed as commands: a definition in the data folder and a launcher on `PATH`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Definition, Error, Storage, state};
use crate::manifest::is_name;
use crate::paths::{self, Paths};

/// The line by which a launcher is known to be ours; the word is the one earlier tools wrote.
const MARKER: &str = "# MSB-ALIAS: ";
const DEFINITION: &str = "definition.json";

/// The installed sandboxes of a user.
#[derive(Debug, Clone)]
pub struct Installed {
    root: PathBuf,
    launchers: PathBuf,
    home: Option<PathBuf>,
}

/// Whether `name` can be a command and a folder.
fn check_name(name: &str) -> Result<(), Error> {
    if is_name(name) { Ok(()) } else { Err(Error::Name { name: name.to_owned() }) }
}

impl Installed {
    /// The installed sandboxes under `paths`.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self {
            root: paths.data.join("installed"),
            launchers: paths.launchers.clone(),
            home: paths.home.clone(),
        }
    }

    /// Where the sandbox keeps its disk.
    #[must_use]
    pub fn storage(&self, name: &str) -> Storage {
        Storage::Kept(self.root.join(name))
    }

    /// The file that starts it.
    #[must_use]
    pub fn launcher(&self, name: &str) -> PathBuf {
        self.launchers.join(name)
    }

    /// The folder of launchers.
    #[must_use]
    pub fn launcher_dir(&self) -> &Path {
        &self.launchers
    }

    /// Writes the definition and then the launcher, so that a launcher always has something to start.
    ///
    /// # Errors
    /// As [`Installed::check_free`]; [`Error::State`].
    pub fn add(&self, definition: &Definition, program: &Path) -> Result<PathBuf, Error> {
        let name = &definition.name;
        self.check_free(name)?;
        let dir = self.root.join(name);
        let text = serde_json::to_vec_pretty(definition).map_err(|error| failed(&dir)(error.into()))?;
        let launcher = self.launcher(name);
        paths::create_private(&dir).map_err(failed(&dir))?;
        fs::create_dir_all(&self.launchers).map_err(failed(&self.launchers))?;
        replace(&dir.join(DEFINITION), &text, 0o600)?;
        replace(&launcher, self.script(name, program).as_bytes(), 0o755)?;
        Ok(launcher)
    }

    /// Whether `name` is good and no command has it yet.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::NameTaken`].
    pub fn check_free(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        match find_on_path(name, &self.launchers) {
            Some(path) => Err(Error::NameTaken { name: name.to_owned(), path }),
            None => Ok(()),
        }
    }

    /// The definition of `name`.
    ///
    /// # Errors
    /// [`Error::UnknownInstalled`], or the file cannot be read.
    pub fn get(&self, name: &str) -> Result<Definition, Error> {
        check_name(name)?;
        let path = self.root.join(name).join(DEFINITION);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(&path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::UnknownInstalled { name: name.to_owned(), known: self.names()? })
            }
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// The names, sorted.
    ///
    /// # Errors
    /// The folder exists but cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.root)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.root.join(name).join(DEFINITION).exists())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Removes launcher, definition and disk.
    ///
    /// # Errors
    /// [`Error::UnknownInstalled`]; [`Error::InUse`] while it runs; [`Error::State`].
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.get(name)?;
        let dir = self.root.join(name);
        if let state::Status::Running(holder) = state::status(&dir)? {
            return Err(Error::InUse { name: name.to_owned(), holder });
        }
        let launcher = self.launcher(name);
        if is_ours(&launcher, name) {
            fs::remove_file(&launcher).map_err(failed(&launcher))?;
        }
        fs::remove_dir_all(&dir).map_err(failed(&dir))
    }

    fn script(&self, name: &str, program: &Path) -> String {
        let quote = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        // A launcher must find its sandbox again from any surroundings.
        let export =
            self.home.as_deref().map(|home| format!("export MSB_HOME={}\n", quote(home))).unwrap_or_default();
        format!(
            "#!/bin/sh\n{MARKER}{name}\n{export}exec {} run --installed {name} -- \"$@\"\n",
            quote(program)
        )
    }
}

fn is_ours(launcher: &Path, name: &str) -> bool {
    fs::read_to_string(launcher)
        .is_ok_and(|text| text.lines().any(|line| line.strip_prefix(MARKER) == Some(name)))
}

/// A file called `name` in `first` or on `PATH`.
fn find_on_path(name: &str, first: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(first.to_owned())
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.symlink_metadata().is_ok())
}

/// Puts `contents` in place of the file at `path` at once.
pub(super) fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let partial = path.with_file_name(format!(".{}.msb-tmp", std::process::id()));
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
        file.write_all(contents)?;
        fs::rename(&partial, path)
    };
    write().map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::State { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn installed() -> (tempfile::TempDir, Installed) {
        let dir = tempfile::tempdir().unwrap();
        let installed = Installed::new(&Paths::under(dir.path()));
        (dir, installed)
    }

    #[test]
    fn several_live_side_by_side_until_removed() {
        let (_dir, installed) = installed();
        for name in ["one-x", "two-x"] {
            installed.add(&Definition::new(name, "alpine"), Path::new("/opt/it's/msb")).unwrap();
        }
        assert_eq!(installed.names().unwrap(), ["one-x", "two-x"]);
        let launcher = fs::read_to_string(installed.launcher("one-x")).unwrap();
        assert!(launcher.contains(r"exec '/opt/it'\''s/msb' run --installed one-x -- "), "{launcher}");
        installed.remove("one-x").unwrap();
        assert_eq!(installed.names().unwrap(), ["two-x"]);
        assert!(!installed.launcher("one-x").exists());
        assert!(
            matches!(installed.remove("one-x"), Err(Error::UnknownInstalled { known, .. }) if known == ["two-x"])
        );
    }

    #[test]
    fn a_name_on_path_is_taken() {
        let (_dir, installed) = installed();
        let taken = installed.add(&Definition::new("sh", "alpine"), Path::new("/msb"));
        assert!(matches!(taken, Err(Error::NameTaken { .. })));
        installed.add(&Definition::new("mine-x", "alpine"), Path::new("/msb")).unwrap();
        assert!(matches!(
            installed.add(&Definition::new("mine-x", "alpine"), Path::new("/msb")),
            Err(Error::NameTaken { .. })
        ));
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let (_dir, installed) = installed();
        for name in ["", "..", "a/b", "-x", "a b", "a\nb", &"x".repeat(64)] {
            assert!(matches!(installed.get(name), Err(Error::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn a_foreign_file_in_place_of_the_launcher_is_left_alone() {
        let (_dir, installed) = installed();
        installed.add(&Definition::new("tool-x", "alpine"), Path::new("/msb")).unwrap();
        fs::write(installed.launcher("tool-x"), "mine").unwrap();
        installed.remove("tool-x").unwrap();
        assert!(installed.launcher("tool-x").exists());
    }
}
