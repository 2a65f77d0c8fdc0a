#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use super::*;

fn staging() -> (tempfile::TempDir, Staging) {
    let folder = tempfile::tempdir().unwrap();
    let tmp = folder.path().join("tmp");
    make_folder(&tmp).unwrap();
    (folder, Staging::new(tmp))
}

const NOT_READY: Waiting<'static> = Waiting { ready: &|| false, started: &|| {}, cancelled: &|| true };

#[test]
fn a_claim_excludes_others_and_vanishes_on_drop() {
    let (_keep, staging) = staging();
    let claim = staging.file("a", &NOT_READY).unwrap().unwrap();
    assert!(matches!(staging.file("a", &NOT_READY), Err(Error::Cancelled)));
    staging.sweep();
    assert!(claim.path().exists(), "a live claim survives a sweep");
    let path = claim.path().to_path_buf();
    drop(claim);
    assert!(!path.exists());
    let folder = staging.folder_for("b", &NOT_READY).unwrap().unwrap();
    assert!(matches!(staging.folder_for("b", &NOT_READY), Err(Error::Cancelled)));
    drop(folder);
    assert_eq!(fs::read_dir(staging.folder()).unwrap().count(), 0);
}

#[test]
fn leftovers_are_taken_over_emptied_or_swept() {
    let (_keep, staging) = staging();
    fs::write(staging.folder().join("file"), "half").unwrap();
    fs::create_dir(staging.folder().join("folder")).unwrap();
    fs::write(staging.folder().join("folder/x"), "half").unwrap();
    let file = staging.file("file", &NOT_READY).unwrap().unwrap();
    assert_eq!(fs::metadata(file.path()).unwrap().len(), 0);
    let folder = staging.folder_for("folder", &NOT_READY).unwrap().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    drop((file, folder));
    fs::write(staging.folder().join("old"), "half").unwrap();
    fs::create_dir_all(staging.folder().join("older/x")).unwrap();
    staging.sweep();
    assert_eq!(fs::read_dir(staging.folder()).unwrap().count(), 0);
}

#[test]
fn many_threads_make_one_thing_once() {
    let (keep, staging) = staging();
    let (target, made, waits) = (keep.path().join("done"), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let started = || {
                    waits.fetch_add(1, Ordering::SeqCst);
                };
                let waiting = Waiting { ready: &|| target.exists(), started: &started, cancelled: &|| false };
                if let Some(claim) = staging.file("thing", &waiting).unwrap() {
                    made.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(120));
                    claim.publish(&target).unwrap();
                }
            });
        }
    });
    assert_eq!((made.into_inner(), fs::read_dir(staging.folder()).unwrap().count()), (1, 0));
    assert!(waits.into_inner() >= 1);
}
