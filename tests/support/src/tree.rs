//! What is in a folder, to tell whether a command left something.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The names and sizes below some folders. Symlinks are not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeSet<(PathBuf, u64)>);

impl Tree {
    /// Looks at the folders now.
    #[must_use]
    pub fn of(folders: &[&Path]) -> Self {
        let mut entries = BTreeSet::new();
        for folder in folders {
            walk(folder, &mut entries);
        }
        Self(entries)
    }

    /// Without everything below `folder`.
    #[must_use]
    pub fn without(mut self, folder: &Path) -> Self {
        self.0.retain(|(path, _)| !path.starts_with(folder));
        self
    }

    /// What is here and was not in `before`, or has another size.
    #[must_use]
    pub fn new_since<'a>(&'a self, before: &'a Self) -> Vec<&'a Path> {
        self.0.difference(&before.0).map(|(path, _)| path.as_path()).collect()
    }

    /// What was in `before` and is gone.
    #[must_use]
    pub fn gone_since<'a>(&self, before: &'a Self) -> Vec<&'a Path> {
        let now: BTreeSet<&Path> = self.0.iter().map(|(path, _)| path.as_path()).collect();
        before.0.iter().map(|(path, _)| path.as_path()).filter(|path| !now.contains(path)).collect()
    }

    /// The files, with their sizes in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.0.iter().filter(|(path, _)| path.is_file()).map(|(path, size)| (path.as_path(), *size))
    }
}

fn walk(folder: &Path, entries: &mut BTreeSet<(PathBuf, u64)>) {
    // A folder may vanish while its parent is read.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(info) = fs::symlink_metadata(&path) else { continue };
        // A folder's own size depends on the names it ever held.
        entries.insert((path.clone(), if info.is_dir() { 0 } else { info.size() }));
        if info.is_dir() {
            walk(&path, entries);
        }
    }
}
