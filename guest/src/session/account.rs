//! Who a process runs as: lookup in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The image may hold anything at these paths, so files are read only when they are regular, only up to a limit, and
//! lines that make no sense are skipped.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Most bytes read of either file.
const FILE_LIMIT: u64 = 4 << 20;
/// Most supplementary groups, the kernel's own limit being 65536.
const GROUP_LIMIT: usize = 1024;

/// A resolved user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home folder, `/` when the user has no entry.
    pub home: Vec<u8>,
}

/// A user or group that the guest does not know.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AccountError {
    /// No such name, and it is no number.
    #[error("user {0:?} is not in the sandbox's /etc/passwd")]
    UnknownUser(String),
    /// No such name, and it is no number.
    #[error("group {0:?} is not in the sandbox's /etc/group")]
    UnknownGroup(String),
}

/// The user database of a root file system.
#[derive(Debug, Default)]
pub struct Database {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl Database {
    /// Reads `/etc/passwd` and `/etc/group`. A missing or unreadable file counts as empty, as Docker does it.
    #[must_use]
    pub fn read() -> Database {
        Database { passwd: read_limited("/etc/passwd"), group: read_limited("/etc/group") }
    }

    /// A database from the contents of the two files.
    #[must_use]
    pub fn from_contents(passwd: &[u8], group: &[u8]) -> Database {
        Database { passwd: passwd.to_vec(), group: group.to_vec() }
    }

    /// Finds the account for `name`, `uid`, `name:group`, `uid:gid` and their mixtures; root for `None`. A number that is
    /// in neither file stands for itself. The supplementary groups begin with the primary one, as initgroups(3) has
    /// them; with a group given there are no others.
    ///
    /// # Errors
    /// [`AccountError`] when a name is not known.
    pub fn resolve(&self, spec: Option<&str>) -> Result<Account, AccountError> {
        let spec = spec.unwrap_or("0");
        let (user_part, group_part) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
            None => (spec, None),
        };
        let user_part = if user_part.is_empty() { "0" } else { user_part };
        let user = self.find_user(user_part);
        let uid = match (&user, user_part.parse::<u32>()) {
            (Some(user), _) => user.uid,
            (None, Ok(uid)) if uid != u32::MAX => uid,
            _ => return Err(AccountError::UnknownUser(user_part.to_owned())),
        };
        let home = user.as_ref().map_or(b"/".as_slice(), |u| u.home);
        let home = if home.is_empty() { b"/" } else { home }.to_vec();
        if let Some(group) = group_part {
            let gid = self.find_group(group)?;
            return Ok(Account { uid, gid, groups: vec![gid], home });
        }
        let gid = user.as_ref().map_or(0, |u| u.gid);
        let groups = self.groups_of(user.as_ref().map_or(b"", |u| u.name), gid);
        Ok(Account { uid, gid, groups, home })
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.split(|&b| b == b'\n').filter_map(|line| {
            let mut fields = line.split(|&b| b == b':');
            let name = fields.next()?;
            let _password = fields.next()?;
            let uid = number(fields.next()?)?;
            let gid = number(fields.next()?)?;
            let home = fields.nth(1).unwrap_or(b"/");
            Some(User { name, uid, gid, home })
        })
    }

    /// By name first, so that a user who is called `1000` is found before the user id 1000.
    fn find_user(&self, wanted: &str) -> Option<User<'_>> {
        let by_name = self.users().find(|user| user.name == wanted.as_bytes());
        by_name.or_else(|| {
            let uid = wanted.parse::<u32>().ok()?;
            self.users().find(|user| user.uid == uid)
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
        self.group.split(|&b| b == b'\n').filter_map(|line| {
            let mut fields = line.split(|&b| b == b':');
            let name = fields.next()?;
            let _password = fields.next()?;
            let gid = number(fields.next()?)?;
            Some((name, gid, fields.next().unwrap_or(b"")))
        })
    }

    fn find_group(&self, wanted: &str) -> Result<u32, AccountError> {
        let by_name = self.groups().find(|(name, ..)| *name == wanted.as_bytes()).map(|(_, gid, _)| gid);
        by_name
            .or_else(|| wanted.parse().ok().filter(|gid| *gid != u32::MAX))
            .ok_or_else(|| AccountError::UnknownGroup(wanted.to_owned()))
    }

    fn groups_of(&self, user: &[u8], primary: u32) -> Vec<u32> {
        let mut found = vec![primary];
        for (_, gid, members) in self.groups() {
            let member = !user.is_empty() && members.split(|&b| b == b',').any(|name| name == user);
            if member && !found.contains(&gid) && found.len() < GROUP_LIMIT {
                found.push(gid);
            }
        }
        found
    }
}

/// A user or group id; -1 is none because `setresuid` takes it for "leave as it is".
fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

fn read_limited(path: &str) -> Vec<u8> {
    let mut contents = Vec::new();
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|m| m.is_file())
        && file.take(FILE_LIMIT).read_to_end(&mut contents).is_err()
    {
        contents.clear();
    }
    contents
}
