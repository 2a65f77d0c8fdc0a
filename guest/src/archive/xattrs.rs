//! Extended attributes of files, never followed through a link.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Xattr;

/// Most bytes of the names, and of one value: the kernel's own limits.
const KERNEL_LIMIT: usize = 64 << 10;

/// A file, by the folder it is in.
///
/// `/proc` gives it a path whatever the folder is called by now, as the system calls for attributes want one.
pub(super) fn path_of(folder: Option<BorrowedFd<'_>>, name: &[u8]) -> io::Result<CString> {
    let path = match folder {
        Some(fd) => [format!("/proc/self/fd/{}/", fd.as_raw_fd()).as_bytes(), name].concat(),
        None => name.to_vec(),
    };
    CString::new(path).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The attributes of a file that are its own: those by which overlayfs keeps its books are not.
pub(super) fn read(path: &CString) -> io::Result<Vec<Xattr>> {
    let names = sized(|buffer| {
        // SAFETY: the path ends with NUL; the kernel writes at most the buffer's length.
        unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    let mut found = Vec::new();
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    for name in names.filter(|name| !name.starts_with(b"trusted.overlay.")) {
        let Ok(c_name) = CString::new(name) else { continue };
        let value = sized(|buffer| {
            // SAFETY: path and name end with NUL; the kernel writes at most the buffer's length.
            unsafe {
                libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
            }
        });
        match value {
            Ok(value) => found.push(Xattr { name: name.to_vec(), value }),
            // It went, or is not for this user to read.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EPERM | libc::EACCES)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Sets an attribute.
pub(super) fn set(path: &CString, xattr: &Xattr) -> io::Result<()> {
    let name =
        CString::new(xattr.name.as_slice()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: path and name end with NUL; pointer and length are those of the value.
    let result = unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), xattr.value.as_ptr().cast(), xattr.value.len(), 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What `call` writes into a buffer. Nothing on a file system without attributes.
fn sized(call: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let mut small = [0; 256];
    let mut result = call(&mut small);
    if let Ok(count) = usize::try_from(result) {
        return Ok(small[..count].to_vec());
    }
    let mut error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ERANGE) {
        let mut large = vec![0; KERNEL_LIMIT];
        result = call(&mut large);
        if let Ok(count) = usize::try_from(result) {
            large.truncate(count);
            return Ok(large);
        }
        error = io::Error::last_os_error();
    }
    match error.raw_os_error() {
        Some(libc::ENOTSUP | libc::ENOSYS) => Ok(Vec::new()),
        _ => Err(error),
    }
}
