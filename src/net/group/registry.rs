//! Joining groups and leaving them.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::record::{self, Known, Member, Record};
use super::{Candidate, Door, Error, Kind, Membership, Roster, subnet};
use crate::net::policy::Name;
use crate::paths::{self, Paths};

/// The groups of a user, those of projects included.
#[derive(Debug, Clone)]
pub struct Registry {
    folder: PathBuf,
}

/// A running sandbox's place in a group, given up when it is dropped.
#[derive(Debug)]
pub struct Seat {
    /// The group.
    pub group: String,
    /// Its network.
    pub subnet: IpNet,
    /// The sandbox's address.
    pub address: IpAddr,
    /// Where the sandbox is called for TCP.
    pub streams: OwnedFd,
    /// Where it is called for datagrams.
    pub messages: OwnedFd,
    /// Where the others are called.
    pub door: Door,
    number: u64,
    /// Which files its sockets are.
    files: [(Kind, Option<u64>); 2],
    registry: Registry,
    /// Whether the sandbox leaves the group when it ends.
    leaves: bool,
}

impl Registry {
    /// The groups of `paths`.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self { folder: paths.data.join("groups") }
    }

    fn record(&self) -> PathBuf {
        self.folder.join("groups.json")
    }

    fn folder_of(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }

    /// Has a sandbox take its place in each of these groups, and leave all others. Groups are made as needed; what has gone is
    /// forgotten. Other processes wait meanwhile.
    ///
    /// # Errors
    /// A name, an address or a network is somebody else's, or the record cannot be read or written.
    pub fn join(&self, who: Candidate<'_>, wanted: &[Membership]) -> Result<Vec<Seat>, Error> {
        if wanted.is_empty() && !self.record().exists() {
            return Ok(Vec::new());
        }
        let lock = record::lock(&self.folder)?;
        let mut known = Record::load(&self.record())?;
        let before = known.clone();
        self.forget_gone(&mut known);
        if let Some(folder) = who.folder {
            let is_wanted = |group: &Known| {
                wanted.iter().any(|one| one.group == group.name && one.project == group.project)
            };
            for group in known.groups.iter_mut().filter(|group| !is_wanted(group)) {
                group.members.retain(|member| member.folder.as_deref() != Some(folder));
            }
        }
        let mut places = Vec::new();
        for one in wanted {
            let number = self.group(&mut known, one)?;
            let Some(group) = known.groups.iter_mut().find(|group| group.number == number) else { continue };
            let address = take_place(group, who, one)?;
            places.push((group.name.clone(), number, group.subnet, address));
        }
        refuse_overlaps(&places)?;
        self.drop_empty(&mut known);
        if known != before {
            known.store(&self.record())?;
        }
        for (_, number, ..) in &places {
            self.sweep(&known, *number);
        }
        let seats: Vec<Result<Seat, Error>> =
            places.into_iter().map(|place| self.sit_down(place, who)).collect();
        // Those that are given up where one cannot be had take the lock themselves.
        drop(lock);
        seats.into_iter().collect()
    }

    /// Has whoever keeps what it writes in `folder` leave every group.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn leave(&self, folder: &Path) -> Result<(), Error> {
        self.remove(|_, member| member.folder.as_deref() == Some(folder))
    }

    fn remove(&self, is_gone: impl Fn(&Known, &Member) -> bool) -> Result<(), Error> {
        if !self.record().exists() {
            return Ok(());
        }
        let _lock = record::lock(&self.folder)?;
        let mut known = Record::load(&self.record())?;
        let before = known.clone();
        for group in &mut known.groups {
            let whole = group.clone();
            group.members.retain(|member| !is_gone(&whole, member));
        }
        self.drop_empty(&mut known);
        if known == before { Ok(()) } else { known.store(&self.record()) }
    }

    /// Those of the groups that exist.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn known(&self, of: &[Membership]) -> Result<Vec<Known>, Error> {
        let mut known = Record::load(&self.record())?;
        Ok(of.iter().filter_map(|one| known.find(&one.group, one.project.as_deref()).cloned()).collect())
    }

    /// Who is in the groups of these seats.
    #[must_use]
    pub fn roster(&self, seats: &[Seat]) -> Roster {
        Roster::new(self.record(), seats.iter().map(|seat| seat.number).collect())
    }

    /// Forgets sandboxes whose folder has gone, and throw-away ones that have ended without saying so.
    fn forget_gone(&self, known: &mut Record) {
        for group in &mut known.groups {
            let door = Door::open(&self.folder_of(group.number)).ok();
            let is_attended = |address| door.as_ref().is_some_and(|door| door.is_attended(address));
            group.members.retain(|member| match &member.folder {
                Some(folder) => folder.exists(),
                None => is_attended(member.address),
            });
        }
    }

    /// Takes away what sandboxes that are no members any more have left in the group's folder.
    fn sweep(&self, known: &Record, number: u64) {
        let group = known.groups.iter().find(|group| group.number == number);
        if let (Some(group), Ok(door)) = (group, Door::open(&self.folder_of(number))) {
            door.sweep(|address| group.members.iter().any(|member| member.address == address));
        }
    }

    fn drop_empty(&self, known: &mut Record) {
        let (kept, gone) =
            std::mem::take(&mut known.groups).into_iter().partition(|group| !group.members.is_empty());
        known.groups = kept;
        let gone: Vec<Known> = gone;
        for group in gone {
            // What stays is an empty folder.
            let _ = fs::remove_dir_all(self.folder_of(group.number));
        }
    }

    /// The number of the group that is wanted, with the network that is wanted.
    fn group(&self, known: &mut Record, wanted: &Membership) -> Result<u64, Error> {
        let used: Vec<IpNet> = known.groups.iter().map(|group| group.subnet).collect();
        let chosen = || wanted.subnet.or_else(|| subnet::choose(&(&wanted.project, &wanted.group), &used));
        if let Some(group) = known.find(&wanted.group, wanted.project.as_deref()) {
            match wanted.subnet {
                Some(to) if to != group.subnet => self.renumber(group, to)?,
                _ => {}
            }
            return Ok(group.number);
        }
        let number = known.groups.iter().map(|group| group.number).max().map_or(1, |last| last + 1);
        known.groups.push(Known {
            number,
            name: wanted.group.clone(),
            project: wanted.project.clone(),
            subnet: chosen().ok_or_else(|| Error::NoSubnet(wanted.group.clone()))?,
            members: Vec::new(),
        });
        Ok(number)
    }

    /// Gives a group another network, in which everybody gets an address when it starts again.
    fn renumber(&self, group: &mut Known, to: IpNet) -> Result<(), Error> {
        if let Ok(door) = Door::open(&self.folder_of(group.number))
            && let Some(by) = group.members.iter().find(|member| door.is_attended(member.address))
        {
            let (name, by) = (group.name.clone(), by.name.clone());
            return Err(Error::Moved { group: name, from: group.subnet, to, by });
        }
        group.subnet = to;
        group.members.clear();
        Ok(())
    }

    /// Listens in the sandbox's place.
    fn sit_down(
        &self,
        (group, number, subnet, address): (String, u64, IpNet, IpAddr),
        who: Candidate<'_>,
    ) -> Result<Seat, Error> {
        let path = self.folder_of(number);
        let failed = |source| Error::State { path: path.clone(), source };
        paths::create_private(&path).map_err(failed)?;
        let door = Door::open(&path).map_err(failed)?;
        let listen = |kind| door.listen(address, kind).map_err(failed);
        let (streams, messages) = (listen(Kind::Stream)?, listen(Kind::Messages)?);
        let files = [Kind::Stream, Kind::Messages].map(|kind| (kind, door.file(address, kind)));
        let (registry, leaves) = (self.clone(), who.folder.is_none());
        Ok(Seat { group, subnet, address, streams, messages, door, number, files, registry, leaves })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Whoever joins takes its place under the lock. Where that cannot be had, the sockets are swept away by one who does.
        if self.registry.record().exists()
            && let Ok(_lock) = record::lock(&self.registry.folder)
        {
            for (kind, file) in self.files {
                if file.is_some() && self.door.file(self.address, kind) == file {
                    self.door.close(self.address, kind);
                }
            }
        }
        if self.leaves {
            let (number, address) = (self.number, self.address);
            // Who joins next finds that nobody is there.
            let _ = self.registry.remove(|group, member| {
                group.number == number && member.address == address && member.folder.is_none()
            });
        }
    }
}

