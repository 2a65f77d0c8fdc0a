//! Completing the image's files of certificate authorities.
//!
//! Each is copied into memory with one more certificate at its end, and the copy is mounted over it: the disk keeps what it had.

use super::BootError;
use crate::message::{FILES_DIR, TrustSetup};
use nix::mount::{MsFlags, mount};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The usual list of authorities has 220 KiB.
const LARGEST: u64 = 16 << 20;
/// Where the copies are, below [`FILES_DIR`].
const COPIES: &str = "trust";

/// Makes the files that programs look at trust the authority of `setup`.
///
/// # Errors
/// A file cannot be written or mounted. Files that the image does not have, or that are no list of certificates, are passed over.
pub(super) fn complete(setup: &TrustSetup) -> Result<(), BootError> {
    let files = Path::new(FILES_DIR);
    let certificate = setup.certificate.as_bytes();
    let copies = files.join(COPIES);
    fs::create_dir(&copies).map_err(failed(&copies))?;
    let mut seen = HashSet::new();
    let mut first = None;
    for (number, bundle) in setup.bundles.iter().enumerate() {
        // Several names often lead to one file.
        let Ok(place) = fs::canonicalize(bundle) else { continue };
        if place.starts_with(files) || !seen.insert(place.clone()) {
            continue;
        }
        let Ok(Some(list)) = read(&place) else { continue };
        let copy = copies.join(format!("{number}.crt"));
        write(&copy, &list, certificate).map_err(failed(&copy))?;
        mount(Some(&copy), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| failed(&place)(errno.into()))?;
        first.get_or_insert(list);
    }
    let bundle = files.join(&setup.bundle);
    write(&bundle, &first.unwrap_or_default(), certificate).map_err(failed(&bundle))
}

/// What is in a file; `None` if it is no file, or too large to be a list of certificates.
fn read(place: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() > LARGEST {
        return Ok(None);
    }
    let mut list = Vec::new();
    file.take(LARGEST).read_to_end(&mut list)?;
    Ok(Some(list))
}

fn write(path: &Path, list: &[u8], certificate: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(list)?;
    if !list.is_empty() && !list.ends_with(b"\n") {
        file.write_all(b"\n")?;
    }
    file.write_all(certificate)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BootError {
    let path: PathBuf = path.to_owned();
    move |source| BootError::Path { stage: "trust", path, source }
}
