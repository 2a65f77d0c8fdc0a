//! The guest's own tools, run by the guest program that is packed into this build.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn bytes(path: &Path) -> ByteString {
    path.as_os_str().to_owned().into()
}

fn tree() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("from/deep")).unwrap();
    fs::write(folder.path().join("from/deep/file"), vec![7; 3 << 20]).unwrap();
    fs::set_permissions(folder.path().join("from/deep/file"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("deep/file", folder.path().join("from/link")).unwrap();
    fs::create_dir(folder.path().join("to")).unwrap();
    folder
}

fn kind(error: ToolError) -> ToolErrorKind {
    match error {
        ToolError::Failed { kind, .. } => kind,
        other => panic!("{other:?}"),
    }
}

async fn archive(connection: &Connection, spec: TarOut) -> Result<Vec<u8>, ToolError> {
    let mut copy = copy_out(connection, spec)?;
    let mut all = Vec::new();
    while let Some(bytes) = copy.read().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

#[test]
fn a_tree_goes_out_and_in_again() {
    let folder = tree();
    run(async {
        let guest = idle();
        let path = bytes(&folder.path().join("from"));
        let out = TarOut { path, name: Some("copy".into()), ..TarOut::default() };
        let tar = archive(&guest.connection, out).await.unwrap();
        let owner = Some((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        let spec = TarIn { folder: bytes(&folder.path().join("to")), owner, replace: false };
        let mut copy = copy_in(&guest.connection, spec).unwrap();
        for part in tar.chunks(100_000) {
            copy.write_all(part).await.unwrap();
        }
        copy.finish().await.unwrap();
    });
    let copy = folder.path().join("to/copy");
    assert_eq!(fs::read(copy.join("link")).unwrap(), vec![7; 3 << 20]);
    let (was, is) = (folder.path().join("from/deep/file"), copy.join("deep/file"));
    let told =
        |path: &Path| fs::metadata(path).map(|m| (m.mode(), m.mtime(), m.mtime_nsec(), m.size())).unwrap();
    assert_eq!(told(&is), told(&was));
}

#[test]
fn stat_resolves_and_says_what_is_there() {
    let folder = tree();
    let real = folder.path().canonicalize().unwrap();
    run(async {
        let guest = idle();
        let look = async |name: &str, follow| {
            stat(&guest.connection, Stat { path: bytes(&real.join(name)), follow }).await
        };
        let link = look("from/link", false).await.unwrap();
        assert_eq!(link.path, bytes(&real.join("from/link")));
        let file = link.file.unwrap();
        assert_eq!((file.kind, file.target), (FileKind::Symlink, Some("deep/file".into())));
        let followed = look("from/link", true).await.unwrap();
        assert_eq!(followed.path, bytes(&real.join("from/deep/file")));
        let file = followed.file.unwrap();
        assert_eq!((file.kind, file.size, file.mode, file.target), (FileKind::File, 3 << 20, 0o640, None));
        assert_eq!(look("from/../to/.", true).await.unwrap().file.unwrap().kind, FileKind::Folder);
        let missing = look("to/new", true).await.unwrap();
        assert_eq!(missing, Found { path: bytes(&real.join("to/new")), file: None });
        assert_eq!(kind(look("none/new", true).await.unwrap_err()), ToolErrorKind::NotFound);
        assert_eq!(kind(look("from/link/x", true).await.unwrap_err()), ToolErrorKind::NotAFolder);
    });
}

#[test]
fn a_circle_of_links_is_an_error() {
    let folder = TempDir::new().unwrap();
    symlink("b", folder.path().join("a")).unwrap();
    symlink("a", folder.path().join("b")).unwrap();
    run(async {
        let guest = idle();
        let path = bytes(&folder.path().join("a"));
        let error = stat(&guest.connection, Stat { path, follow: true }).await.unwrap_err();
        assert!(error.to_string().contains("symbolic links"), "{error}");
    });
}

#[test]
fn failures_have_a_kind_and_name_the_path() {
    let folder = tree();
    run(async {
        let guest = idle();
        let path = bytes(&folder.path().join("none"));
        let error = archive(&guest.connection, TarOut { path, ..TarOut::default() }).await.unwrap_err();
        assert!(error.to_string().contains("/none: "), "{error}");
        assert_eq!(kind(error), ToolErrorKind::NotFound);
        let spec = TarIn { folder: bytes(&folder.path().join("from/link")), ..TarIn::default() };
        let copy = copy_in(&guest.connection, spec).unwrap();
        assert_eq!(kind(copy.finish().await.unwrap_err()), ToolErrorKind::NotAFolder);
    });
}

#[test]
fn an_archive_that_is_refused_ends_the_sending_with_the_reason() {
    let folder = tree();
    run(async {
        let guest = idle();
        let spec = TarIn { folder: bytes(&folder.path().join("to")), ..TarIn::default() };
        let mut copy = copy_in(&guest.connection, spec).unwrap();
        let error = loop {
            if let Err(error) = copy.write_all(&[b'x'; 4096]).await {
                break error;
            }
        };
        assert_eq!(kind(error), ToolErrorKind::BadArchive);
    });
}

#[test]
fn a_program_and_a_tool_are_not_both_run() {
    run(async {
        let guest = idle();
        let spec = ExecSpec { tool: Some(Tool::Diff), ..argv(&["true"]) };
        let outcome = guest.connection.exec(&spec).unwrap().control.wait().await.unwrap();
        assert!(matches!(outcome, Outcome::Failed(failed) if failed.message.contains("both")));
        let mut changes = changes(&guest.connection).unwrap();
        let error = changes.next().await.unwrap_err();
        assert!(matches!(error, ToolError::NotStarted(_)), "this guest has no layers: {error}");
    });
}

/// Two folders as overlayfs would see them; its attributes and whiteouts need privilege.
fn layers(folder: &Path) -> Layers {
    let open = |name: &str| File::open(folder.join(name)).unwrap().into();
    Layers { upper: open("upper"), lower: open("lower") }
}

async fn told(folder: &Path) -> Vec<String> {
    let guest = start_over(&document(None), Some(layers(folder)));
    let mut changes = changes(&guest.connection).unwrap();
    let mut told = Vec::new();
    while let Some(change) = changes.next().await.unwrap() {
        told.push(format!("{:?} {}", change.kind, String::from_utf8_lossy(change.path.as_bytes())));
    }
    told.sort();
    told
}

fn script(folder: &Path, script: &str) {
    let status = std::process::Command::new("sh").args(["-ec", script]).current_dir(folder).status();
    assert!(status.unwrap().success());
}

#[test]
fn changes_are_what_the_upper_layer_has() {
    let folder = TempDir::new().unwrap();
    script(
        folder.path(),
        "mkdir -p lower/etc lower/usr/bin upper/etc upper/usr/bin upper/new/deep
         echo 1 > lower/etc/passwd; echo 2 > upper/etc/passwd; echo 3 > upper/etc/added; echo > upper/new/deep/x
         touch -d @1 lower/usr upper/usr lower/usr/bin upper/usr/bin; touch -d @5 lower/etc; echo > upper/usr/kind; mkdir lower/usr/kind
         touch -d @1 upper/usr lower/usr",
    );
    let expected = [
        "Added /etc/added",
        "Added /new",
        "Added /new/deep",
        "Added /new/deep/x",
        "Changed /etc",
        "Changed /etc/passwd",
        "Changed /usr/kind",
    ];
    assert_eq!(run(told(folder.path())), expected);
}

/// On machines where tests have the privilege.
#[test]
fn deleted_moved_and_emptied_folders_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let privileged = std::process::Command::new("sh")
        .args(["-ec", "mkdir upper lower; mknod upper/gone c 0 0; command -v python3"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    if !privileged.status.success() {
        return;
    }
    script(
        folder.path(),
        "mkdir -p lower/old/sub lower/emptied/keep lower/stays; echo > lower/old/sub/f; echo > lower/gone; echo > lower/emptied/a
         mkdir -p upper/moved upper/emptied; echo > upper/emptied/b; mknod upper/old c 0 0; mknod upper/never c 0 0; mkdir upper/moved/new
         python3 -c 'import os; os.setxattr(\"upper/emptied\", \"trusted.overlay.opaque\", b\"y\"); os.setxattr(\"upper/moved\", \"trusted.overlay.redirect\", b\"/old\")'
         touch -d @1 upper/emptied lower/emptied",
    );
    let expected = [
        "Added /emptied/b",
        "Added /moved",
        "Added /moved/new",
        "Added /moved/sub",
        "Added /moved/sub/f",
        "Deleted /emptied/a",
        "Deleted /emptied/keep",
        "Deleted /gone",
        "Deleted /old",
    ];
    assert_eq!(run(told(folder.path())), expected);
}

#[test]
fn metrics_come_once_or_until_nobody_listens() {
    run(async {
        let guest = idle();
        let mut once = metrics(&guest.connection, MetricsSpec { interval_ms: None, processes: 3 }).unwrap();
        let first = once.next().await.unwrap().unwrap();
        assert!(first.cpu.count > 0 && first.cpu.total_ns > 0 && first.memory.total > first.memory.used);
        assert!(first.disk.size > 0 && first.uptime_ns > 0 && first.process_count > 0);
        assert!((1..=3).contains(&first.processes.len()), "{:?}", first.processes);
        assert!(first.processes.windows(2).all(|pair| pair[0].cpu_ns >= pair[1].cpu_ns));
        assert_eq!(once.next().await.unwrap(), None);
        let mut watch =
            metrics(&guest.connection, MetricsSpec { interval_ms: Some(1), processes: 0 }).unwrap();
        let (a, b) = (watch.next().await.unwrap().unwrap(), watch.next().await.unwrap().unwrap());
        assert!(b.uptime_ns > a.uptime_ns && a.processes.is_empty());
    });
}

#[test]
fn the_clock_is_passed_on() {
    run(async {
        let guest = idle();
        let then = std::time::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123);
        guest.connection.set_clock(then).unwrap();
        // Frames are obeyed in order.
        all_of(&guest.connection, argv(&["true"])).await;
        assert_eq!(CLOCK.load(Ordering::SeqCst), 1_234_567_890_123);
    });
}

#[test]
fn a_clock_that_runs_on_is_no_jump() {
    run(async {
        let watch = ClockWatch::new().unwrap();
        tokio::select! {
            biased;
            jumped = watch.jumped() => panic!("{jumped:?}"),
            () = tokio::task::yield_now() => {}
        }
    });
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    for path in ["", "etc", "/a/../b", "/a\0"] {
        let change = format!(r#"{{"kind":"A","path":{}}}"#, serde_json::to_string(path).unwrap());
        assert!(matches!(parse_change(change.as_bytes()), Err(ToolError::Answer(_))), "{path:?}");
        let found = format!(r#"{{"path":{}}}"#, serde_json::to_string(path).unwrap());
        assert!(matches!(parse_found(found.as_bytes()), Err(ToolError::Answer(_))), "{path:?}");
    }
    assert!(parse_change(br#"{"kind":"X","path":"/a"}"#).is_err());
    assert_eq!(parse_change(br#"{"kind":"D","path":"/a\nb"}"#).unwrap().path, "/a\nb".into());
    let metrics = parse_metrics(
        br#"{"uptime_ns":1,"processes":[{"pid":1,"uid":0,"command":"a\u001b[31m","state":"\u0007","cpu_ns":1,"memory":1}]}"#,
    );
    let process = metrics.unwrap().processes.remove(0);
    assert_eq!((process.command, process.state), ("a\u{fffd}[31m".into(), '?'));
    assert!(matches!(parse_tool_error(b"boo"), ToolError::Answer(_)));
    let error = parse_tool_error(br#"{"kind":"from_the_future","message":"a\u0007b"}"#);
    assert!(
        matches!(error, ToolError::Failed { kind: ToolErrorKind::Other, ref message } if message == "a\u{fffd}b")
    );
}
