//! Names, removal and pruning, also beside other processes and after kills.

use std::fs;
use std::io::Cursor;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::archive::{Bundle, Spool};
use super::fake_registry::{FakeRegistry, Parts};
use super::load::{File, tar_of};
use super::*;
use crate::image::removal::Expected;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

/// Puts an image of these layers into the store; a layer is one file with a text.
fn add(store: &Store, name: &str, layers: &[&str]) -> Image {
    let tars: Vec<Vec<u8>> =
        layers.iter().map(|text| tar_of(&[("file", text.as_bytes().to_vec())])).collect();
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::sha256(tar)).collect();
    let config = json!({"os": "linux", "architecture": Platform::host().architecture,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "first", "empty_layer": true}, {"created_by": "second"}]});
    let names: Vec<String> = (0..tars.len()).map(|layer| layer.to_string()).collect();
    let list = json!([{"Config": "config", "RepoTags": [name], "Layers": names}]);
    let mut files: Vec<File<'_>> = vec![
        ("manifest.json", serde_json::to_vec(&list).unwrap()),
        ("config", serde_json::to_vec(&config).unwrap()),
    ];
    files.extend(names.iter().map(String::as_str).zip(tars));
    store.prepare().unwrap();
    let spool = Spool { folder: store.root(), limit: 1 << 30 };
    let bundle = Bundle::from_stream("test", &mut Cursor::new(tar_of(&files)), &spool).unwrap();
    store.load_bundle(&bundle, &LoadOptions::default(), &Silent).unwrap().remove(0)
}

fn digest_of(store: &Store, name: &str) -> Digest {
    add(store, name, &[name]).digest
}

fn names(store: &Store) -> Vec<String> {
    store.list().unwrap().iter().map(|image| image.reference.short()).collect()
}

/// The layers and images that are there, without names.
fn contents(store: &Store) -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(store.root().join(folder)).unwrap().count();
    (count("layers"), count("images"))
}

fn make_old(store: &Store, name: &str, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let name: Reference = name.parse().unwrap();
    let path = super::refs::path(&store.refs(), &name);
    let mut target = super::refs::Target::read(&path).unwrap().unwrap();
    target.pulled = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    fs::write(&path, serde_json::to_vec(&target).unwrap()).unwrap();
    let config = fs::File::options().write(true).open(store.config_path(&target.manifest)).unwrap();
    config.set_modified(then).unwrap();
}

fn prune(store: &Store, options: &PruneOptions) -> Pruned {
    store.prune(options, &[]).unwrap()
}

fn all() -> PruneOptions {
    PruneOptions { all: true, ..PruneOptions::default() }
}

#[test]
fn an_image_goes_with_its_last_name() {
    let (_keep, store) = store();
    let digest = digest_of(&store, "app:1");
    assert_eq!(store.tag(&"app:1".into(), &"other:2".parse().unwrap()).unwrap(), digest);
    assert_eq!(store.tag(&digest.hex()[..8].into(), &"r.io/third:3".parse().unwrap()).unwrap(), digest);
    assert_eq!(names(&store), ["app:1", "other:2", "r.io/third:3"]);
    for name in ["app:1", "r.io/third:3"] {
        let removed = store.remove(&name.into(), false, &[]).unwrap();
        assert_eq!((removed.deleted, removed.freed_bytes), (false, 0));
        assert!(store.find(&name.parse().unwrap()).unwrap().is_none());
        assert_eq!(contents(&store), (1, 1));
    }
    let removed = store.remove(&"other:2".into(), false, &[]).unwrap();
    assert!(removed.deleted && removed.freed_bytes > 4096 && removed.digest == digest, "{removed:?}");
    assert_empty(store.root());
    assert_eq!(fs::read_dir(store.refs()).unwrap().count(), 0, "empty folders of names go too");
}

#[test]
fn a_digest_takes_all_names_along() {
    let (_keep, store) = store();
    for by in [
        |digest: &Digest| digest.to_string(),
        |digest: &Digest| digest.hex()[..12].to_owned(),
        |digest: &Digest| format!("any/name@{digest}"),
    ] {
        let digest = digest_of(&store, "app:1");
        store.tag(&"app:1".into(), &"other:2".parse().unwrap()).unwrap();
        let removed = store.remove(&by(&digest).as_str().into(), false, &[]).unwrap();
        assert_eq!((removed.names.len(), removed.deleted), (2, true));
        assert_empty(store.root());
    }
}

