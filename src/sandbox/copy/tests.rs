//! Copies between two folders, one of which a guest's real session has, and guests that lie.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

use msb_guest::wire::{Decoder, Kind, STDOUT, Side, put_frame};
use tempfile::TempDir;

use super::*;
use crate::agent::Connection;
use crate::agent::tests::{document, idle, run};

/// Archive mode, so that the tests need not be root to give files to root.
const KEEP: CopyOptions = CopyOptions { archive: true, follow: false };
const PLAIN: CopyOptions = CopyOptions { archive: false, follow: false };

fn guest_path(path: &str) -> ByteString {
    path.into()
}

/// A folder with `src/{a,sub/b}`, `file`, `dir/`, `link -> src`, `flink -> file`, `dangling -> new`.
fn tree() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("src/sub")).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("src/a"), "a").unwrap();
    fs::write(root.join("src/sub/b"), vec![b'b'; 300_000]).unwrap();
    fs::write(root.join("file"), "file").unwrap();
    for (target, name) in [("src", "link"), ("file", "flink"), ("new", "dangling")] {
        symlink(target, root.join(name)).unwrap();
    }
    let path = root.canonicalize().unwrap().to_str().unwrap().to_owned();
    (folder, path)
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    ToHost,
    ToGuest,
}

/// Copies with paths relative to two trees and tells what there is afterwards in the second, less what was there before.
fn copied(
    direction: Direction,
    from: &str,
    to: &str,
    options: CopyOptions,
) -> Result<Vec<String>, CopyError> {
    let ((_a, source), (_b, target)) = (tree(), tree());
    let (from, to) = (format!("{source}/{from}"), format!("{target}/{to}"));
    let before = listing(&target);
    run(async {
        let guest = idle();
        let guest = &guest.connection;
        match direction {
            Direction::ToHost => to_host(guest, (&guest_path(&from), Path::new(&to)), options, &|_| {}).await,
            Direction::ToGuest => {
                to_guest(guest, (Path::new(&from), &guest_path(&to)), options, &|_| {}).await
            }
        }
    })?;
    Ok(listing(&target).into_iter().filter(|line| !before.contains(line)).collect())
}

fn listing(root: &str) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
    let told = |entry: walkdir::DirEntry| {
        let kind = if entry.path_is_symlink() {
            "@"
        } else if entry.file_type().is_dir() {
            "/"
        } else {
            ""
        };
        let size =
            if kind.is_empty() { format!(" {}", entry.metadata().unwrap().len()) } else { String::new() };
        format!("{}{kind}{size}", entry.path().strip_prefix(root).unwrap().display())
    };
    entries.map(|entry| told(entry.unwrap())).collect()
}

#[test]
fn copies_land_where_docker_puts_them() {
    let whole =
        |name: &str| ["/", "/a 1", "/sub/", "/sub/b 300000"].map(|rest| format!("{name}{rest}")).to_vec();
    let list = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let follow = CopyOptions { follow: true, ..KEEP };
    let cases = [
        ("src", "dir", KEEP, whole("dir/src")),
        ("src/", "dir/", KEEP, whole("dir/src")),
        ("src/.", "dir", KEEP, whole("dir")[1..].to_vec()),
        ("src", "new", KEEP, whole("new")),
        ("src/.", "new/", KEEP, whole("new")),
        ("src", "dangling", KEEP, whole("new")),
        ("file", "dir", KEEP, list(&["dir/file 4"])),
        ("file", "dir/other", KEEP, list(&["dir/other 4"])),
        ("file", "link", KEEP, list(&["src/file 4"])),
        ("file", "src/a", KEEP, list(&["src/a 4"])),
        ("link", "dir", KEEP, list(&["dir/link@"])),
        ("link", "dir", follow, whole("dir/link")),
        ("link/", "dir", KEEP, whole("dir/link")),
        ("flink", "dir/x", follow, list(&["dir/x 4"])),
        ("src/../src/sub", "dir", KEEP, list(&["dir/sub/", "dir/sub/b 300000"])),
    ];
    for direction in [Direction::ToHost, Direction::ToGuest] {
        for (from, to, options, expected) in &cases {
            let found = copied(direction, from, to, *options).unwrap();
            assert_eq!(&found, expected, "{direction:?} {from} {to}");
        }
    }
}

