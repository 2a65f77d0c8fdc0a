//! `Sandboxfile.lock`: the image that each name of a Sandboxfile stands for, so that everybody who has the project
//! runs the same one. What `Cargo.lock` is to `Cargo.toml`.
//!
//! TOML, one `[[image]]` per name and platform, sorted by both, so that changes made side by side merge by lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Error;
use super::save;
use crate::image::{Digest, Platform, Reference};

/// The version of the format.
const VERSION: u32 = 1;
const HEADER: &str = "# The images of Sandboxfile, by digest. Written by msb: keep it under version control, change it with `msb update`.";

/// The pinned images of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<(String, String), Digest>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    #[serde(default)]
    image: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    platform: String,
    digest: Digest,
}

/// The lock file of a Sandboxfile: beside it, and always of this name.
#[must_use]
pub fn lock_path(sandboxfile: &Path) -> PathBuf {
    sandboxfile.with_file_name("Sandboxfile.lock")
}

impl Pins {
    /// Reads a lock file; one that is not there pins nothing.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Lock`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        match save::read(path) {
            Ok(text) => Self::parse(&text, path),
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads `text`, the content of a lock file; `path` is named in errors and not opened.
    ///
    /// # Errors
    /// [`Error::Lock`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |message: String| Error::Lock { path: path.to_owned(), message };
        let text: Text = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if text.version != VERSION {
            return Err(wrong(format!("version {} is not known to this msb", text.version)));
        }
        let mut pins = Self::default();
        for Entry { name, platform, digest } in text.image {
            let reference: Reference = name.parse().map_err(|error| wrong(format!("{error}")))?;
            let platform: Platform = platform.parse().map_err(|error| wrong(format!("{error}")))?;
            if let Some(other) = pins.get(&reference, &platform)
                && *other != digest
            {
                return Err(wrong(format!("`{name}` is pinned twice for {platform}")));
            }
            pins.set(&reference, &platform, digest);
        }
        Ok(pins)
    }

    /// All digests in it.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.0.values()
    }

    /// The digest `reference` is pinned to.
    #[must_use]
    pub fn get(&self, reference: &Reference, platform: &Platform) -> Option<&Digest> {
        self.0.get(&(reference.to_string(), platform.to_string()))
    }

    /// Pins `reference`.
    pub fn set(&mut self, reference: &Reference, platform: &Platform, digest: Digest) {
        self.0.insert((reference.to_string(), platform.to_string()), digest);
    }

    /// Drops the pins of all names but these.
    pub fn retain(&mut self, references: &[Reference]) {
        let names: Vec<String> = references.iter().map(ToString::to_string).collect();
        self.0.retain(|(name, _), _| names.contains(name));
    }

    /// Changes a lock file in one step; nobody else writes it meanwhile. One that stays the same is not written.
    ///
    /// # Errors
    /// Those of [`Pins::load`], [`Error::Write`], [`Error::Busy`].
    pub fn change(path: &Path, change: impl FnOnce(&mut Self)) -> Result<(), Error> {
        let target = save::behind_links(path)?;
        let lock = save::Lock::beside(&target)?;
        let old = Self::load(&target)?;
        let mut new = old.clone();
        change(&mut new);
        if new == old { Ok(()) } else { save::replace(&lock, &target, new.to_toml().as_bytes()) }
    }

    fn to_toml(&self) -> String {
        let mut text = format!("{HEADER}\nversion = {VERSION}\n");
        for ((name, platform), digest) in &self.0 {
            // None of the three can hold a quote or a backslash.
            let _ = write!(
                text,
                "\n[[image]]\nname = \"{name}\"\nplatform = \"{platform}\"\ndigest = \"{digest}\"\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pins(names: &[&str]) -> Pins {
        let mut pins = Pins::default();
        for name in names {
            pins.set(&name.parse().unwrap(), &Platform::host(), Digest::sha256(name.as_bytes()));
        }
        pins
    }

    fn parse(text: &str) -> Result<Pins, String> {
        Pins::parse(text, Path::new("Sandboxfile.lock")).map_err(|error| error.to_string())
    }

    #[test]
    fn is_sorted_and_reads_back() {
        let one = pins(&["python:3.11", "alpine", "[::1]:5000/a/b:c"]);
        let text = one.to_toml();
        let names: Vec<&str> = text.lines().filter(|line| line.starts_with("name")).collect();
        assert!(names.is_sorted(), "{text}");
        assert!(text.contains("name = \"docker.io/library/alpine:latest\""), "{text}");
        assert_eq!(parse(&text).unwrap(), one);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let digest = Digest::sha256(b"x");
        let entry = |name: &str, digest: &str| {
            format!("[[image]]\nname = \"{name}\"\nplatform = \"linux/amd64\"\ndigest = \"{digest}\"\n")
        };
        for (text, word) in [
            (String::new(), "version"),
            ("version = 2".into(), "version 2"),
            ("version = 1\nx = 1".into(), "unknown field"),
            ("version = 1\n<<<<<<< ours".into(), ""),
            (format!("version = 1\n{}", entry("a b", &digest.to_string())), "a b"),
            (format!("version = 1\n{}", entry("a", "sha256:12")), "digest"),
            (
                format!(
                    "version = 1\n{}{}",
                    entry("a", &digest.to_string()),
                    entry("a", &Digest::sha256(b"y").to_string())
                ),
                "twice",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_change_writes_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = lock_path(&folder.path().join("Sandboxfile"));
        Pins::change(&path, |_| {}).unwrap();
        assert!(!path.exists());
        Pins::change(&path, |pins| *pins = self::pins(&["a", "b"])).unwrap();
        Pins::change(&path, |pins| pins.retain(&["b".parse().unwrap()])).unwrap();
        assert_eq!(Pins::load(&path).unwrap(), pins(&["b"]));
        std::fs::write(&path, "version").unwrap();
        Pins::change(&path, |_| {}).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "version");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse(&format!("version = 1\n{text}"));
        }
    }
}
