//! Paths of entries, made relative to the image's root.

use super::{Error, Limits};
use crate::image::erofs::MAX_NAME;
use msb_guest::archive::shown;

/// What an entry's last component says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// An ordinary name.
    Plain(&'a [u8]),
    /// `.wh.NAME`: the lower layers' NAME is hidden.
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: all that the lower layers have in this directory is hidden.
    Opaque,
    /// AUFS's own bookkeeping, no part of the image.
    Bookkeeping,
}

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The components of a path, without `.` and empty ones; `..` takes the one before it back and may not lead out of the
/// root. Empty for the root itself.
pub(super) fn components<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, Error> {
    let refuse = |problem| Error::Path { entry: shown(path), problem };
    let too_much = |what, limit: usize| Error::Limit { entry: shown(path), what, limit: limit as u64 };
    if path.is_empty() {
        return Err(refuse("it is empty"));
    }
    if path.contains(&0) {
        return Err(refuse("it contains a NUL byte"));
    }
    if path.len() > limits.path {
        return Err(too_much("bytes in a path", limits.path));
    }
    let mut components = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop().ok_or_else(|| refuse("it leads out of the image"))?;
            }
            _ if component.len() > MAX_NAME => return Err(too_much("bytes in a name", MAX_NAME)),
            _ => components.push(component),
        }
    }
    if components.len() > limits.depth {
        return Err(too_much("directories in a path", limits.depth));
    }
    Ok(components)
}

/// The directories on the way of a path, and what its last component says.
pub(super) type Split<'a> = (&'a [&'a [u8]], Name<'a>);

/// Splits the components of a path; `None` for the root.
pub(super) fn split<'a>(path: &[u8], components: &'a [&'a [u8]]) -> Result<Option<Split<'a>>, Error> {
    let refuse = |problem| Error::Path { entry: shown(path), problem };
    let Some((&last, parents)) = components.split_last() else { return Ok(None) };
    if parents.iter().any(|component| component.starts_with(META)) {
        return Ok(Some((parents, Name::Bookkeeping)));
    }
    if parents.iter().any(|component| component.starts_with(WHITEOUT)) {
        return Err(refuse("it lies below a whiteout"));
    }
    let name = match last {
        OPAQUE => Name::Opaque,
        _ if last.starts_with(META) => Name::Bookkeeping,
        _ => match last.strip_prefix(WHITEOUT) {
            None => Name::Plain(last),
            Some(b"" | b"." | b"..") => return Err(refuse("it is a whiteout of nothing")),
            Some(hidden) => Name::Whiteout(hidden),
        },
    };
    Ok(Some((parents, name)))
}
