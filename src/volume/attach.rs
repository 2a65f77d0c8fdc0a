//! Opening and locking everything a run mounts.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use msb_guest::message::{GuestMount, MountSource};

use super::{Error, Store};
use crate::manifest::{Tmpfs, Volume, VolumeSource};
use crate::vm;

/// The first disk of a machine that is a volume's; before it come image and writable disk.
const FIRST_DISK: u8 = b'c';

/// The volumes of one run, opened and locked. They stay so for as long as this or a machine with its files exists.
#[derive(Debug, Default)]
pub struct Attachments {
    shares: Vec<(OwnedFd, bool)>,
    disks: Vec<(File, bool)>,
    mounts: Vec<GuestMount>,
}

impl Store {
    /// Opens `volumes`, whose paths must be absolute, and `tmpfs` for the sandbox called `sandbox`.
    ///
    /// # Errors
    /// The first volume that cannot be had.
    pub fn attach<'v>(
        &self,
        volumes: impl IntoIterator<Item = &'v Volume>,
        tmpfs: &[Tmpfs],
        sandbox: &str,
    ) -> Result<Attachments, Error> {
        let mut all = Attachments::default();
        for volume in volumes {
            all.add(self, volume, sandbox)?;
        }
        for tmpfs in tmpfs {
            let size = tmpfs.size.map(|size| size.bytes());
            let source = MountSource::Tmpfs { size, mode: tmpfs.mode };
            all.mount(&tmpfs.target, source, false, tmpfs.to_string());
        }
        all.in_order()
    }
}

/// Whether the folders and files of the host among `volumes` are there and can be shared.
///
/// # Errors
/// What [`Store::attach`] would say.
pub fn check_sources<'v>(volumes: impl IntoIterator<Item = &'v Volume>) -> Result<(), Error> {
    volumes.into_iter().try_for_each(|volume| match &volume.source {
        VolumeSource::Host(path) => open_source(path, volume).map(drop),
        VolumeSource::Named(_) => Ok(()),
    })
}

impl Attachments {
    fn add(&mut self, store: &Store, volume: &Volume, sandbox: &str) -> Result<(), Error> {
        let source = match &volume.source {
            VolumeSource::Host(path) => {
                self.shares.push((open_source(path, volume)?, volume.read_only));
                MountSource::Share(u32::try_from(self.shares.len() - 1).unwrap_or(u32::MAX))
            }
            VolumeSource::Named(name) => {
                // The machine refuses more of them than there are letters.
                let letter =
                    u8::try_from(self.disks.len()).map_or(b'z', |number| FIRST_DISK.saturating_add(number));
                self.disks.push((store.open(name, volume.read_only, sandbox)?, volume.read_only));
                MountSource::Disk(format!("/dev/vd{}", char::from(letter)))
            }
        };
        let label = format!("volume `{volume}`");
        self.mount(&volume.target, source, volume.read_only, label);
        Ok(())
    }

    fn mount(&mut self, target: &str, source: MountSource, read_only: bool, label: String) {
        self.mounts.push(GuestMount { target: target.into(), source, read_only, label: label.into() });
    }

    /// Outer folders before those within them; one thing at each place.
    fn in_order(mut self) -> Result<Self, Error> {
        let mut seen = HashSet::new();
        if let Some(twice) = self.mounts.iter().find(|mount| !seen.insert(mount.target.as_bytes())) {
            let target = String::from_utf8_lossy(twice.target.as_bytes()).into_owned();
            return Err(Error::SameTarget { target });
        }
        let depth = |mount: &GuestMount| mount.target.as_bytes().iter().filter(|byte| **byte == b'/').count();
        self.mounts.sort_by_key(depth);
        Ok(self)
    }

    /// Whether something outside the sandbox's own disk is written, so that a machine must not just be switched off.
    #[must_use]
    pub fn are_written(&self) -> bool {
        let written =
            |mount: &GuestMount| !mount.read_only && !matches!(mount.source, MountSource::Tmpfs { .. });
        self.mounts.iter().any(written)
    }

    /// What the guest mounts, in order.
    #[must_use]
    pub fn mounts(&self) -> &[GuestMount] {
        &self.mounts
    }

    /// What the machine gets; `owner` is as whom the guest sees the caller's files.
    #[must_use]
    pub fn into_devices(self, owner: (u32, u32)) -> (Option<vm::Shares>, Vec<vm::Disk>) {
        let share = |(file, read_only)| vm::Share { file, read_only };
        let entries: Vec<vm::Share> = self.shares.into_iter().map(share).collect();
        let disk = |(file, read_only): (File, bool)| vm::Disk { read_only, ..vm::Disk::file(file.into()) };
        let shares = (!entries.is_empty()).then_some(vm::Shares { entries, owner });
        (shares, self.disks.into_iter().map(disk).collect())
    }
}

fn open_source(path: &Path, volume: &Volume) -> Result<OwnedFd, Error> {
    let written = || volume.to_string();
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { volume: written(), path: path.to_owned() });
        }
        Err(source) => return Err(Error::Source { volume: written(), path: path.to_owned(), source }),
    };
    let kind = file.metadata().map(|data| data.file_type());
    match kind {
        Ok(kind) if kind.is_dir() || kind.is_file() => Ok(file.into()),
        Ok(_) => Err(Error::Kind { volume: written(), path: path.to_owned() }),
        Err(source) => Err(Error::Source { volume: written(), path: path.to_owned(), source }),
    }
}
