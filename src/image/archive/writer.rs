//! Writing image archives and layout folders.
//!
//! What goes to a path is made beside it under a name of its own, locked for as long as its maker lives, and renamed when
//! complete. What a killed process left is unlocked, and the next one that writes into that folder removes it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::image::error::Error;

/// Where an archive goes.
pub enum SaveTarget {
    /// A file, which is replaced at once when all of it is written; or for a layout a folder, which must not exist or
    /// be empty.
    Path(PathBuf),
    /// A stream, such as standard output.
    Stream(Box<dyn Write + Send>),
}

/// An archive or layout folder in the making. Without [`BundleWriter::finish`] nothing of it is left.
pub(in crate::image) struct BundleWriter {
    /// Where it will be, for messages.
    name: PathBuf,
    kind: Kind,
}

enum Kind {
    Folder(TempDir, File),
    File(tar::Builder<NamedTempFile>),
    Stream(tar::Builder<Box<dyn Write + Send>>),
}

impl BundleWriter {
    /// A layout folder at `path`.
    pub(in crate::image) fn folder(path: &Path) -> Result<Self, Error> {
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(Error::io("write", path, error)),
        };
        if !is_free {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty");
            return Err(Error::io("write", path, error));
        }
        let (folder, lock) = temporary(path, |builder, parent| {
            let folder = builder.tempdir_in(parent)?;
            let lock = File::open(folder.path())?;
            lock.lock()?;
            Ok((folder, lock))
        })?;
        Ok(Self { name: path.to_path_buf(), kind: Kind::Folder(folder, lock) })
    }

    /// A tar archive.
    pub(in crate::image) fn archive(target: SaveTarget) -> Result<Self, Error> {
        let (name, kind) = match target {
            SaveTarget::Stream(stream) => ("standard output".into(), Kind::Stream(builder(stream))),
            // A pipe or device is written to and not replaced.
            SaveTarget::Path(path) if path.exists() && !path.is_file() => {
                let file = File::options().write(true).open(&path).map_err(Error::at("open", &path))?;
                (path, Kind::Stream(builder(Box::new(file))))
            }
            SaveTarget::Path(path) => {
                let file = temporary(&path, |builder, parent| {
                    let file = builder.tempfile_in(parent)?;
                    file.as_file().lock()?;
                    Ok(file)
                })?;
                (path, Kind::File(builder(file)))
            }
        };
        Ok(Self { name, kind })
    }

    /// Adds the file `name` of `size` bytes; what `contents` gives beyond or short of these spoils the archive, so the
    /// caller checks.
    pub(in crate::image) fn add(
        &mut self,
        name: &str,
        size: u64,
        contents: &mut dyn Read,
    ) -> Result<(), Error> {
        let written = match &mut self.kind {
            Kind::Folder(folder, _) => add_file(&folder.path().join(name), contents),
            Kind::File(tar) => tar.append_data(&mut header(size), name, contents),
            Kind::Stream(tar) => tar.append_data(&mut header(size), name, contents),
        };
        written.map_err(Error::at("write", &self.name))
    }

    /// Makes it visible as a whole.
    pub(in crate::image) fn finish(self) -> Result<(), Error> {
        let failed = |error| Error::io("write", &self.name, error);
        match self.kind {
            Kind::Folder(folder, _lock) => {
                fs::rename(folder.path(), &self.name).map_err(failed)?;
                // It has moved, so there is nothing left to remove.
                let _ = folder.keep();
                Ok(())
            }
            Kind::File(tar) => {
                let file = tar.into_inner().map_err(failed)?;
                file.persist(&self.name).map(drop).map_err(|error| failed(error.error))
            }
            Kind::Stream(mut tar) => tar.finish().and_then(|()| tar.get_mut().flush()).map_err(failed),
        }
    }
}

fn builder<W: Write>(out: W) -> tar::Builder<W> {
    tar::Builder::new(out)
}

/// The same for every file, so that an image always gives the same archive.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

fn add_file(path: &Path, contents: &mut dyn Read) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    io::copy(contents, &mut File::create(path)?).map(drop)
}

/// How the names of unfinished archives and folders start.
const UNFINISHED: &str = ".msb-save-";

/// Makes and locks something beside `path` that becomes it later.
fn temporary<T>(
    path: &Path,
    make: impl FnOnce(&tempfile::Builder<'_, '_>, &Path) -> io::Result<T>,
) -> Result<T, Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Between making and locking, the new thing looks like a leftover.
    let folder = File::open(parent).map_err(Error::at("write", path))?;
    folder.lock().map_err(Error::at("lock", parent))?;
    sweep(parent);
    let mut builder = tempfile::Builder::new();
    make(builder.prefix(UNFINISHED), parent).map_err(Error::at("write", path))
}

/// Removes what killed processes left. Leftovers that cannot be removed do no harm here.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        let kind = entry.file_type();
        if !is_ours || !kind.as_ref().is_ok_and(|kind| kind.is_file() || kind.is_dir()) {
            continue;
        }
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = if kind.is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at(".msb-save-dead"), "half").unwrap();
        fs::create_dir_all(at(".msb-save-gone/blobs")).unwrap();
        fs::write(at("other"), "stays").unwrap();
        let open = BundleWriter::archive(SaveTarget::Path(at("a.tar"))).unwrap();
        let layout = BundleWriter::folder(&at("layout")).unwrap();
        let last = BundleWriter::archive(SaveTarget::Path(at("b.tar"))).unwrap();
        for writer in [open, layout, last] {
            writer.finish().unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.tar", "b.tar", "layout", "other"]);
    }
}
