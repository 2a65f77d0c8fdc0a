//! Where a copy lands: the rules of `docker cp`, the same in both directions.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::CopyError;

/// A path as someone wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spelling<'a> {
    whole: &'a [u8],
    /// Without what is at its end only to say something about it.
    pub(super) path: &'a [u8],
    /// It ends with `/` or `/.`: it must be a folder, and a link to one is followed.
    pub(super) is_folder: bool,
    /// It ends with `/.`: not the folder, but what is in it.
    pub(super) contents: bool,
}

impl<'a> Spelling<'a> {
    pub(super) fn of(whole: &'a [u8]) -> Spelling<'a> {
        let contents = whole == b"." || whole.ends_with(b"/.");
        let path = if contents { &whole[..whole.len() - 1] } else { whole };
        let is_folder = contents || path.ends_with(b"/");
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let path = match (&path[..end], path.first()) {
            (b"", Some(b'/')) => &path[..1],
            (b"", _) => b".",
            (path, _) => path,
        };
        Spelling { whole, path, is_folder, contents }
    }

    pub(super) fn shown(&self) -> String {
        msb_guest::archive::shown(self.whole)
    }

    pub(super) fn as_path(&self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.path))
    }

    /// Its last name when `..` is taken by the letter; `None` for the root.
    pub(super) fn base(&self) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in self.path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        names.pop().map(<[u8]>::to_vec)
    }
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) is_folder: bool,
    /// Only what is in the folder.
    pub(super) contents: bool,
    /// Its name.
    pub(super) base: Vec<u8>,
    pub(super) spelled: String,
}

/// Where it is copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The path without links; its parent exists, or will be missed.
    pub(super) path: Vec<u8>,
    /// Whether what is there is a folder; `None` when nothing is.
    pub(super) is_folder: Option<bool>,
    pub(super) must_be_folder: bool,
    pub(super) spelled: String,
}

/// A folder, and the name of the copy in it; without a name, what is copied becomes the folder's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Landing {
    pub(super) folder: Vec<u8>,
    pub(super) name: Option<Vec<u8>>,
}

pub(super) fn land(source: &Source, target: &Target) -> Result<Landing, CopyError> {
    let spelled = || target.spelled.clone();
    match (target.is_folder, source.is_folder) {
        (Some(true), _) => {
            let name = (!source.contents).then(|| source.base.clone());
            return Ok(Landing { folder: target.path.clone(), name });
        }
        (Some(false), true) => {
            return Err(CopyError::FolderOverFile { from: source.spelled.clone(), to: spelled() });
        }
        (Some(false), false) if target.must_be_folder => {
            return Err(CopyError::NotAFolder { path: spelled() });
        }
        (None, false) if target.must_be_folder => return Err(CopyError::NotFound { path: spelled() }),
        (_, _) => {}
    }
    let slash = target.path.iter().rposition(|&byte| byte == b'/');
    let (folder, name) = match slash {
        Some(0) => (b"/".to_vec(), target.path[1..].to_vec()),
        Some(slash) => (target.path[..slash].to_vec(), target.path[slash + 1..].to_vec()),
        None => (Vec::new(), target.path.clone()),
    };
    Ok(Landing { folder, name: Some(name) })
}