/// Puts `who` into the group; gives its address.
fn take_place(group: &mut Known, who: Candidate<'_>, wanted: &Membership) -> Result<IpAddr, Error> {
    let is_own = |member: &Member| who.folder.is_some() && member.folder.as_deref() == who.folder;
    let (own, others): (Vec<Member>, Vec<Member>) =
        std::mem::take(&mut group.members).into_iter().partition(is_own);
    group.members = others;
    let names = names(group, who, wanted)?;
    let holder = |address| group.members.iter().find(|member| member.address == address);
    let address = match wanted.address {
        Some(address) if !subnet::is_seat(group.subnet, address) => {
            let name = group.name.clone();
            return Err(Error::Outside { group: name, address, subnet: group.subnet });
        }
        Some(address) => match holder(address) {
            Some(other) => {
                let (group, by) = (group.name.clone(), other.name.clone());
                return Err(Error::AddressTaken { group, address, by });
            }
            None => Some(address),
        },
        None => {
            let is_taken = |address| holder(address).is_some() || wanted.reserved.contains(&address);
            let had = own.first().map(|member| member.address);
            had.filter(|address| !is_taken(*address) && subnet::is_seat(group.subnet, *address))
                .or_else(|| subnet::free_seat(group.subnet, is_taken))
        }
    };
    let full = || Error::Full { group: group.name.clone(), subnet: group.subnet };
    let address = address.ok_or_else(full)?;
    let folder = who.folder.map(Path::to_owned);
    group.members.push(Member { name: who.name.to_owned(), folder, address, names });
    Ok(address)
}

