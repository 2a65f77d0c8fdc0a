//! Trees to archives and back, other programs' archives, and archives made to do harm.
#![allow(clippy::unwrap_used)]

use msb_guest::archive::{
    Entry, Headers, Limits, Owner, PackOptions, UnpackError, UnpackOptions, Unpacked, pack, unpack,
};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn cautious() -> UnpackOptions {
    UnpackOptions { owner: Owner::Caller, privileged: false, replace: false, only: None }
}

fn packed(source: &Path, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    pack(source, PackOptions { name: name.into(), ..PackOptions::default() }, &mut out).unwrap();
    out
}

fn unpacked(tar: &[u8], into: &Path, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    unpack(tar, File::open(into).unwrap().as_fd(), options)
}

fn shell(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A tree with one of everything that needs no privilege.
fn tree() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("tree");
    fs::create_dir_all(root.join("a/empty")).unwrap();
    fs::write(root.join("a/file"), "hello").unwrap();
    fs::write(root.join("none"), "").unwrap();
    fs::write(root.join("x".repeat(200)), "long name").unwrap();
    fs::hard_link(root.join("a/file"), root.join("again")).unwrap();
    symlink("../outside/of/it", root.join("link")).unwrap();
    symlink("y".repeat(300), root.join("far")).unwrap();
    let holes = File::create(root.join("holes")).unwrap();
    holes.write_all_at(b"start", 0).unwrap();
    holes.write_all_at(b"middle", 1 << 20).unwrap();
    holes.set_len(8 << 20).unwrap();
    shell(
        &root,
        "mkfifo pipe; chmod 4751 none; chmod 500 a/empty; touch -h -d '1965-03-04 05:06:07.123456789' again none a link a/empty",
    );
    folder
}

/// Paths, kinds, modes, times, targets and contents.
fn listing(root: &Path) -> String {
    let script = "find . -printf '%P %y %m %T+ %n %l %s ' \\( -type f -exec sha256sum {} ';' -o -printf '\\n' \\) | sed 's/^ d \\(.*\\)$/ d/' | sort";
    shell(root, script)
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let source = tree();
    let target = TempDir::new().unwrap();
    let tar = packed(&source.path().join("tree"), "copy");
    let options = UnpackOptions { owner: Owner::Caller, privileged: true, ..cautious() };
    unpacked(&tar, target.path(), &options).unwrap();
    assert_eq!(listing(&target.path().join("copy")), listing(&source.path().join("tree")));
    let holes = fs::metadata(target.path().join("copy/holes")).unwrap();
    assert!(holes.blocks() * 512 < 1 << 20, "holes stay holes: {}", holes.blocks());
    assert!(tar.len() < 1 << 20, "and take no room on the way: {}", tar.len());
}

#[test]
fn gnu_tar_reads_what_is_packed() {
    let source = tree();
    let target = TempDir::new().unwrap();
    fs::write(target.path().join("x.tar"), packed(&source.path().join("tree"), "copy")).unwrap();
    shell(target.path(), "tar -xpf x.tar");
    assert_eq!(listing(&target.path().join("copy")), listing(&source.path().join("tree")));
}

#[test]
fn every_format_of_gnu_tar_is_unpacked() {
    let source = tree();
    let expected = listing(&source.path().join("tree"));
    for options in ["--format=pax", "--format=pax --sparse", "--format=pax --sparse --sparse-version=0.1"] {
        let target = TempDir::new().unwrap();
        let tar = target.path().join("x.tar");
        shell(source.path(), &format!("tar {options} -cf {} tree", tar.display()));
        let options = UnpackOptions { privileged: true, ..cautious() };
        unpacked(&fs::read(&tar).unwrap(), target.path(), &options).unwrap();
        assert_eq!(listing(&target.path().join("tree")), expected);
    }
    // The old format knows whole seconds only.
    let target = TempDir::new().unwrap();
    let tar = target.path().join("x.tar");
    shell(source.path(), &format!("tar --format=gnu --sparse -cf {} tree", tar.display()));
    unpacked(&fs::read(&tar).unwrap(), target.path(), &cautious()).unwrap();
    let holes = fs::metadata(target.path().join("tree/holes")).unwrap();
    assert_eq!((holes.len(), holes.blocks() * 512 < 1 << 20), (8 << 20, true));
    assert_eq!(fs::read(target.path().join("tree").join("x".repeat(200))).unwrap(), b"long name");
}

