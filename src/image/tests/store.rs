//! The store's own behaviour: moved, damaged, unwritable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::fake_registry::{FakeRegistry, Parts};
use super::*;

struct Filled {
    keep: tempfile::TempDir,
    fake: FakeRegistry,
    store: Store,
    image: Image,
}

fn filled() -> Filled {
    let fake = FakeRegistry::with(&Parts::new(10_000));
    let keep = tempfile::tempdir().unwrap();
    let store = Store::open(&keep.path().join("cache")).unwrap();
    let image = store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap();
    Filled { keep, fake, store, image }
}

#[test]
fn a_moved_store_describes_its_disks_anew() {
    let Filled { keep, fake, store, image } = filled();
    let moved = keep.path().join("moved");
    fs::rename(store.root(), &moved).unwrap();
    assert!(store.find(&fake.reference()).unwrap().is_none());
    let store = Store::open(&moved).unwrap();
    let found = store.find(&fake.reference()).unwrap().unwrap();
    assert_sound(&found);
    assert_eq!((found.digest, found.disk.starts_with(&moved)), (image.digest, true));
    fs::remove_file(&found.disk).unwrap();
    assert_sound(&store.find(&fake.reference()).unwrap().unwrap());
}

#[test]
fn damage_counts_as_absence_and_a_pull_mends_it() {
    let Filled { keep: _keep, fake, store, image } = filled();
    let folder = image.disk.parent().unwrap().to_path_buf();
    let refs = walkdir::WalkDir::new(store.root().join("refs")).into_iter().filter_map(Result::ok);
    let name = refs.filter(|entry| entry.file_type().is_file()).last().unwrap().into_path();
    let mut victims = image.extents.clone();
    victims.extend([folder.join("config.json"), name]);
    let damages: [&dyn Fn(&Path); 2] =
        [&|path| fs::remove_file(path).unwrap(), &|path| fs::write(path, "").unwrap()];
    for victim in &victims {
        for damage in damages {
            damage(victim);
            assert!(store.find(&fake.reference()).unwrap().is_none(), "{}", victim.display());
            let _ = store.list().unwrap();
            let image = store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap();
            assert_sound(&image);
            assert_sound(&store.find(&fake.reference()).unwrap().unwrap());
        }
    }
    let half = fs::metadata(&image.extents[1]).unwrap().len() / 2;
    fs::OpenOptions::new().write(true).open(&image.extents[1]).unwrap().set_len(half).unwrap();
    fs::remove_file(&image.disk).unwrap();
    assert!(store.find(&fake.reference()).unwrap().is_none());
    assert_sound(&store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap());
}

#[test]
fn what_an_older_msb_wrote_with_larger_blocks_is_fetched_again() {
    let Filled { keep: _keep, fake, store, image } = filled();
    for extent in &image.extents {
        let old = fs::File::options().write(true).open(extent).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&old, &[12], 1024 + 12).unwrap();
    }
    assert!(store.find(&fake.reference()).unwrap().is_none());
    assert_sound(&store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap());
}

#[test]
fn files_are_private_and_a_look_up_is_quick() {
    let Filled { keep: _keep, fake, store, .. } = filled();
    for entry in walkdir::WalkDir::new(store.root()) {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", entry.path().display());
    }
    let start = Instant::now();
    for _ in 0..100 {
        store.find(&fake.reference()).unwrap().unwrap();
    }
    // Around 0.1 ms each; the bound leaves room for a busy machine.
    assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
}

#[test]
fn a_full_or_closed_disk_is_named() {
    let full = Path::new("/dev/full");
    let error = std::io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(full).unwrap(), b"x")
        .unwrap_err();
    let error = Error::io("write", Path::new("/cache"), error);
    assert_eq!(error.to_string(), "no space left for images in /cache");
    assert!(error.hint().unwrap().contains("free space"));
    // A folder where a file is wanted stands for everything that cannot be created; root may create anything else.
    let fake = FakeRegistry::with(&Parts::new(10));
    let keep = tempfile::tempdir().unwrap();
    fs::write(keep.path().join("cache"), "a file").unwrap();
    let store = Store::open(&keep.path().join("cache")).unwrap();
    assert!(store.find(&fake.reference()).unwrap().is_none());
    assert!(store.list().unwrap().is_empty());
    let error = store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot create {}/cache", keep.path().display())),
        "{error}"
    );
    let denied = Error::io("create", Path::new("/x"), std::io::ErrorKind::PermissionDenied.into());
    assert!(denied.to_string().starts_with("no permission for /x"));
    assert!(denied.hint().unwrap().contains("MSB_HOME"));
}

#[test]
fn a_store_works_from_inside_a_runtime() {
    let fake = FakeRegistry::with(&Parts::new(10));
    let keep = tempfile::tempdir().unwrap();
    let store = Store::open(keep.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_sound(&store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap());
    });
}
