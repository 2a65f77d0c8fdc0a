//! Which image a sandbox of a project runs: the one its lock file names.

use std::path::Path;

use super::Error;
use crate::image::{self, Digest, Image, Progress, PullOptions, PullPolicy, Reference, Store};
use crate::manifest::{Pins, lock_path};

/// How far a command may go from the lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drift {
    /// A name that is not pinned yet is, to what it stands for now.
    #[default]
    Allow,
    /// Every name must be pinned.
    Locked,
    /// Every name must be pinned, and its image here: the network stays unused.
    Frozen,
}

/// A pin that was made, changed or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinChange {
    /// The name.
    pub reference: Reference,
    /// What it was pinned to.
    pub old: Option<Digest>,
    /// What it is pinned to now.
    pub new: Digest,
}

/// The images of one project.
pub struct ProjectImages<'a> {
    /// Where images are kept.
    pub store: &'a Store,
    /// The project's Sandboxfile; the lock file lies beside it.
    pub sandboxfile: &'a Path,
    /// How far to go from the lock file.
    pub drift: Drift,
    /// How to get what is missing.
    pub options: &'a PullOptions,
    /// Who hears of it.
    pub progress: &'a dyn Progress,
}

impl ProjectImages<'_> {
    /// The image to run for `name`: the pinned one, got where it is missing. A name that is not pinned yet is.
    ///
    /// # Errors
    /// [`Error::NotLocked`], and whatever getting it may fail with.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let reference = self.parse(name)?;
        let platform = &self.options.platform;
        let path = lock_path(self.sandboxfile);
        let pin = match reference.digest() {
            Some(digest) => Some(digest.clone()),
            None => Pins::load(&path)?.get(&reference, platform).cloned(),
        };
        match pin {
            Some(digest) => self.obtain(&reference.with_digest(digest)),
            None if self.drift == Drift::Allow => {
                let image = self.obtain(&reference)?;
                Pins::change(&path, |pins| pins.set(&reference, platform, image.digest.clone()))?;
                Ok(image)
            }
            None => Err(Error::NotLocked { image: reference.short(), path }),
        }
    }

    /// Pins every name that is not, and drops pins of other names. Gives the new pins.
    ///
    /// # Errors
    /// [`Error::NotLocked`] when the lock file would change and may not, and whatever asking registries fails with.
    pub fn lock<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<PinChange>, Error> {
        let path = lock_path(self.sandboxfile);
        let old = Pins::load(&path)?;
        let references = self.references(names)?;
        let mut changes = Vec::new();
        for reference in &references {
            if old.get(reference, &self.options.platform).is_some() {
                continue;
            }
            if self.drift != Drift::Allow {
                return Err(Error::NotLocked { image: reference.short(), path });
            }
            let new = match self.store.find(reference)? {
                Some(image) => image.digest,
                None => self.store.latest(reference, self.options, self.progress)?,
            };
            changes.push(PinChange { reference: reference.clone(), old: None, new });
        }
        let mut kept = old.clone();
        kept.retain(&references);
        if kept != old && self.drift != Drift::Allow {
            return Err(Error::StaleLock { path });
        }
        self.write(&path, &changes, Some(&references))?;
        Ok(changes)
    }

    /// What the names stand for now, where that is not what they are pinned to; pins it if `write`.
    ///
    /// # Errors
    /// Whatever asking registries fails with.
    pub fn update<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        write: bool,
    ) -> Result<Vec<PinChange>, Error> {
        let path = lock_path(self.sandboxfile);
        let pins = Pins::load(&path)?;
        let mut changes = Vec::new();
        for reference in self.references(names)? {
            let old = pins.get(&reference, &self.options.platform).cloned();
            let new = self.store.latest(&reference, self.options, self.progress)?;
            if old.as_ref() != Some(&new) {
                changes.push(PinChange { reference, old, new });
            }
        }
        if write {
            self.write(&path, &changes, None)?;
        }
        Ok(changes)
    }

    fn write(&self, path: &Path, changes: &[PinChange], all: Option<&[Reference]>) -> Result<(), Error> {
        Pins::change(path, |pins| {
            for change in changes {
                pins.set(&change.reference, &self.options.platform, change.new.clone());
            }
            if let Some(references) = all {
                pins.retain(references);
            }
        })?;
        Ok(())
    }

    fn obtain(&self, reference: &Reference) -> Result<Image, Error> {
        let policy = if self.drift == Drift::Frozen { PullPolicy::Never } else { PullPolicy::Missing };
        let options = PullOptions { policy, ..self.options.clone() };
        Ok(self.store.pull(reference, &options, self.progress)?)
    }

    /// The distinct names that a digest can be pinned for.
    fn references<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Reference>, Error> {
        let mut references = names.into_iter().map(|name| self.parse(name)).collect::<Result<Vec<_>, _>>()?;
        references.retain(|reference| reference.digest().is_none());
        references.sort();
        references.dedup();
        Ok(references)
    }

    fn parse(&self, name: &str) -> Result<Reference, Error> {
        let default = self.options.registries.default_registry().as_str();
        Ok(Reference::parse_in(name, default).map_err(image::Error::from)?)
    }
}