#[test]
fn what_is_meant_must_be_clear() {
    let (_keep, store) = store();
    let absent = |what: &str| store.remove(&what.into(), false, &[]).unwrap_err();
    assert!(matches!(absent("app"), Error::NotStored { .. }));
    assert!(absent("app").hint().unwrap().contains("msb pull app"));
    assert!(matches!(absent(&"0".repeat(64)), Error::NotStored { .. }));
    assert!(matches!(absent("UPPER"), Error::Reference(_)));
    let digest = digest_of(&store, "app:1");
    assert!(matches!(absent(&digest.hex()[..3]), Error::NotStored { .. }), "three digits are a name");
    let image = store.image_folder(&digest);
    let twin =
        format!("{}{}", &digest.hex()[..60], if digest.hex().ends_with("0000") { "1111" } else { "0000" });
    fs::create_dir(image.with_file_name(&twin)).unwrap();
    assert!(matches!(absent(&digest.hex()[..12]), Error::Ambiguous { images: 2, .. }));
    let name = format!("app@{digest}").parse().unwrap();
    assert!(matches!(store.tag(&"app:1".into(), &name), Err(Error::NamedByDigest { .. })));
    assert!(
        matches!(store.tag(&twin.as_str().into(), &"x".parse().unwrap()), Err(Error::NotStored { .. })),
        "damaged"
    );
}

#[test]
fn layers_of_other_images_stay() {
    let (_keep, store) = store();
    add(&store, "one", &["base", "one"]);
    add(&store, "two", &["base", "two"]);
    assert_eq!(contents(&store), (3, 2));
    let usage = store.usage(&[]).unwrap();
    assert!(usage.shared_bytes > 0 && usage.shared_bytes < usage.layers_bytes);
    assert_eq!((usage.layers, usage.reclaimable_bytes, usage.unfinished), (3, usage.total_bytes, 0));
    let parts: u64 = usage.images.iter().map(|image| image.unique_bytes).sum();
    assert_eq!(parts + usage.shared_bytes + usage.blobs_bytes, usage.total_bytes);
    store.remove(&"one".into(), false, &[]).unwrap();
    assert_eq!(contents(&store), (2, 1));
    assert_sound(&store.find(&"two".parse().unwrap()).unwrap().unwrap());
}

#[test]
fn who_uses_an_image_is_named_and_keeps_it() {
    let (_keep, store) = store();
    let digest = digest_of(&store, "app");
    let running = store.find(&"app".parse().unwrap()).unwrap().unwrap();
    let error = store.remove(&"app".into(), false, &[]).unwrap_err();
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
    assert!(prune(&store, &all()).images.is_empty());
    let usage = store.usage(&[]).unwrap();
    assert_eq!((usage.images[0].used_by.len(), usage.reclaimable_bytes), (1, 0));
    drop(running);
    let uses = [Use { digest, by: "the installed sandbox `py`".into() }];
    let error = store.remove(&"app".into(), false, &uses).unwrap_err();
    assert_eq!(error.to_string(), "app is in use by the installed sandbox `py`");
    assert!(store.prune(&all(), &uses).unwrap().images.is_empty());
    // A name is not what is used.
    store.tag(&"app".into(), &"other".parse().unwrap()).unwrap();
    assert!(!store.remove(&"app".into(), false, &uses).unwrap().deleted);
    let running = store.find(&"other".parse().unwrap()).unwrap().unwrap();
    let open = fs::File::open(&running.extents[1]).unwrap();
    assert!(store.remove(&"other".into(), true, &uses).unwrap().deleted);
    assert_empty(store.root());
    assert!(open.metadata().unwrap().len() > 0, "what is open stays readable");
}

#[test]
fn pruning_takes_what_no_name_leads_to() {
    let (_keep, store) = store();
    digest_of(&store, "kept");
    let lost = add(&store, "moved", &["lost"]).digest;
    add(&store, "moved", &["new"]);
    fs::write(store.root().join("tmp/layer-left"), vec![0; 5000]).unwrap();
    fs::write(store.layers_folder().join(format!("{}.erofs", "0".repeat(64))), vec![0; 6000]).unwrap();
    let damaged = add(&store, "damaged", &["hurt"]);
    fs::write(&damaged.extents[1], "").unwrap();
    drop(damaged);
    let idle = super::refs::path(&store.refs(), &"no/where:1".parse().unwrap());
    fs::create_dir_all(idle.parent().unwrap()).unwrap();
    let target = super::refs::Target::now(Digest::sha256(b"nothing"));
    fs::write(&idle, serde_json::to_vec(&target).unwrap()).unwrap();

    let before = files(store.root());
    let dry = prune(&store, &PruneOptions { dry_run: true, ..PruneOptions::default() });
    assert_eq!(files(store.root()), before);
    let pruned = prune(&store, &PruneOptions::default());
    assert_eq!(pruned, dry);
    let gone: Vec<&Digest> = pruned.images.iter().map(|image| &image.digest).collect();
    assert_eq!(
        (gone.len(), gone.contains(&&lost), names(&store)),
        (2, true, vec!["kept:latest".into(), "moved:latest".into()])
    );
    assert!(pruned.freed_bytes > 5000 + 6000, "{pruned:?}");
    assert_eq!(contents(&store), (2, 2));
    assert!(!idle.exists() && files(&store.root().join("tmp")).is_empty());
    assert_eq!(
        prune(&store, &PruneOptions::default()),
        Pruned { left_bytes: pruned.left_bytes, ..Pruned::default() }
    );
    assert_eq!(prune(&store, &all()).images.len(), 2);
    assert_empty(store.root());
}