#[test]
fn what_docker_refuses_is_refused() {
    for direction in [Direction::ToHost, Direction::ToGuest] {
        let error = |from, to| copied(direction, from, to, KEEP).unwrap_err();
        assert!(matches!(error("src", "file"), CopyError::FolderOverFile { .. }));
        assert!(matches!(error("none", "dir"), CopyError::NotFound { path } if path.ends_with("/none")));
        assert!(matches!(error("file/", "dir"), CopyError::NotAFolder { path } if path.ends_with("/file/")));
        assert!(matches!(error("file", "new/"), CopyError::NotFound { path } if path.ends_with("/new/")));
        assert!(matches!(error("file", "src/a/"), CopyError::NotAFolder { .. }));
        assert!(
            matches!(error("file", "no/folder"), CopyError::NotFound { .. }),
            "{:?}",
            error("file", "no/folder")
        );
    }
}

#[test]
fn a_file_does_not_take_the_place_of_a_folder_within_a_copy() {
    let ((_a, source), (_b, target)) = (tree(), tree());
    fs::create_dir_all(format!("{target}/dir/src/a")).unwrap();
    run(async {
        let guest = idle();
        let paths = (&guest_path(&format!("{source}/src")), &*Path::new(&target).join("dir"));
        let error = to_host(&guest.connection, paths, PLAIN, &|_| {}).await.unwrap_err();
        assert!(error.to_string().contains("\"src/a\" in place of the folder"), "{error}");
        let paths = (&*Path::new(&source).join("src"), &guest_path(&format!("{target}/dir")));
        let error = to_guest(&guest.connection, paths, KEEP, &|_| {}).await.unwrap_err();
        let kind = ToolErrorKind::FileOverFolder;
        assert!(matches!(error, CopyError::Guest(ToolError::Failed { kind: k, .. }) if k == kind));
    });
}

#[test]
fn rights_are_kept_in_archive_mode_only() {
    let ((_a, source), (_b, target)) = (tree(), tree());
    fs::set_permissions(format!("{source}/file"), fs::Permissions::from_mode(0o6751)).unwrap();
    let copy = |options, to: &str| {
        run(async {
            let guest = idle();
            let paths = (&guest_path(&format!("{source}/file")), &*Path::new(&target).join(to));
            to_host(&guest.connection, paths, options, &|_| {}).await.unwrap();
        });
        fs::metadata(Path::new(&target).join(to)).unwrap()
    };
    let (plain, kept) = (copy(PLAIN, "plain"), copy(KEEP, "kept"));
    assert_eq!((plain.mode() & 0o7777, plain.uid()), (0o751, nix::unistd::geteuid().as_raw()));
    assert_eq!(kept.mode() & 0o7777, 0o6751);
    assert_eq!(kept.mtime_nsec(), fs::metadata(format!("{source}/file")).unwrap().mtime_nsec());
}

#[test]
fn streams_are_plain_tar() {
    let ((_a, source), (_b, target)) = (tree(), tree());
    run(async {
        let guest = idle();
        let mut tar = Vec::new();
        let from = guest_path(&format!("{source}/src"));
        let copied = to_stream(&guest.connection, &from, &mut tar, PLAIN).await.unwrap();
        assert_eq!(copied.bytes, tar.len() as u64);
        let to = guest_path(&format!("{target}/dir"));
        from_stream(&guest.connection, tar.as_slice(), &to, KEEP).await.unwrap();
        let file = guest_path(&format!("{target}/file"));
        let error = from_stream(&guest.connection, tar.as_slice(), &file, KEEP).await.unwrap_err();
        assert!(matches!(error, CopyError::NotAFolder { .. }));
        let error = from_stream(&guest.connection, &b"no tar at all"[..], &to, KEEP).await.unwrap_err();
        let kind = ToolErrorKind::BadArchive;
        assert!(matches!(error, CopyError::Guest(ToolError::Failed { kind: k, .. }) if k == kind));
    });
    assert_eq!(fs::read(format!("{target}/dir/src/a")).unwrap(), b"a");
}

#[test]
fn progress_is_told() {
    let ((_a, source), (_b, target)) = (tree(), tree());
    let most = std::sync::atomic::AtomicU64::new(0);
    let copied = run(async {
        let guest = idle();
        let paths = (&guest_path(&format!("{source}/src")), &*Path::new(&target).join("dir"));
        let progress = |bytes| most.store(bytes, std::sync::atomic::Ordering::SeqCst);
        to_host(&guest.connection, paths, PLAIN, &progress).await.unwrap()
    });
    assert!(copied.bytes > 300_000 && most.into_inner() == copied.bytes);
}

