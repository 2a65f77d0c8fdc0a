//! The projects of a user, remembered when they are run, so that their images are known to be needed.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::image::{Digest, Use};
use crate::manifest::{Pins, lock_path};
use crate::paths::{self, Paths};

use super::installed::replace;
use super::{Database, Error, Installed, Kind, Record, read_stamp};

/// One file per project, named by the digest of its path and holding the path.
#[derive(Debug, Clone)]
pub struct Projects {
    folder: PathBuf,
}

impl Projects {
    /// The projects known under `paths`.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self { folder: paths.data.join("projects") }
    }

    /// Remembers the project of `sandboxfile`. One that is known already costs a look at one file.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record(&self, sandboxfile: &Path) -> Result<(), Error> {
        let project = sandboxfile.parent().unwrap_or(Path::new("/"));
        let record = self.record_of(project);
        if record.exists() {
            return Ok(());
        }
        let failed = |source| Error::State { path: self.folder.clone(), source };
        paths::create_private(&self.folder).map_err(failed)?;
        replace(&record, project.as_os_str().as_bytes(), 0o600)
    }

    /// The folders of all known projects that still exist; the others are forgotten.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn all(&self) -> Result<Vec<PathBuf>, Error> {
        let failed = |source| Error::State { path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut projects = Vec::new();
        for entry in entries {
            let record = entry.map_err(failed)?.path();
            let Ok(bytes) = fs::read(&record) else { continue };
            let project = PathBuf::from(std::ffi::OsString::from_vec(bytes));
            // What is being written by another process has another name and is left alone.
            if record != self.record_of(&project) {
                continue;
            }
            match fs::metadata(&project) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => drop(fs::remove_file(&record)),
                _ => projects.push(project),
            }
        }
        projects.sort();
        Ok(projects)
    }

    fn record_of(&self, project: &Path) -> PathBuf {
        self.folder.join(Digest::sha256(project.as_os_str().as_bytes()).hex())
    }
}

/// The images that installed and named sandboxes need, and known projects by their lock file or for their disks.
///
/// # Errors
/// What is installed, or the list of projects, cannot be read. A single sandbox that cannot be read needs no image.
pub fn image_uses(paths: &Paths) -> Result<Vec<Use>, Error> {
    let mut uses = Vec::new();
    let installed = Installed::new(paths);
    for name in installed.names()? {
        let by = format!("the installed sandbox `{name}`");
        let pinned = installed.get(&name).ok().and_then(|definition| definition.image.parse().ok());
        let pinned = pinned.and_then(|image: crate::image::Reference| image.digest().cloned());
        let super::Storage::Kept(dir) = installed.storage(&name) else { continue };
        uses.extend(
            [pinned, stamped(&dir)].into_iter().flatten().map(|digest| Use { digest, by: by.clone() }),
        );
    }
    for record in named_sandboxes(paths)? {
        let by = format!("the sandbox `{}`", record.name);
        let pinned = record.definition.image.parse().ok();
        let pinned = pinned.and_then(|image: crate::image::Reference| image.digest().cloned());
        let needed = [pinned, stamped(&record.folder)].into_iter().flatten();
        uses.extend(needed.map(|digest| Use { digest, by: by.clone() }));
    }
    for project in Projects::new(paths).all()? {
        let lock = lock_path(&project.join("Sandboxfile"));
        for digest in Pins::load(&lock).iter().flat_map(Pins::digests) {
            uses.push(Use { digest: digest.clone(), by: lock.display().to_string() });
        }
        let Ok(sandboxes) = fs::read_dir(project.join("menv")) else { continue };
        for sandbox in sandboxes.flatten() {
            let name = sandbox.file_name().display().to_string();
            let by = format!("the sandbox `{name}` of {}", project.display());
            uses.extend(stamped(&sandbox.path()).map(|digest| Use { digest, by }));
        }
    }
    uses.dedup();
    Ok(uses)
}

/// Those that `msb create` made. No database is made to find that there are none.
pub(super) fn named_sandboxes(paths: &Paths) -> Result<Vec<Record>, Error> {
    if !Database::path(paths).exists() {
        return Ok(Vec::new());
    }
    let mut records = Database::open(paths)?.all()?;
    records.retain(|record| record.kind == Kind::Named);
    Ok(records)
}

/// The image the disk in `dir` was made for.
fn stamped(dir: &Path) -> Option<Digest> {
    read_stamp(dir).ok().flatten()?.digest.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Definition, KeptDisk, Stamp};
    use super::*;
    use crate::image::Platform;

    #[test]
    fn disks_of_known_projects_and_installed_sandboxes_need_their_images() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(&root.path().join("home"));
        assert!(image_uses(&paths).unwrap().is_empty());
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let sandboxfile = root.path().join("pro ject/Sandboxfile");
        let menv = root.path().join("pro ject/menv/app");
        let kept = KeptDisk::lock("app", &menv, None).unwrap();
        kept.set_stamp(&Stamp { image: "a".into(), digest: digest("a").to_string() }).unwrap();
        let pin = |pins: &mut Pins| pins.set(&"c".parse().unwrap(), &Platform::host(), digest("c"));
        Pins::change(&lock_path(&sandboxfile), pin).unwrap();
        let projects = Projects::new(&paths);
        for _ in 0..2 {
            projects.record(&sandboxfile).unwrap();
        }
        let mut definition = Definition::new("tool-x", format!("b@{}", digest("b")));
        Installed::new(&paths).add(&definition, Path::new("/msb")).unwrap();
        definition.name = "tool-y".into();
        definition.image = "unpinned".into();
        Installed::new(&paths).add(&definition, Path::new("/msb")).unwrap();
        let place = root.path().join("pro ject");
        let expected = [
            Use { digest: digest("b"), by: "the installed sandbox `tool-x`".into() },
            Use { digest: digest("c"), by: format!("{}/Sandboxfile.lock", place.display()) },
            Use { digest: digest("a"), by: format!("the sandbox `app` of {}", place.display()) },
        ];
        assert_eq!(image_uses(&paths).unwrap(), expected);
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(image_uses(&paths).unwrap(), expected[..1]);
        assert_eq!(fs::read_dir(paths.data.join("projects")).unwrap().count(), 0);
    }
}
