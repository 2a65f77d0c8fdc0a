//! Names in the store: `refs/<registry>/<repository>/:<tag>` and `…/@<digest>` hold the manifest's digest.
//!
//! A repository component never starts with `:` or `@`, so no name hides another, and every name is one open and
//! one small read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::reference::Reference;

/// What a name stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Target {
    /// The image manifest, never an index.
    pub(super) manifest: Digest,
    /// Seconds since 1970 when the name was last pulled or loaded.
    #[serde(default)]
    pub(super) pulled: u64,
    /// Where it was pulled from; none for what was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
    /// The index the image was chosen from, which is kept as a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<Digest>,
}

impl Target {
    pub(super) fn now(manifest: Digest) -> Self {
        let pulled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { manifest, pulled: pulled.as_secs(), origin: None, index: None }
    }

    /// The same, pulled by this name.
    pub(super) fn from(self, origin: &Reference) -> Self {
        Self { origin: Some(origin.to_string()), ..self }
    }

    /// An image that is known by its digest alone.
    pub(super) fn unnamed(manifest: Digest) -> Self {
        Self { manifest, pulled: 0, origin: None, index: None }
    }

    pub(super) fn read(path: &Path) -> std::io::Result<Option<Self>> {
        match fs::read(path) {
            // Unreadable contents are what a power cut leaves; the name then counts as unknown and is pulled again.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // `refs/a` is a folder where the name wants a file in it, or the other way round.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn pulled_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.pulled)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Where the name is kept below `refs`. A digest decides over a tag beside it, so it names the file.
pub(super) fn path(refs: &Path, reference: &Reference) -> PathBuf {
    let file = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or(super::reference::DEFAULT_TAG)),
    };
    refs.join(reference.registry()).join(reference.repository()).join(file)
}

/// Every name in the store, unsorted.
pub(super) fn all(refs: &Path) -> impl Iterator<Item = walkdir::Result<(Reference, PathBuf)>> {
    let root = refs.to_path_buf();
    walkdir::WalkDir::new(refs).min_depth(3).into_iter().filter_map(move |entry| match entry {
        Ok(entry) if entry.file_type().is_file() => {
            let relative = entry.path().strip_prefix(&root).ok()?.to_str()?;
            let (name, suffix) = relative.rsplit_once('/')?;
            let reference = format!("{name}{suffix}").parse().ok()?;
            Some(Ok((reference, entry.into_path())))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"x");
        let pinned = format!("r.io/a@{digest}");
        let names = ["a", "a:b", "a/b/c:d", "localhost:5000/a", "[::1]:5000/a", &pinned];
        for name in names {
            let path = path(folder.path(), &name.parse().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, serde_json::to_vec(&Target::now(digest.clone())).unwrap()).unwrap();
            assert_eq!(Target::read(&path).unwrap().unwrap().manifest, digest);
        }
        let mut found: Vec<Reference> = all(folder.path()).map(|entry| entry.unwrap().0).collect();
        let mut expected: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let empty = folder.path().join("empty");
        fs::write(&empty, "").unwrap();
        assert!(Target::read(&empty).unwrap().is_none());
        assert!(Target::read(&empty.join("x")).unwrap().is_none());
        assert!(Target::read(&folder.path().join("none")).unwrap().is_none());
    }
}
