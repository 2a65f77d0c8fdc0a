//! The record of all groups of a user: which networks they have, and who is in them where.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::net::policy::Name;
use crate::paths;

/// Larger than any record.
const LARGEST: u64 = 16 << 20;
/// Names that are not a sandbox's to have.
const RESERVED: [&str; 2] = ["localhost", "msb.internal"];

/// All groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) groups: Vec<Known>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its number, which no other group has.
    pub(super) number: u64,
    /// Its name.
    pub name: String,
    /// The folder of the project it belongs to.
    pub project: Option<PathBuf>,
    /// Its network.
    pub subnet: IpNet,
    /// Who is in it.
    pub(super) members: Vec<Member>,
}

/// A sandbox in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// The sandbox.
    pub(super) name: String,
    /// Where it keeps what it writes; a throw-away sandbox has none, and is a member as long as it runs.
    pub(super) folder: Option<PathBuf>,
    /// Its address.
    pub(super) address: IpAddr,
    /// What it is called in the group.
    pub(super) names: Vec<Name>,
}

impl Known {
    /// The names in this group, each by itself and with that of the group behind it, and the addresses they lead to.
    pub fn names(&self) -> impl Iterator<Item = (Name, IpAddr)> {
        self.members.iter().flat_map(move |member| {
            let names = member.names.iter().flat_map(|name| self.forms(name));
            names.map(|name| (name, member.address)).collect::<Vec<_>>()
        })
    }

    /// The forms of a member's name: as it is, and with that of the group behind it.
    pub(super) fn forms(&self, name: &Name) -> impl Iterator<Item = Name> {
        let long = format!("{name}.{}", self.name).parse::<Name>().ok();
        [Some(name.clone()), long].into_iter().flatten().filter(|name| !is_reserved(name))
    }

    /// Whether this name is one that only members of this group may have where both are known: with that of the group behind it.
    pub(super) fn owns(&self, name: &Name) -> bool {
        let of_group = self.name.parse::<Name>();
        let rest = of_group.ok().and_then(|group| name.as_str().strip_suffix(group.as_str()));
        rest.is_some_and(|rest| rest.ends_with('.'))
    }

    /// The sandbox at `address`, and where it keeps what it writes.
    #[must_use]
    pub fn member_at(&self, address: IpAddr) -> Option<(&str, Option<&Path>)> {
        let member = self.members.iter().find(|member| member.address == address)?;
        Some((&member.name, member.folder.as_deref()))
    }

    /// The address of the sandbox that keeps what it writes in `folder`.
    #[must_use]
    pub fn address_of(&self, folder: &Path) -> Option<IpAddr> {
        let member = self.members.iter().find(|member| member.folder.as_deref() == Some(folder));
        member.map(|member| member.address)
    }
}

impl Record {
    /// Reads the record at `path`; there are no groups where there is none.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::State { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Broken(path.to_owned()))
    }

    /// Writes it to `path`, at once for whoever reads it.
    pub(super) fn store(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::State { path: path.to_owned(), source };
        let partial = path.with_extension("new");
        let write = || {
            // Under the lock: nobody else writes to it.
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec_pretty(self).map_err(io::Error::from)?)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(failed)
    }

    /// The group that is called so, of this project or of the user.
    pub(super) fn find(&mut self, name: &str, project: Option<&Path>) -> Option<&mut Known> {
        self.groups.iter_mut().find(|group| group.name == name && group.project.as_deref() == project)
    }
}

fn is_reserved(name: &Name) -> bool {
    RESERVED.iter().any(|reserved| {
        name.as_str() == *reserved
            || name.as_str().strip_suffix(reserved).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// Whether programs can find a sandbox by this name: whether it is none that always leads elsewhere, and no address.
#[must_use]
pub fn is_findable(name: &Name) -> bool {
    !is_reserved(name) && !name.is_numeric()
}

/// Locks the groups in `folder` until the file is closed.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let failed = |source| Error::State { path: path.clone(), source };
    paths::create_private(folder).map_err(failed)?;
    let own = fs::symlink_metadata(folder).and_then(|data| paths::check_private(&data));
    own.map_err(|source| Error::State { path: folder.to_owned(), source })?;
    let file =
        File::options().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}
