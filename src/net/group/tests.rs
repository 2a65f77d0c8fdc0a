#![allow(clippy::unwrap_used)]

use super::*;

struct Home {
    dir: tempfile::TempDir,
    registry: Registry,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(&Paths::under(dir.path()));
        Self { dir, registry }
    }

    /// A sandbox called `name` that keeps what it writes takes its places.
    fn join(&self, name: &str, wanted: &[Membership]) -> Result<Vec<Seat>, Error> {
        let folder = self.folder(name);
        fs::create_dir_all(&folder).unwrap();
        self.registry.join(Candidate { name, folder: Some(&folder) }, wanted)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join("sandboxes").join(name)
    }

    fn names(&self, seats: &[Seat]) -> Vec<String> {
        let names = self.registry.roster(seats).changed().unwrap();
        names.iter().map(|(name, address)| format!("{name} {address}")).collect()
    }
}

fn in_net(group: &str, subnet: &str) -> Membership {
    Membership { subnet: Some(subnet.parse().unwrap()), ..Membership::of_user(group) }
}

#[test]
fn members_find_each_other_and_keep_their_addresses() {
    let home = Home::new();
    let net = [in_net("g", "10.77.0.0/24")];
    let first = home.join("db", &net).unwrap();
    let mut roster = home.registry.roster(&first);
    assert_eq!(roster.changed().unwrap().len(), 2);
    assert!(roster.changed().is_none());
    let second = home.join("web", &net).unwrap();
    let found: Vec<String> =
        roster.changed().unwrap().iter().map(|(name, address)| format!("{name} {address}")).collect();
    assert_eq!(found, ["db 10.77.0.2", "db.g 10.77.0.2", "web 10.77.0.3", "web.g 10.77.0.3"]);
    first[0].door.connect(second[0].address, Kind::Stream).unwrap();
    drop((first, second));
    assert_eq!(home.join("web", &net).unwrap()[0].address.to_string(), "10.77.0.3");
    assert_eq!(home.join("db", &net).unwrap()[0].address.to_string(), "10.77.0.2");
}

#[test]
fn a_group_without_a_network_gets_one_of_its_own_and_keeps_it() {
    let home = Home::new();
    let both = [Membership::of_user("a"), Membership::of_user("b")];
    let seats = home.join("x", &both).unwrap();
    assert_ne!(seats[0].subnet, seats[1].subnet);
    assert_eq!(home.join("y", &both[..1]).unwrap()[0].subnet, seats[0].subnet);
    // A project's group of the same name is another one.
    let of_project = Membership { project: Some(home.dir.path().into()), ..Membership::of_user("a") };
    assert_ne!(home.join("z", &[of_project]).unwrap()[0].subnet, seats[0].subnet);
}

#[test]
fn conflicts_name_who_is_there() {
    let home = Home::new();
    let asking = |address: &str, hostname: Option<&str>| Membership {
        address: Some(address.parse().unwrap()),
        hostname: hostname.map(|name| name.parse().unwrap()),
        ..in_net("g", "10.77.0.0/24")
    };
    let _db = home.join("db", &[asking("10.77.0.9", Some("store"))]).unwrap();
    let error = home.join("web", &[asking("10.77.0.9", None)]).unwrap_err();
    assert!(matches!(&error, Error::AddressTaken { by, .. } if by == "db"), "{error}");
    let error = home.join("web", &[asking("10.77.0.8", Some("store"))]).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { by, name, .. } if by == "db" && name == "store"), "{error}");
    let error = home.join("web", &[asking("10.77.1.8", None)]).unwrap_err();
    assert!(matches!(error, Error::Outside { .. }), "{error}");
    let error = home.join("web", &[in_net("g", "10.78.0.0/24")]).unwrap_err();
    assert!(matches!(&error, Error::Moved { by, .. } if by == "db"), "{error}");
    let twice = [in_net("g", "10.77.0.0/24"), in_net("h", "10.77.0.0/16")];
    let error = home.join("web", &twice).unwrap_err();
    assert!(matches!(error, Error::Overlap(..)), "{error}");
    // What others ask for is not chosen.
    let polite = Membership { reserved: vec!["10.77.0.2".parse().unwrap()], ..in_net("g", "10.77.0.0/24") };
    assert_eq!(home.join("web", &[polite]).unwrap()[0].address.to_string(), "10.77.0.3");
}

#[test]
fn what_has_gone_is_forgotten() {
    let home = Home::new();
    let net = [in_net("g", "10.77.0.0/29")];
    drop(home.join("db", &net).unwrap());
    fs::remove_dir_all(home.folder("db")).unwrap();
    let seats = home.join("web", &net).unwrap();
    assert_eq!(home.names(&seats), ["web 10.77.0.2", "web.g 10.77.0.2"]);
    // Stopped, it can have another network; in no group it is in none.
    drop(seats);
    let moved = home.join("web", &[in_net("g", "10.78.0.0/29")]).unwrap();
    assert_eq!(moved[0].address.to_string(), "10.78.0.2");
    assert!(home.join("web", &[]).unwrap().is_empty());
    assert!(home.registry.known(&net).unwrap().is_empty());
    let left = fs::read_dir(home.registry.folder.as_path()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.path().is_dir()));
}