/// A guest that answers every EXEC with the next of these outputs and a good end, whatever it was asked for.
fn liar(answers: Vec<Vec<u8>>) -> Connection {
    use std::io::{Read, Write};
    let (host, mut guest) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        let mut decoder = Decoder::new(Side::Guest, 1 << 16);
        while let Ok(count @ 1..) = guest.read(decoder.space()) {
            decoder.filled(count);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let Some(answer) = (frame.kind == Kind::Exec).then(|| answers.next()).flatten() else {
                    continue;
                };
                let mut bytes = Vec::new();
                put_frame(&mut bytes, Kind::Data, (frame.stream, STDOUT), &answer);
                put_frame(&mut bytes, Kind::Exited, (frame.stream, 0), br#"{"code":0}"#);
                guest.write_all(&bytes).unwrap();
            }
        }
    });
    Connection::start(host, &document(None)).unwrap()
}

fn found(path: &str, kind: &str) -> Vec<u8> {
    format!(
        r#"{{"path":"{path}","file":{{"kind":"{kind}","size":1,"mode":420,"uid":0,"gid":0,"mtime":[0,0]}}}}"#
    )
    .into_bytes()
}

/// Type, path, link, content.
type RawEntry<'a> = (u8, &'a str, &'a str, &'a [u8]);

fn tar(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (flag, path, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.as_old_mut().linkflag = [*flag];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
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
fn a_guest_that_lies_writes_nothing_else_on_the_host() {
    let attacks: [&[RawEntry<'_>]; 6] = [
        &[(b'0', ".bashrc", "", b"evil")],
        &[(b'0', "../x", "", b"evil")],
        &[(b'0', "/etc/x", "", b"evil")],
        &[(b'2', "asked", "/tmp", b""), (b'0', "asked/x", "", b"evil")],
        &[(b'5', "asked", "", b""), (b'2', "asked/l", "../..", b""), (b'0', "asked/l/x", "", b"evil")],
        &[(b'1', "asked", "../secret", b"")],
    ];
    for attack in attacks {
        let folder = TempDir::new().unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let stream = [found("/etc/.bashrc", "file"), b"\n".to_vec()].concat();
        let error = run(async {
            let guest = liar(vec![stream, tar(attack)]);
            to_host(&guest, (&guest_path("/x/asked"), &home), PLAIN, &|_| {}).await.unwrap_err()
        });
        assert!(matches!(error, CopyError::Unpack(_)), "{error}");
        let outside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(outside.len(), 2, "{outside:?}");
        let inside = fs::read_dir(&home).unwrap().map(|e| e.unwrap().file_name());
        assert!(inside.into_iter().all(|name| name == "asked"));
    }
}

#[test]
fn an_archive_that_stops_short_is_an_error() {
    let folder = TempDir::new().unwrap();
    let whole = tar(&[(b'0', "asked", "", &[1; 5000])]);
    let stat = [found("/asked", "file"), b"\n".to_vec()].concat();
    let error = run(async {
        let guest = liar(vec![stat, whole[..3000].to_vec()]);
        to_host(&guest, (&guest_path("/asked"), folder.path()), PLAIN, &|_| {}).await.unwrap_err()
    });
    assert!(error.to_string().contains("within the file \"asked\""), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn paths_are_taken_apart_as_written() {
    let told = |path: &'static str| {
        let s = Spelling::of(path.as_bytes());
        (
            std::str::from_utf8(s.path).unwrap(),
            s.is_folder,
            s.contents,
            s.base().map(|b| String::from_utf8(b).unwrap()),
        )
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(told("a/b"), ("a/b", false, false, some("b")));
    assert_eq!(told("a/b//"), ("a/b", true, false, some("b")));
    assert_eq!(told("/a/b/."), ("/a/b", true, true, some("b")));
    assert_eq!(told("."), (".", true, true, None));
    assert_eq!(told("./"), (".", true, false, None));
    assert_eq!(told("/"), ("/", true, false, None));
    assert_eq!(told("/."), ("/", true, true, None));
    assert_eq!(told("a/../b/.."), ("a/../b/..", false, false, None));
    assert_eq!(told("a/b/.."), ("a/b/..", false, false, some("a")));
    assert_eq!(told("a/.b."), ("a/.b.", false, false, some(".b.")));
}
