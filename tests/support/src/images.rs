//! The OCI images of `tests/images/`, made by real tools and cached outside the checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder `tests/images/build.sh` made; see the head of that script for what is in it.
#[derive(Debug, Clone)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// Makes the images, or finds them made. Instant when cached, else about 15 s.
    ///
    /// # Panics
    /// When they cannot be made; the script says why on stderr.
    #[must_use]
    pub fn build() -> Self {
        let script = crate::checkout().join("tests/images/build.sh");
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        assert!(output.status.success(), "{} failed: {}", script.display(), output.status);
        let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        assert!(folder.is_dir(), "{} printed {}, which is no folder", script.display(), folder.display());
        Self { folder }
    }

    /// The store of a docker-registry to which all images were pushed.
    #[must_use]
    pub fn registry_store(&self) -> PathBuf {
        self.folder.join("registry")
    }

    /// The image `busybox` as `docker-archive.tar`, `oci-archive.tar` or `layout`.
    #[must_use]
    pub fn archive(&self, name: &str) -> PathBuf {
        self.folder.join("archives").join(name)
    }

    /// What `umoci unpack` makes of the image `tricky:tree`, listed by [`Self::lister`].
    #[must_use]
    pub fn tricky_tree(&self) -> String {
        std::fs::read_to_string(self.folder.join("tricky.tree")).unwrap()
    }

    /// The images `corpus:NAME`: each name and what `umoci unpack` makes of it, listed by [`Self::lister`].
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn corpus(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(self.folder.join("corpus")).unwrap().map(|entry| entry.unwrap().path());
        let tree = |path: &Path| std::fs::read_to_string(path).unwrap();
        let mut trees: Vec<_> = files
            .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), tree(&path)))
            .collect();
        trees.sort();
        assert!(!trees.is_empty(), "no images in {}", self.folder.display());
        trees
    }

    /// The Python program that lists a tree on the host and in the guest alike.
    #[must_use]
    pub fn lister() -> Vec<u8> {
        std::fs::read(crate::checkout().join("tests/images/lstree.py")).unwrap()
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
