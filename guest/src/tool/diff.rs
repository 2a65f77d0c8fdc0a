//! What the writable disk changes of the image, seen in the two layers themselves.
//!
//! The upper layer says it in overlayfs's own terms (<https://docs.kernel.org/filesystems/overlayfs.html>): a character device
//! 0/0 hides a name, `trusted.overlay.opaque` a folder's content, `trusted.overlay.redirect` tells under which name a
//! renamed folder is found in the layer below. Neither layer has a path in the guest, so PID 1 hands both over as
//! descriptors. Memory is bounded by the depth of the tree.

use super::{at, other, say, stream};
use crate::message::{ByteString, Change, ChangeKind, ToolError};
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest target of a redirect.
const REDIRECT_LIMIT: usize = 4096;

type Outcome<T> = Result<T, Errno>;

/// A folder as the guest sees it, and where it comes from.
struct Folder {
    path: Vec<u8>,
    /// In the writable layer; absent in what was moved as a whole.
    upper: Option<OwnedFd>,
    /// In the image, below the upper one, maybe under another name.
    lower: Option<OwnedFd>,
    /// In the image, under this very name.
    image: Option<OwnedFd>,
    /// Names still to be looked at, of each layer in turn.
    names: Names,
}

/// The layers in the order in which a folder's names are looked at.
enum Names {
    Upper(OwningIter),
    Lower(OwningIter),
    Image(OwningIter),
    Done,
}

/// A name, and the layer in which it was found.
enum Name {
    Upper(CString),
    Lower(CString),
    Image(CString),
}

/// Runs the tool; the arguments are the numbers of the descriptors of the two layers.
pub(super) fn run(layers: &[&[u8]]) -> Result<(), ToolError> {
    let [upper, lower] = layers else { return Err(other("the layers of the root are not at hand")) };
    let (upper, lower) = (inherited(upper)?, inherited(lower)?);
    let fail = |errno: Errno| at(Path::new("/"))(errno.into());
    let mut walk = Walk { root: lower.as_fd(), out: BufWriter::new(stream(&io::stdout())?) };
    let [upper, below, image] =
        [open(&upper, c"."), open(&lower, c"."), open(&lower, c".")].map(|layer| layer.map_err(fail));
    let root = Folder { path: Vec::new(), upper: upper?, lower: below?, image: image?, names: Names::Done };
    let mut folders = vec![root.started().map_err(fail)?];
    while let Some(folder) = folders.last_mut() {
        let at = |path: &[u8]| {
            let path = [b"/", path].concat();
            move |errno: Errno| at(Path::new(OsStr::from_bytes(&path)))(errno.into())
        };
        let Some(name) = folder.next().map_err(at(&folder.path))? else {
            folders.pop();
            continue;
        };
        let next = walk.look(folder, &name).map_err(at(&folder.path))?;
        folders.extend(next);
    }
    walk.out.flush().map_err(|e| other(e.to_string()))
}

fn inherited(number: &[u8]) -> Result<OwnedFd, ToolError> {
    let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<RawFd>().ok());
    let number = number.filter(|fd| *fd > 2).ok_or_else(|| other("the layer is no descriptor"))?;
    // SAFETY: the descriptor is only borrowed for this call, which fails when it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fd.try_clone_to_owned().map_err(|_| other("the layer is no descriptor"))
}

struct Walk<'a> {
    /// The root of the image.
    root: BorrowedFd<'a>,
    out: BufWriter<std::fs::File>,
}

