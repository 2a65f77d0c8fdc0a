//! Where the Sandboxfile is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::FILE_NAMES;
use super::error::Error;

/// The Sandboxfile of `folder` itself: `Sandboxfile`, else `Sandboxfile.yaml`.
///
/// # Errors
/// When the folder exists and cannot be looked into.
fn in_folder(folder: &Path) -> Result<Option<PathBuf>, Error> {
    for name in FILE_NAMES {
        let path = folder.join(name);
        match path.metadata() {
            Ok(meta) if !meta.is_dir() => return Ok(Some(path)),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    Ok(None)
}

/// The nearest Sandboxfile: that of `start`, or of the closest folder above it that has one.
///
/// # Errors
/// When a folder on the way cannot be looked into.
pub fn find(start: &Path) -> Result<Option<PathBuf>, Error> {
    let start =
        std::path::absolute(start).map_err(|source| Error::Read { path: start.to_owned(), source })?;
    for folder in start.ancestors() {
        match in_folder(folder) {
            Ok(None) => {}
            // A folder above that is closed to this user is none of the project's.
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {}
            found => return found,
        }
    }
    Ok(None)
}

/// The Sandboxfile a command works on: `file` (a Sandboxfile of any name, or the folder of one) if given, else
/// the nearest one from `cwd` upwards; `None` when there is none.
///
/// # Errors
/// [`Error::NotThere`] when `file` is given and leads to no Sandboxfile; [`Error::Read`].
pub fn locate(file: Option<&Path>, cwd: &Path) -> Result<Option<PathBuf>, Error> {
    let Some(file) = file else { return find(cwd) };
    let path = cwd.join(file);
    match path.metadata() {
        Ok(meta) if meta.is_dir() => match in_folder(&path)? {
            Some(found) => Ok(Some(found)),
            None => Err(Error::NotThere { path: file.to_owned() }),
        },
        Ok(_) => Ok(Some(path)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Error::NotThere { path: file.to_owned() })
        }
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// As [`locate`], for commands that need a Sandboxfile.
///
/// # Errors
/// As [`locate`], and [`Error::NotFound`] when there is none.
pub fn require(file: Option<&Path>, cwd: &Path) -> Result<PathBuf, Error> {
    locate(file, cwd)?.ok_or_else(|| Error::NotFound { start: cwd.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn searches_upwards_and_takes_files_and_folders() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        // A folder of that name is no Sandboxfile.
        fs::create_dir(deep.join("Sandboxfile")).unwrap();
        fs::write(top.path().join("a/Sandboxfile.yaml"), "sandboxes:\n").unwrap();
        fs::write(top.path().join("other.yml"), "sandboxes:\n").unwrap();

        assert_eq!(find(&deep).unwrap(), Some(top.path().join("a/Sandboxfile.yaml")));
        fs::write(top.path().join("a/Sandboxfile"), "sandboxes:\n").unwrap();
        assert_eq!(require(None, &deep).unwrap(), top.path().join("a/Sandboxfile"));
        assert_eq!(locate(Some(Path::new("..")), &deep).unwrap(), Some(deep.join("../Sandboxfile")));
        assert_eq!(
            locate(Some(Path::new("../../other.yml")), &deep).unwrap(),
            Some(deep.join("../../other.yml"))
        );
    }

    #[test]
    fn names_what_is_missing() {
        let top = tempfile::tempdir().unwrap();
        let missing = locate(Some(Path::new("nowhere")), top.path()).unwrap_err();
        assert_eq!(missing.to_string(), "there is no Sandboxfile at `nowhere`");
        let empty = locate(Some(Path::new(".")), top.path()).unwrap_err();
        assert_eq!(empty.to_string(), "there is no Sandboxfile at `.`");
        assert_eq!(empty.hint().unwrap(), "--file takes a Sandboxfile or the folder of one");
    }
}