#[test]
fn throw_away_sandboxes_are_there_as_long_as_they_run() {
    let home = Home::new();
    let net = [in_net("g", "10.77.0.0/24")];
    let throw_away = || home.registry.join(Candidate { name: "busybox", folder: None }, &net).unwrap();
    let db = home.join("db", &net).unwrap();
    let (first, second) = (throw_away(), throw_away());
    // The second has an address, and no name.
    assert_eq!((&*first[0].address.to_string(), &*second[0].address.to_string()), ("10.77.0.3", "10.77.0.4"));
    assert_eq!(home.names(&db)[2..], ["busybox 10.77.0.3", "busybox.g 10.77.0.3"]);
    drop(first);
    assert_eq!(home.names(&db), ["db 10.77.0.2", "db.g 10.77.0.2"]);
    // One that is killed is found to be gone.
    let mut second = second;
    second[0].leaves = false;
    drop(second);
    drop(home.join("web", &net).unwrap());
    assert_eq!(home.registry.known(&net).unwrap()[0].members.len(), 2);
}

#[test]
fn processes_take_turns() {
    let home = Home::new();
    let net = [Membership::of_user("g")];
    let seats: Vec<Seat> = std::thread::scope(|scope| {
        let (home, net) = (&home, &net);
        let joining: Vec<_> =
            (0..16).map(|at| scope.spawn(move || home.join(&format!("s{at}"), net).unwrap())).collect();
        joining.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: HashSet<IpAddr> = seats.iter().map(|seat| seat.address).collect();
    let subnets: HashSet<IpNet> = seats.iter().map(|seat| seat.subnet).collect();
    assert_eq!((addresses.len(), subnets.len()), (16, 1));
}

#[test]
fn a_record_that_is_none_is_named() {
    let home = Home::new();
    drop(home.join("db", &[Membership::of_user("g")]).unwrap());
    fs::write(home.registry.record(), "[").unwrap();
    let error = home.join("db", &[Membership::of_user("g")]).unwrap_err();
    assert!(matches!(error, Error::Broken(_)) && error.hint().is_some());
}

#[test]
fn a_name_leads_to_one_sandbox_in_its_long_form_as_well() {
    let home = Home::new();
    let called = |group: &str, subnet: &str, hostname: &str| Membership {
        hostname: Some(hostname.parse().unwrap()),
        ..in_net(group, subnet)
    };
    let _db = home.join("db", &[in_net("one", "10.77.0.0/24")]).unwrap();
    let error = home.join("web", &[called("one", "10.77.0.0/24", "db.one")]).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { by, .. } if by == "db"), "{error}");
    // In another group it may be called so, and whoever is in both does not take it for the first.
    let evil = home.join("evil", &[called("two", "10.78.0.0/24", "db.one")]).unwrap();
    let both = home.join("x", &[in_net("one", "10.77.0.0/24"), in_net("two", "10.78.0.0/24")]).unwrap();
    let of = |seats: &[Seat], name: &str| {
        let names = home.names(seats).into_iter();
        names.filter(|line| line.starts_with(&format!("{name} "))).collect::<Vec<_>>()
    };
    assert_eq!(of(&both, "db.one"), ["db.one 10.77.0.2"]);
    assert_eq!(of(&both, "db.one.two"), ["db.one.two 10.78.0.2"]);
    assert_eq!(of(&evil, "db.one"), ["db.one 10.78.0.2"]);
}

#[test]
fn sockets_go_with_the_sandbox() {
    let home = Home::new();
    let net = [in_net("g", "10.77.0.0/24")];
    let sockets = || fs::read_dir(home.registry.folder_of(1)).unwrap().count();
    let db = home.join("db", &net).unwrap();
    assert_eq!(sockets(), 2);
    // It has started again: what ends is no longer the one that listens.
    let again = home.join("db", &net).unwrap();
    drop(db);
    assert_eq!(sockets(), 2);
    drop(again);
    assert_eq!(sockets(), 0);
    // One that was killed leaves them, until the next joins.
    let db = home.join("db", &net).unwrap();
    std::os::unix::net::UnixListener::bind(home.registry.folder_of(1).join("10.77.0.9.stream")).unwrap();
    assert_eq!(sockets(), 3);
    let _web = home.join("web", &net).unwrap();
    assert_eq!(sockets(), 4);
    drop(db);
}

#[test]
fn groups_are_not_kept_where_others_could_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    fs::create_dir_all(&home.registry.folder).unwrap();
    fs::set_permissions(&home.registry.folder, fs::Permissions::from_mode(0o777)).unwrap();
    let error = home.join("db", &[Membership::of_user("g")]).unwrap_err();
    assert!(matches!(&error, Error::State { path, .. } if *path == home.registry.folder), "{error}");
    fs::set_permissions(&home.registry.folder, fs::Permissions::from_mode(0o700)).unwrap();
    // Nor one of them: the place in the other is given up.
    let both = [Membership::of_user("g"), Membership::of_user("h")];
    drop(home.join("db", &both).unwrap());
    let second = home.registry.folder_of(2);
    fs::set_permissions(&second, fs::Permissions::from_mode(0o770)).unwrap();
    let error = home.join("db", &both).unwrap_err();
    assert!(matches!(&error, Error::State { path, .. } if *path == second), "{error}");
    assert_eq!(fs::read_dir(home.registry.folder_of(1)).unwrap().count(), 0);
}