/// What `who` is called in the group. A throw-away sandbox goes without the name of its image where that is taken.
fn names(group: &Known, who: Candidate<'_>, wanted: &Membership) -> Result<Vec<Name>, Error> {
    let taken: HashSet<&Name> = group.members.iter().flat_map(|member| &member.names).collect();
    let own = who.name.parse::<Name>().ok().filter(|name| who.folder.is_some() || !taken.contains(name));
    let mut names: Vec<Name> = own.into_iter().chain(wanted.hostname.clone()).collect();
    names.dedup();
    for name in &names {
        // Also where the long form of one is what the other is called.
        let forms: HashSet<Name> = group.forms(name).collect();
        let has_it = |member: &&Member| {
            member.names.iter().any(|other| group.forms(other).any(|form| forms.contains(&form)))
        };
        if let Some(by) = group.members.iter().find(has_it) {
            let (group, name, by) = (group.name.clone(), name.to_string(), by.name.clone());
            return Err(Error::NameTaken { group, name, by });
        }
    }
    Ok(names)
}

/// Two networks of one sandbox lead to different places, so that they must not have addresses in common.
fn refuse_overlaps(places: &[(String, u64, IpNet, IpAddr)]) -> Result<(), Error> {
    for (index, (name, _, net, _)) in places.iter().enumerate() {
        let overlaps =
            |other: &&(String, u64, IpNet, IpAddr)| other.2.contains(net) || net.contains(&other.2);
        if let Some((other, _, other_net, _)) = places[..index].iter().find(overlaps) {
            return Err(Error::Overlap((other.clone(), *other_net), (name.clone(), *net)));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