#[test]
fn age_and_room_decide_what_goes() {
    let (_keep, store) = store();
    for (name, days) in [("old", 40), ("older", 50), ("young", 0)] {
        digest_of(&store, name);
        make_old(&store, name, days);
    }
    let dry = |options: PruneOptions| {
        let pruned = prune(&store, &PruneOptions { dry_run: true, ..options });
        pruned.images.iter().map(|image| image.names[0].short()).collect::<Vec<_>>()
    };
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let older = |older_than| dry(PruneOptions { older_than, ..PruneOptions::default() });
    assert_eq!(older(days(45)), ["older:latest"]);
    assert_eq!(older(days(30)), ["older:latest", "old:latest"]);
    assert_eq!(older(days(60)), Vec::<String>::new());
    let total = store.usage(&[]).unwrap().total_bytes;
    let room =
        |keep_storage| dry(PruneOptions { keep_storage: Some(keep_storage), ..PruneOptions::default() });
    assert_eq!(room(total), Vec::<String>::new());
    assert_eq!(room(total - 1), ["older:latest"]);
    assert_eq!(room(0), ["older:latest", "old:latest", "young:latest"]);
    // A start counts as use.
    drop(store.find(&"older".parse().unwrap()).unwrap());
    assert_eq!(older(days(30)), ["old:latest"]);
    assert_eq!(
        dry(PruneOptions { older_than: days(30), keep_storage: Some(total), ..PruneOptions::default() }),
        Vec::<String>::new()
    );
}

#[test]
fn what_is_being_brought_in_stays() {
    let (_keep, store) = store();
    let image = add(&store, "app", &["text"]);
    let (digest, layer) = (image.digest.clone(), image.config.diff_ids[0].clone());
    drop(image);
    let expected = |store: &Store| {
        let announcement = json!({"manifest": digest, "layers": [layer], "blobs": []});
        let expected: Expected = serde_json::from_value(announcement).unwrap();
        store.announce(&expected).unwrap()
    };
    let announced = expected(&store);
    assert!(prune(&store, &all()).images.is_empty());
    let removed = store.remove(&"app".into(), false, &[]).unwrap();
    assert_eq!((removed.deleted, contents(&store)), (false, (1, 1)), "its name alone goes");
    drop(announced);
    let _announced = expected(&store);
    fs::remove_dir_all(store.image_folder(&digest)).unwrap();
    prune(&store, &all());
    assert_eq!(contents(&store), (1, 0), "a layer whose image is not there yet");
    drop(_announced);
    prune(&store, &all());
    assert_empty(store.root());
}

#[test]
fn details_say_what_an_image_is() {
    let fake = FakeRegistry::with(&Parts::new(5000));
    let (_keep, store) = store();
    let pulled = store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap();
    let details = store.details(&pulled.digest.short().into(), &[]).unwrap();
    assert_eq!((&details.digest, &details.names[..]), (&pulled.digest, &[fake.reference()][..]));
    assert_eq!(
        (details.config, details.size),
        (
            pulled.config.clone(),
            details.layers[0].size_bytes
                + fs::read_dir(pulled.disk.parent().unwrap())
                    .unwrap()
                    .map(|file| file.unwrap().metadata().unwrap().len())
                    .sum::<u64>()
        )
    );
    assert_eq!((&details.layers[0].diff_id, details.layers.len()), (&pulled.config.diff_ids[0], 1));
    assert!(details.layers[0].blob != details.layers[0].diff_id && details.layers[0].blob_bytes > 0);
    assert_eq!(details.users.len(), 1, "this process holds it");
    let loaded = add(&store, "app", &["text"]);
    let details = store.details(&"app".into(), &[]).unwrap();
    assert_eq!((details.digest, details.history.len()), (loaded.digest, 2));
    assert_eq!((details.history[0].empty_layer, details.history[1].created_by.as_str()), (true, "second"));
}

/// Pulls in several threads while others prune everything all the time: each result is whole for as long as it is held.
#[test]
fn pulls_and_prunes_beside_each_other_are_safe() {
    let fake = FakeRegistry::with(&Parts::new(200_000));
    let (_keep, store) = store();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let mut pruned = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                pruned += prune(&Store::open(store.root()).unwrap(), &all()).images.len();
            }
            pruned
        });
        let pulling: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..15 {
                        let store = Store::open(store.root()).unwrap();
                        let image = store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap();
                        assert_sound(&image);
                        std::thread::yield_now();
                        assert_sound(&image);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = pulling.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let pruned = pruning.join().unwrap();
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        assert!(pruned > 0, "the prunes had something to do");
    });
    prune(&store, &all());
    assert_empty(store.root());
}