impl Walk<'_> {
    fn look(&mut self, folder: &Folder, name: &Name) -> Outcome<Option<Folder>> {
        match name {
            Name::Upper(name) => self.look_upper(folder, name),
            Name::Lower(name) => self.look_moved(folder, name),
            Name::Image(name) => {
                let there = [&folder.upper, &folder.lower].into_iter().flatten();
                for layer in there {
                    if stat(layer, name)?.is_some() {
                        return Ok(None);
                    }
                }
                self.say(ChangeKind::Deleted, &folder.child(name)).map(|()| None)
            }
        }
    }

    /// A name of the upper layer.
    fn look_upper(&mut self, folder: &Folder, name: &CStr) -> Outcome<Option<Folder>> {
        let Some(upper) = &folder.upper else { return Ok(None) };
        let Some(now) = stat(upper, name)? else { return Ok(None) };
        let path = folder.child(name);
        let before = folder.image.as_ref().map_or(Ok(None), |image| stat(image, name))?;
        if is_whiteout(&now) {
            if before.is_some() {
                self.say(ChangeKind::Deleted, &path)?;
            }
            return Ok(None);
        }
        match &before {
            None => self.say(ChangeKind::Added, &path)?,
            Some(before) if is_folder(&now) && same_folder(&now, before) => {}
            Some(_) => self.say(ChangeKind::Changed, &path)?,
        }
        if !is_folder(&now) {
            return Ok(None);
        }
        let Some(inner) = open(upper, name)? else { return Ok(None) };
        let image = folder.image.as_ref().map_or(Ok(None), |image| open(image, name))?;
        let lower = if attribute(&inner, c"trusted.overlay.opaque")?.is_some() {
            None
        } else if let Some(target) = attribute(&inner, c"trusted.overlay.redirect")? {
            self.redirected(folder, &target)?
        } else {
            folder.lower.as_ref().map_or(Ok(None), |lower| open(lower, name))?
        };
        Folder { path, upper: Some(inner), lower, image, names: Names::Done }.started().map(Some)
    }

    /// A name of the image that is seen in a folder which was moved or whose parent was: nothing here is where it was.
    fn look_moved(&mut self, folder: &Folder, name: &CStr) -> Outcome<Option<Folder>> {
        if let Some(upper) = &folder.upper
            && stat(upper, name)?.is_some()
        {
            return Ok(None);
        }
        let Some(lower) = &folder.lower else { return Ok(None) };
        let Some(now) = stat(lower, name)? else { return Ok(None) };
        let path = folder.child(name);
        let before = folder.image.as_ref().map_or(Ok(None), |image| stat(image, name))?;
        self.say(if before.is_some() { ChangeKind::Changed } else { ChangeKind::Added }, &path)?;
        if !is_folder(&now) {
            return Ok(None);
        }
        let image = folder.image.as_ref().map_or(Ok(None), |image| open(image, name))?;
        Folder { path, upper: None, lower: open(lower, name)?, image, names: Names::Done }.started().map(Some)
    }

    /// The folder of the image that a redirect names: from the root, or a sibling of where it is now.
    fn redirected(&self, folder: &Folder, target: &[u8]) -> Outcome<Option<OwnedFd>> {
        let (start, path) = match target.strip_prefix(b"/") {
            Some(path) => (Some(self.root), path),
            None => (folder.lower.as_ref().map(AsFd::as_fd), target),
        };
        let Some(mut at) = start.map(|fd| fd.try_clone_to_owned()).transpose().map_err(|_| Errno::EMFILE)?
        else {
            return Ok(None);
        };
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
            match open(&at, &name)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn say(&mut self, kind: ChangeKind, path: &[u8]) -> Outcome<()> {
        let path = ByteString([b"/", path].concat());
        say(&mut self.out, &Change { kind, path })
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
    }
}

impl Folder {
    /// Begins with the names of the first layer.
    fn started(mut self) -> Outcome<Folder> {
        self.names = match (&self.upper, &self.lower) {
            (Some(upper), _) => Names::Upper(entries(upper)?),
            (None, Some(lower)) => Names::Lower(entries(lower)?),
            (None, None) => Names::Done,
        };
        Ok(self)
    }

    /// Whether what is joined with the upper layer is what the image has under this name.
    fn in_place(&self) -> Outcome<bool> {
        match (&self.lower, &self.image) {
            (Some(lower), Some(image)) => {
                let (a, b) = (stat(lower, c".")?, stat(image, c".")?);
                Ok(a.zip(b).is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)))
            }
            (None, None) => Ok(true),
            _ => Ok(false),
        }
    }

    fn child(&self, name: &CStr) -> Vec<u8> {
        let slash: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        [&self.path, slash, name.to_bytes()].concat()
    }

    /// The next name of the layers, one after the other.
    fn next(&mut self) -> Outcome<Option<Name>> {
        loop {
            let (entry, make): (_, fn(CString) -> Name) = match &mut self.names {
                Names::Upper(entries) => (entries.next(), Name::Upper),
                Names::Lower(entries) => (entries.next(), Name::Lower),
                Names::Image(entries) => (entries.next(), Name::Image),
                Names::Done => return Ok(None),
            };
            match entry.transpose()? {
                Some(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(entry) => return Ok(Some(make(entry.file_name().to_owned()))),
                None => self.names = self.following()?,
            }
        }
    }

    /// Where nothing was moved, the upper layer tells all.
    fn following(&self) -> Outcome<Names> {
        let image =
            |folder: &Folder| folder.image.as_ref().map_or(Ok(Names::Done), |i| entries(i).map(Names::Image));
        match (&self.names, &self.lower) {
            _ if matches!(self.names, Names::Image(_) | Names::Done) => Ok(Names::Done),
            (Names::Upper(_), _) if self.in_place()? => Ok(Names::Done),
            (Names::Upper(_), Some(lower)) => entries(lower).map(Names::Lower),
            _ => image(self),
        }
    }
}

fn entries(folder: &OwnedFd) -> Outcome<OwningIter> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(Dir::from_fd(openat(folder, c".", flags, Mode::empty())?)?.into_iter())
}

/// The folder called `name`, `None` when there is none of that name.
fn open(folder: &OwnedFd, name: &CStr) -> Outcome<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        other => other.map(Some),
    }
}

fn stat(folder: &OwnedFd, name: &CStr) -> Outcome<Option<FileStat>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

fn is_folder(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

/// A folder is in the upper layer as soon as something in it changes; it has changed itself only when this did.
fn same_folder(now: &FileStat, before: &FileStat) -> bool {
    let told = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    told(now) == told(before)
}

/// An extended attribute of an open folder.
fn attribute(folder: &OwnedFd, name: &CStr) -> Outcome<Option<Vec<u8>>> {
    let mut value = vec![0; REDIRECT_LIMIT];
    // SAFETY: the name ends with NUL; the kernel writes at most the buffer's length.
    let result =
        unsafe { libc::fgetxattr(folder.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match (usize::try_from(result), Errno::last()) {
        (Ok(length), _) => {
            value.truncate(length);
            Ok(Some(value))
        }
        (Err(_), Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        (Err(_), errno) => Err(errno),
    }
}
