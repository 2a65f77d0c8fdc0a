//! The file systems of a guest.
//!
//! The root is an overlay of three layers: the writable disk, the image, and below the image a tiny one made here that
//! holds what a container expects and the image may lack: mount points, `/etc/hosts`. So nothing of it is ever written to
//! the writable disk, and a file of the image always wins.

use super::{BootError, grow, machine};
use crate::message::{BootDocument, FILES_DIR, GuestFile, Root};
use crate::session::Layers;
use nix::mount::{MsFlags, mount};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

/// Mount points outside the new root; out of sight once it is entered.
const LOWER: &str = "/lower";
const UPPER: &str = "/upper";
const BASE: &str = "/base";
const ROOT: &str = "/root";

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NOTHING: MsFlags = MsFlags::empty();

/// What finding the agent port takes.
pub(super) fn early() -> Result<(), BootError> {
    for folder in ["/dev", "/sys"] {
        make_folder(Path::new(folder), "early")?;
    }
    attach("early", ("devtmpfs", "devtmpfs"), Path::new("/dev"), MsFlags::MS_NOSUID, "")?;
    attach("early", ("sysfs", "sysfs"), Path::new("/sys"), QUIET, "")?;
    standard_streams()
}

/// Makes sure that descriptors 0, 1 and 2 are taken, so that no file of ours is ever mistaken for one of them.
fn standard_streams() -> Result<(), BootError> {
    loop {
        use std::os::fd::{AsRawFd, IntoRawFd};
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|source| BootError::Path { stage: "early", path: "/dev/null".into(), source })?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        let _stays_open = null.into_raw_fd();
    }
}

/// Mounts image and writable disk and lays them over each other at `ROOT`. Gives the root of the writable disk.
pub(super) fn root(document: &BootDocument) -> Result<(File, Layers), BootError> {
    let Root { lower_device, lower_type, upper_device, upper_type, grow, ephemeral } = &document.root;
    for folder in [LOWER, UPPER, BASE, ROOT] {
        make_folder(Path::new(folder), "early")?;
    }
    attach("lower", (lower_device, lower_type), Path::new(LOWER), MsFlags::MS_RDONLY, "")?;
    let options = upper_options(upper_type, *ephemeral);
    attach("upper", (upper_device, upper_type), Path::new(UPPER), NOTHING, options)?;
    let disk = File::open(UPPER).map_err(|source| path_error("upper", UPPER, source))?;
    if *grow && upper_type == "ext4" {
        grow::ext4(Path::new(upper_device), &disk)?;
    }
    for folder in ["upper", "work"] {
        make_folder(&Path::new(UPPER).join(folder), "upper")?;
    }
    base_layer(document)?;
    // `redirect_dir`: a folder of the image can be renamed like any other. `metacopy`: changing the owner or mode of a file
    // does not copy its contents. `volatile`: nothing is synced to a disk that is thrown away.
    let volatile = if *ephemeral { ",volatile" } else { "" };
    let options = format!(
        "lowerdir={LOWER}:{BASE},upperdir={UPPER}/upper,workdir={UPPER}/work,redirect_dir=on,metacopy=on,xino=auto{volatile}"
    );
    attach("overlay", ("overlay", "overlay"), Path::new(ROOT), NOTHING, &options)?;
    if !document.files.is_empty() {
        files(&document.files)?;
    }
    // Neither has a path once the root is entered.
    let layer = |path: &str| {
        File::open(path).map(OwnedFd::from).map_err(|source| path_error("overlay", path, source))
    };
    let layers = Layers { upper: layer(&format!("{UPPER}/upper"))?, lower: layer(LOWER)? };
    Ok((disk, layers))
}

/// Mount options of the writable disk. The tables of free inodes are zero on a sparse disk, so the kernel need not write
/// zeros to them in the background; and what is thrown away need not be flushed through the host's caches.
fn upper_options(kind: &str, ephemeral: bool) -> &'static str {
    match (kind, ephemeral) {
        ("ext4", true) => "noinit_itable,nobarrier",
        ("ext4", false) => "noinit_itable",
        _ => "",
    }
}

