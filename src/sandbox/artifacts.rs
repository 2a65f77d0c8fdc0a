//! Files that a sandbox gets from the host and from other sandboxes of its project, and those it gives.
//!
//! Exports are copied to the host when the main process has ended well, into a folder beside the disk; imports are mounted from
//! there, to be read only. So nothing of one sandbox's machine is ever open to another's.

use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};

use super::{Error, copy};
use crate::agent::{ByteString, Connection};
use crate::manifest::{Volume, VolumeSource};

/// Something that a sandbox gets to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// What is mounted where, by an absolute path of the host.
    pub volume: Volume,
    /// Whose export it is, and its name there.
    pub export: Option<(String, String)>,
}

impl Import {
    /// What the sandbox that keeps its state in `folder` exports under a name, to be seen at `target`; `export` says whose and
    /// which it is.
    #[must_use]
    pub fn of_export(folder: &Path, export: (String, String), target: &str) -> Self {
        let source = VolumeSource::Host(export_path(folder, &export.1));
        Self { volume: Volume { source, target: target.to_owned(), read_only: true }, export: Some(export) }
    }

    /// Whether it is there, for the sandbox `name`.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        if let (Some((exporter, export)), VolumeSource::Host(path)) = (&self.export, &self.volume.source)
            && !path.exists()
        {
            let (exporter, export) = (exporter.clone(), export.clone());
            return Err(Error::NotExported { name: name.to_owned(), exporter, export });
        }
        Ok(())
    }
}

/// Where the sandbox that keeps its state in `folder` puts what it exports as `name`.
fn export_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("exports").join(name)
}

/// One thing to be exported by a run.
#[derive(Debug, Clone)]
pub(super) struct Export {
    name: String,
    /// In the guest.
    from: String,
    /// On the host.
    to: PathBuf,
}

impl Export {
    /// What a run exports that keeps its state in `folder`.
    pub(super) fn all(exports: &[(String, String)], folder: &Path) -> Vec<Self> {
        let one = |(name, from): &(String, String)| Self {
            name: name.clone(),
            from: from.clone(),
            to: export_path(folder, name),
        };
        exports.iter().map(one).collect()
    }

    /// Copies it to the host, where it takes the place of an earlier one as a whole.
    pub(super) async fn take(&self, guest: &Connection) -> Result<(), Error> {
        let state = |source| Error::State { path: self.to.clone(), source };
        let folder = self.to.parent().unwrap_or(Path::new("/"));
        crate::paths::create_private(folder).map_err(state)?;
        let fresh = folder.join(format!(".{}.new", self.name));
        remove(&fresh).map_err(state)?;
        let options = copy::CopyOptions { archive: false, follow: true };
        let from = ByteString::from(self.from.as_str());
        if let Err(source) = copy::to_host(guest, (&from, &fresh), options, &|_| {}).await {
            // Why it failed is what there is to say.
            let _ = remove(&fresh);
            return Err(Error::Export { export: self.name.clone(), path: self.from.clone(), source });
        }
        replace(&fresh, &self.to).map_err(state)
    }
}

/// Puts `fresh` in the place of `old`, which need not be there. Whoever has the old one mounted keeps it.
fn replace(fresh: &Path, old: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, fresh, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => remove(fresh),
        Err(nix::errno::Errno::ENOENT) => std::fs::rename(fresh, old),
        // A file system without exchanges.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            remove(old)?;
            std::fs::rename(fresh, old)
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_export_takes_the_place_of_any_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let (fresh, old) = (dir.path().join("fresh"), dir.path().join("old"));
        for round in 0..3 {
            // A file, then a folder, then a file again.
            if round == 1 {
                std::fs::create_dir(&fresh).unwrap();
                std::fs::write(fresh.join("in"), "1").unwrap();
            } else {
                std::fs::write(&fresh, round.to_string()).unwrap();
            }
            replace(&fresh, &old).unwrap();
            assert!(!fresh.exists());
            assert_eq!(old.is_dir(), round == 1);
        }
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "2");
    }

    #[test]
    fn what_was_not_exported_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let import = Import::of_export(dir.path(), ("train".into(), "model".into()), "/model");
        let error = import.check("web").unwrap_err();
        assert!(matches!(&error, Error::NotExported { exporter, .. } if exporter == "train"), "{error}");
        std::fs::create_dir_all(dir.path().join("exports/model")).unwrap();
        import.check("web").unwrap();
    }
}
