//! What a process that serves files can and cannot do with them: the worst case, in which the guest has taken it over and makes any
//! call it likes.
#![allow(clippy::unwrap_used)]

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, fchownat, linkat, setgid, setgroups, setuid, symlinkat, unlinkat,
};

use super::tests::{assert_held, assert_killed, in_child};
use super::{Filter, Plan, Shares, enter};

/// A folder to share, beside a secret.
fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    let root = world.path();
    fs::create_dir_all(root.join("src/sub")).unwrap();
    fs::write(root.join("src/file"), "inside").unwrap();
    fs::write(root.join("secret"), "outside").unwrap();
    fs::write(root.join("single"), "single").unwrap();
    symlink(root, root.join("src/absolute")).unwrap();
    symlink("../..", root.join("src/sub/up")).unwrap();
    symlink("/proc/self/fd", root.join("src/descriptors")).unwrap();
    for path in ["", "src", "src/sub"] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    world
}

fn shares(world: &Path, read_only: bool, owner: (u32, u32)) -> Shares {
    let path = |name: &str| open(&world.join(name), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    Shares { entries: vec![(path("src"), read_only), (path("single"), read_only)], owner }
}

/// Confines a child that serves `src` as 0 and `single` as 1, and tries `attempt` there.
fn serving(
    world: &Path,
    read_only: bool,
    filter: Filter,
    attempt: impl FnOnce(&OwnedFd) -> bool,
) -> nix::sys::wait::WaitStatus {
    in_child(|| {
        // A machine's process has no others either; here they belong to tests that run at the same time.
        // SAFETY: the child uses none of the descriptors it was forked with.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
        let shares = Some(shares(world, read_only, (0, 0)));
        let plan = Plan {
            files: Vec::new(),
            devices: &[],
            system: Vec::new(),
            file_size: 0,
            filter,
            shares,
            rearm: &|| Ok(()),
        };
        let (_, tree) = enter(plan)?;
        Ok(attempt(&tree.unwrap()))
    })
}

/// Tests of shares mean nothing where the host allows none.
fn can_share() -> bool {
    super::report().mount_namespace
}

const ANY: OFlag = OFlag::O_RDONLY;
const NEW: OFlag = OFlag::O_WRONLY.union(OFlag::O_CREAT);
const BITS: Mode = Mode::S_IRWXU;

fn opens(tree: &OwnedFd, path: &str, flags: OFlag) -> bool {
    openat(tree, path, flags, BITS).is_ok()
}

#[test]
fn no_name_leads_out_of_a_share() {
    if !can_share() {
        return;
    }
    let world = world();
    let outside = world.path().join("secret");
    let absolute = outside.to_str().unwrap();
    for filter in [Filter::Krun, Filter::Shares] {
        assert_held(serving(world.path(), false, filter, |tree| {
            let inside = opens(tree, "0/file", ANY) && opens(tree, "1", ANY) && opens(tree, "0/sub/new", NEW);
            let ways = [
                "../secret",
                "0/../secret",
                "0/../../secret",
                "0/sub/../../../secret",
                "0/absolute/secret",
                "0/sub/up/secret",
                "0/sub/up/../secret",
                "../../../../etc/passwd",
                "0/absolute/../../etc/passwd",
                absolute,
                "/etc/passwd",
                "/proc/self/root/etc/passwd",
            ];
            inside && ways.iter().all(|way| !opens(tree, way, ANY) && !opens(tree, way, OFlag::O_PATH))
        }));
    }
    assert_eq!(fs::read_to_string(outside).unwrap(), "outside");
}

/// Neither a descriptor of the folder's place in the host's tree nor one of anything else is left.
#[test]
fn no_descriptor_leads_out_of_a_share() {
    if !can_share() {
        return;
    }
    let world = world();
    assert_held(serving(world.path(), false, Filter::Shares, |tree| {
        (0..64).all(|fd| {
            let up = format!("0/descriptors/{fd}/../secret");
            let further = format!("0/descriptors/{fd}/../../../../../../etc/passwd");
            let folder = format!("0/descriptors/{fd}/.");
            // The tests' own working folder is no descriptor: only the tree is a folder.
            let ours = fd == tree.as_raw_fd() || !opens(tree, &folder, OFlag::O_PATH);
            ours && !opens(tree, &up, OFlag::O_PATH) && !opens(tree, &further, OFlag::O_PATH)
        })
    }));
}

#[test]
fn changing_what_lies_outside_fails_like_reading_it() {
    if !can_share() {
        return;
    }
    let world = world();
    assert_held(serving(world.path(), false, Filter::Shares, |tree| {
        let follow = FchmodatFlags::FollowSymlink;
        ["0/../secret", "0/absolute/secret", "0/sub/up/secret"].iter().all(|way| {
            fchmodat(tree, *way, Mode::empty(), follow).is_err()
                && unlinkat(tree, *way, UnlinkatFlags::NoRemoveDir).is_err()
                && linkat(tree, *way, tree, "0/stolen", nix::fcntl::AtFlags::empty()).is_err()
                && symlinkat("x", tree, *way).is_err()
        }) && mkdirat(tree, "new", BITS).is_err()
            && mkdirat(tree, "0/../new", BITS).is_err()
            && unlinkat(tree, "1", UnlinkatFlags::NoRemoveDir).is_err()
            && unlinkat(tree, "0", UnlinkatFlags::RemoveDir).is_err()
    }));
    assert!(world.path().join("single").exists());
}

#[test]
fn read_only_holds_for_every_call() {
    if !can_share() {
        return;
    }
    let world = world();
    let before = fs::metadata(world.path().join("src/file")).unwrap();
    for filter in [Filter::Krun, Filter::Shares] {
        assert_held(serving(world.path(), true, filter, |tree| {
            let file = || CString::new("0/file").unwrap();
            let follow = FchmodatFlags::FollowSymlink;
            opens(tree, "0/file", ANY)
                && !opens(tree, "0/file", OFlag::O_RDWR)
                && !opens(tree, "1", OFlag::O_WRONLY)
                && !opens(tree, "0/file", OFlag::O_RDONLY | OFlag::O_TRUNC)
                && !opens(tree, "0/new", NEW)
                && fchmodat(tree, file().as_c_str(), Mode::empty(), follow).is_err()
                && mkdirat(tree, "0/new", BITS).is_err()
                && symlinkat("x", tree, "0/new").is_err()
                && unlinkat(tree, "0/file", UnlinkatFlags::NoRemoveDir).is_err()
                && linkat(tree, "0/file", tree, "0/new", nix::fcntl::AtFlags::empty()).is_err()
        }));
    }
    let after = fs::metadata(world.path().join("src/file")).unwrap();
    assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
}

/// Nothing made in a share lends the caller's rights to other users of the host.
#[test]
fn no_file_gets_set_id_bits_or_another_owner() {
    if !can_share() {
        return;
    }
    let world = world();
    let set_id = [Mode::S_ISUID, Mode::S_ISGID];
    assert_held(serving(world.path(), false, Filter::Shares, |tree| {
        let refused = set_id.iter().all(|bit| {
            let follow = FchmodatFlags::FollowSymlink;
            fchmodat(tree, "0/file", BITS | *bit, follow).is_err()
                && openat(tree, "0/new", NEW, BITS | *bit).is_err()
                && mkdirat(tree, "0/new", BITS | *bit).is_err()
        });
        let none = nix::fcntl::AtFlags::empty();
        let given = |uid: u32| fchownat(tree, "0/file", Some(Uid::from_raw(uid)), None, none);
        refused
            && given(1).is_err()
            && given(0).is_ok()
            && !opens(tree, "0", OFlag::O_TMPFILE | OFlag::O_RDWR)
    }));
    assert!(!world.path().join("src/new").exists());
}

#[test]
fn the_user_is_never_changed_although_it_is_said_to_be() {
    if !can_share() {
        return;
    }
    let world = world();
    assert_held(serving(world.path(), false, Filter::Shares, |tree| {
        // SAFETY: plain numbers.
        let said = unsafe { libc::syscall(libc::SYS_setresuid, -1, 77, -1) == 0 };
        // SAFETY: plain numbers.
        let said = said && unsafe { libc::syscall(libc::SYS_setresgid, -1, 77, -1) == 0 };
        said && nix::unistd::geteuid().is_root() && opens(tree, "0/by-77", NEW)
    }));
    let made = fs::metadata(world.path().join("src/by-77")).unwrap();
    assert_eq!((made.uid(), made.gid()), (Uid::effective().as_raw(), Gid::effective().as_raw()));
}

#[test]
fn serving_files_takes_no_sockets_processes_or_mounts() {
    if !can_share() {
        return;
    }
    let world = world();
    for (what, call) in [
        ("socket", libc::SYS_socket),
        ("execve", libc::SYS_execve),
        ("mount", libc::SYS_mount),
        ("open_tree", libc::SYS_open_tree),
        ("setns", libc::SYS_setns),
        ("setuid", libc::SYS_setuid),
        ("capset", libc::SYS_capset),
        ("name_to_handle_at", libc::SYS_name_to_handle_at),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("renameat", libc::SYS_renameat),
        ("ioctl of anything", libc::SYS_ioctl),
    ] {
        // SAFETY: the call ends the process before it does anything.
        let attempt = |_: &OwnedFd| unsafe { libc::syscall(call, -1, 0, 0, 0, 0) } < 0;
        assert_killed(what, serving(world.path(), false, Filter::Shares, attempt));
    }
}

/// An ordinary caller's files look like root's to the guest, and what root makes there is the caller's.
#[test]
fn ownership_is_translated_for_an_ordinary_user() {
    if !Uid::effective().is_root() || !can_share() {
        return;
    }
    let world = world();
    let theirs = world.path().join("src/theirs");
    File::create(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(4242), Some(4243)).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).unwrap();
    let status = in_child(|| {
        setgroups(&[]).unwrap();
        setgid(Gid::from_raw(4243)).unwrap();
        setuid(Uid::from_raw(4242)).unwrap();
        // As a program that this user has started; whoever gives privileges up must not write its own maps.
        nix::sys::prctl::set_dumpable(true).unwrap();
        let plan = Plan {
            files: Vec::new(),
            devices: &[],
            system: Vec::new(),
            file_size: 0,
            filter: Filter::Shares,
            shares: Some(shares(world.path(), false, (7, 8))),
            rearm: &|| Ok(()),
        };
        let (_, tree) = enter(plan)?;
        let tree = tree.unwrap();
        let Ok(opened) = openat(&tree, "0/theirs", OFlag::O_RDWR, BITS) else { return Ok(false) };
        let seen = fstat(&opened).is_ok_and(|stat| (stat.st_uid, stat.st_gid) == (7, 8));
        Ok(seen && opens(&tree, "0/made", NEW) && !opens(&tree, "0/file", OFlag::O_WRONLY))
    });
    assert_held(status);
    let made = fs::metadata(world.path().join("src/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (4242, 4243));
}