#[test]
fn a_single_file_or_link_is_packed_under_the_name_given() {
    let source = tree();
    let target = TempDir::new().unwrap();
    unpacked(&packed(&source.path().join("tree/a/file"), "other"), target.path(), &cautious()).unwrap();
    assert_eq!(fs::read(target.path().join("other")).unwrap(), b"hello");
    unpacked(&packed(&source.path().join("tree/link"), "link"), target.path(), &cautious()).unwrap();
    assert_eq!(fs::read_link(target.path().join("link")).unwrap(), Path::new("../outside/of/it"));
}

#[test]
fn files_of_the_kernel_have_the_size_they_are_read_with() {
    let target = TempDir::new().unwrap();
    unpacked(&packed(Path::new("/proc/self/status"), "status"), target.path(), &cautious()).unwrap();
    assert!(fs::read_to_string(target.path().join("status")).unwrap().contains("\nPid:"));
}

#[test]
fn a_file_that_changes_does_not_break_the_archive() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![b'x'; 4 << 20], 0).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let packing = std::thread::spawn({
        let path = folder.path().to_owned();
        move || pack(&path, PackOptions::default(), writer).unwrap()
    });
    // The pipe is far smaller than the file, so the file is cut while it is read.
    let mut headers = Headers::new(reader, Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = headers.next().unwrap() {
        file.set_len(100).unwrap();
        let size = std::io::copy(&mut headers.body(&entry), &mut std::io::sink()).unwrap();
        found.push((String::from_utf8(entry.path).unwrap(), size));
    }
    assert_eq!(found, [("./".into(), 0), ("./log".into(), 4 << 20)]);
    packing.join().unwrap();
}

/// Type, path, link, mode, content.
type RawEntry<'a> = (u8, &'a str, &'a str, u32, &'a [u8]);