/// Fills the lowest layer.
fn base_layer(document: &BootDocument) -> Result<(), BootError> {
    let hostname = machine::hostname(&document.hostname);
    let base = Path::new(BASE);
    for folder in ["proc", "sys", "dev", "etc"] {
        make_folder(&base.join(folder), "overlay")?;
    }
    if !document.files.is_empty() {
        make_folder(&base.join(FILES_DIR.trim_start_matches('/')), "overlay")?;
    }
    let own = document.network.iter().flat_map(|network| &network.known_as).map(ToString::to_string);
    let mut own: Vec<String> = own.collect();
    if own.is_empty() {
        own.push("127.0.1.1".to_owned());
    }
    let own: String = own.iter().map(|address| format!("{address}\t{hostname}\n")).collect();
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}");
    let write = |name, text: &str| {
        let path = base.join(name);
        fs::write(&path, text).map_err(|source| BootError::Path { stage: "overlay", path, source })
    };
    if document.network.is_some() {
        // Something to mount the name servers over.
        write("etc/resolv.conf", "")?;
    }
    write("etc/hosts", &hosts)
}

/// Puts the files of the boot document into a tmpfs of their own.
fn files(files: &[GuestFile]) -> Result<(), BootError> {
    let folder = Path::new(ROOT).join(FILES_DIR.trim_start_matches('/'));
    must_be_folder(&folder, "files")?;
    attach("files", ("tmpfs", "tmpfs"), &folder, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    for file in files {
        let relative = file.checked_path().map_err(|e| BootError::Document(e.to_string()))?;
        let path = folder.join(relative);
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
            .and_then(|mut out| {
                out.write_all(file.contents.as_bytes())?;
                // Set apart from creating it, so that the umask has no say.
                out.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))
            });
        written.map_err(|source| BootError::Path { stage: "files", path, source })?;
    }
    Ok(())
}

/// Mounts what a container expects inside the new root and makes it the root of everything.
pub(super) fn enter_root() -> Result<(), BootError> {
    let call = |call, result: nix::Result<()>| {
        result.map_err(|e| BootError::Call { stage: "root", call, source: e.into() })
    };
    call("chdir to the new root", nix::unistd::chdir(ROOT))?;
    for folder in ["dev", "sys", "proc"] {
        must_be_folder(Path::new(folder), "root")?;
    }
    for (from, to) in [("/dev", "dev"), ("/sys", "sys")] {
        call("move a mount", mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>))?;
    }
    attach("root", ("proc", "proc"), Path::new("proc"), QUIET, "")?;
    for folder in ["dev/pts", "dev/shm", "dev/mqueue"] {
        make_folder(Path::new(folder), "root")?;
    }
    let pts = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    attach("root", ("devpts", "devpts"), Path::new("dev/pts"), pts, "gid=5,mode=620,ptmxmode=666")?;
    attach(
        "root",
        ("shm", "tmpfs"),
        Path::new("dev/shm"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        "mode=1777",
    )?;
    optional(("mqueue", "mqueue"), Path::new("dev/mqueue"), QUIET, "");
    optional(("cgroup2", "cgroup2"), Path::new("sys/fs/cgroup"), QUIET, "nsdelegate,memory_recursiveprot");
    for (link, target) in [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
    ] {
        match symlink(target, link) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(path_error("root", link, source));
            }
            _ => {}
        }
    }
    call("move the root", mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>))?;
    call("chroot", nix::unistd::chroot("."))?;
    call("chdir /", nix::unistd::chdir("/"))
}

/// Mounts `what` = (source, type).
fn attach(
    stage: &'static str,
    what: (&str, &str),
    target: &Path,
    flags: MsFlags,
    data: &str,
) -> Result<(), BootError> {
    let (source, kind) = what;
    let data = Some(data).filter(|d| !d.is_empty());
    mount(Some(source), target, Some(kind), flags, data).map_err(|e| BootError::Mount {
        stage,
        what: if source == kind { kind.to_owned() } else { format!("{source} ({kind})") },
        target: target.to_owned(),
        source: e.into(),
    })
}

/// Mounts what a kernel may have been built without; programs that need it will say so themselves.
fn optional(what: (&str, &str), target: &Path, flags: MsFlags, data: &str) {
    let _ = attach("root", what, target, flags, data);
}

fn make_folder(path: &Path, stage: &'static str) -> Result<(), BootError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            Err(BootError::Path { stage, path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Nothing is mounted through a link or over a file that an image has where a folder belongs.
fn must_be_folder(path: &Path, stage: &'static str) -> Result<(), BootError> {
    let found = fs::symlink_metadata(path);
    let error = match found {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => ErrorKind::NotADirectory.into(),
        Err(source) => source,
    };
    Err(path_error(stage, path, error))
}

fn path_error(stage: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> BootError {
    BootError::Path { stage, path: path.as_ref().to_owned(), source }
}
