//! Who is in a sandbox's groups, read again when it has changed.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::record::{Known, Record};
use crate::net::policy::Name;

/// Who is in some groups. Looking again costs one call of the system as long as nothing has changed.
#[derive(Debug)]
pub struct Roster {
    path: PathBuf,
    groups: Vec<u64>,
    seen: Option<(u64, i64, i64, u64)>,
}

impl Roster {
    /// Of the groups with these numbers.
    pub(super) fn new(path: PathBuf, groups: Vec<u64>) -> Self {
        Self { path, groups, seen: None }
    }

    /// Every name in the groups with its address, if that may have changed since the last time.
    pub fn changed(&mut self) -> Option<Vec<(Name, IpAddr)>> {
        let data = fs::metadata(&self.path).ok()?;
        // It is replaced with every change, so that another file is another text.
        let seen = (data.ino(), data.mtime(), data.mtime_nsec(), data.len());
        if self.seen == Some(seen) {
            return None;
        }
        // What cannot be read now may be readable the next time.
        let record = Record::load(&self.path).ok()?;
        self.seen = Some(seen);
        let own: Vec<&Known> =
            record.groups.iter().filter(|group| self.groups.contains(&group.number)).collect();
        // What is called after one of the groups is in that group, whatever members of the others are called.
        let is_foreign = |group: &Known, name: &Name| {
            own.iter().any(|other| other.number != group.number && other.owns(name) && !group.owns(name))
        };
        let names = own.iter().flat_map(|group| group.names().filter(|(name, _)| !is_foreign(group, name)));
        Some(names.collect())
    }
}