fn raw(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (flag, path, link, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.as_old_mut().linkflag = [*flag];
        header.set_mode(*mode);
        header.set_uid(1);
        header.set_gid(1);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn nothing_leaves_the_folder() {
    let outside = TempDir::new().unwrap();
    let away = outside.path().to_str().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let link_out = (b'2', "link", away, 0o777, &b""[..]);
    let cases: [(&[RawEntry<'_>], &str); 8] = [
        (&[(b'0', "../evil", "", 0o644, b"x")], "leads out of the folder"),
        (&[(b'0', "a/../../evil", "", 0o644, b"x")], "leads out of the folder"),
        (&[link_out, (b'0', "link/evil", "", 0o644, b"x")], "cannot open the folder \"link\""),
        (&[link_out, (b'5', "link", "", 0o755, b"")], "in place of what is there"),
        (&[link_out, (b'0', "link/d/evil", "", 0o644, b"x")], "cannot open the folder \"link\""),
        (&[link_out, (b'1', "stolen", "link/secret", 0o644, b"")], "cannot open the folder \"link\""),
        (&[(b'1', "stolen", "../secret", 0o644, b"")], "leads out of the folder"),
        (&[(b'0', "", "", 0o644, b"x")], "it has no name"),
    ];
    for (entries, reason) in cases {
        let target = TempDir::new_in(outside.path()).unwrap();
        let error = unpacked(&raw(entries), target.path(), &cautious()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        drop(target);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{reason}");
    }
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

#[test]
fn a_link_that_was_there_before_is_replaced_not_followed() {
    let target = TempDir::new().unwrap();
    let into = target.path().join("into");
    fs::create_dir(&into).unwrap();
    fs::write(target.path().join("precious"), "precious").unwrap();
    symlink("../precious", into.join("name")).unwrap();
    unpacked(&raw(&[(b'0', "name", "", 0o600, b"new")]), &into, &cautious()).unwrap();
    assert_eq!(fs::read(target.path().join("precious")).unwrap(), b"precious");
    assert_eq!(fs::read(into.join("name")).unwrap(), b"new");
    assert!(fs::symlink_metadata(into.join("name")).unwrap().is_file());
}

#[test]
fn only_the_name_asked_for_is_made() {
    let only = UnpackOptions { only: Some(b"wanted".into()), ..cautious() };
    let cases: [&[RawEntry<'_>]; 3] = [
        &[(b'0', ".bashrc", "", 0o644, b"evil")],
        &[(b'0', "wantedx", "", 0o644, b"evil")],
        &[(b'1', "wanted", "other", 0o644, b"")],
    ];
    for entries in cases {
        let target = TempDir::new().unwrap();
        fs::write(target.path().join("other"), "").unwrap();
        let error = unpacked(&raw(entries), target.path(), &only).unwrap_err().to_string();
        assert!(error.contains("not what was asked for"), "{error}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    }
    let target = TempDir::new().unwrap();
    let entries = raw(&[(b'5', "./wanted/", "", 0o755, b""), (b'0', "wanted/a", "", 0o644, b"fine")]);
    unpacked(&entries, target.path(), &only).unwrap();
    assert_eq!(fs::read(target.path().join("wanted/a")).unwrap(), b"fine");
}

#[test]
fn rights_and_devices_come_only_when_asked_for() {
    let target = TempDir::new().unwrap();
    let tar = raw(&[(b'0', "su", "", 0o6755, b"x"), (b'3', "null", "", 0o666, b"")]);
    let done = unpacked(&tar, target.path(), &cautious()).unwrap();
    assert_eq!((done.entries, done.left_out), (2, 1));
    let su = fs::metadata(target.path().join("su")).unwrap();
    assert_eq!(su.permissions().mode() & 0o7777, 0o755);
    assert_eq!((su.uid(), su.mtime()), (nix::unistd::geteuid().as_raw(), 1));
    assert!(!target.path().join("null").exists());
    if nix::unistd::geteuid().is_root() {
        let options = UnpackOptions { owner: Owner::Fixed(7, 8), privileged: true, ..cautious() };
        unpacked(&tar, target.path(), &options).unwrap();
        let su = fs::metadata(target.path().join("su")).unwrap();
        assert_eq!((su.permissions().mode() & 0o7777, su.uid(), su.gid()), (0o6755, 7, 8));
    }
}

#[test]
fn files_and_folders_replace_each_other_only_when_asked_to() {
    let file_over_folder = raw(&[(b'0', "d", "", 0o644, b"x")]);
    let folder_over_file = raw(&[(b'5', "f", "", 0o755, b"")]);
    let target = TempDir::new().unwrap();
    shell(target.path(), "mkdir -p d/e/f d/g; echo 1 > d/e/f/h; ln -s / d/g/root; echo 1 > f");
    let error = unpacked(&file_over_folder, target.path(), &cautious()).unwrap_err();
    assert!(matches!(error, UnpackError::FileOverFolder { ref path } if path == "d"), "{error}");
    let error = unpacked(&folder_over_file, target.path(), &cautious()).unwrap_err();
    assert!(matches!(error, UnpackError::FolderOverFile { ref path } if path == "f"), "{error}");
    let replace = UnpackOptions { replace: true, ..cautious() };
    unpacked(&file_over_folder, target.path(), &replace).unwrap();
    unpacked(&folder_over_file, target.path(), &replace).unwrap();
    assert!(target.path().join("d").is_file() && target.path().join("f").is_dir());
}

#[test]
fn half_a_file_is_not_left_behind() {
    let target = TempDir::new().unwrap();
    let tar = raw(&[(b'0', "whole", "", 0o644, &[1; 600]), (b'0', "half", "", 0o644, &[1; 5000])]);
    let error = unpacked(&tar[..4000], target.path(), &cautious()).unwrap_err().to_string();
    assert!(error.contains("within the file \"half\""), "{error}");
    assert!(target.path().join("whole").exists() && !target.path().join("half").exists());
}

#[test]
fn a_consumer_that_goes_away_ends_the_packing() {
    let source = tree();
    fs::write(source.path().join("tree/large"), vec![1; 4 << 20]).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let error = pack(source.path(), PackOptions::default(), writer).unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn what_is_read_is_what_was_written() {
    // A pipe to a real tar and back, so that neither side of this crate vouches for the other.
    let source = tree();
    let mut tar =
        Command::new("tar").args(["-tvf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = tar.stdin.take().unwrap();
    pack(source.path().join("tree").as_path(), PackOptions::default(), input).unwrap();
    let listed = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
    let mut headers =
        Headers::new(std::io::Cursor::new(packed(&source.path().join("tree"), "")), Limits::default());
    let mut paths = Vec::new();
    while let Some(entry) = headers.next().unwrap() {
        let Entry { path, .. } = &entry;
        paths.push(String::from_utf8(path.clone()).unwrap());
        std::io::copy(&mut headers.body(&entry), &mut std::io::sink()).unwrap();
    }
    assert_eq!(listed.lines().count(), paths.len());
    assert!(paths.iter().all(|path| listed.contains(path.as_str())), "{listed}");
}
