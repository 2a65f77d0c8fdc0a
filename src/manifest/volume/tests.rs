#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn volume(text: &str) -> Volume {
    text.parse().unwrap()
}

fn host(path: &str) -> VolumeSource {
    VolumeSource::Host(path.into())
}

#[test]
fn sources_are_told_apart_by_how_they_begin() {
    for (text, source) in [
        ("./src:/work", host("./src")),
        (".:/work", host(".")),
        ("../x y:/work", host("../x y")),
        ("/a:/work", host("/a")),
        ("~:/work", host("~")),
        ("~/a:/work", host("~/a")),
        (r"/a\:b\\c\d:/work", host(r"/a:b\c\d")),
        ("data:/work", VolumeSource::Named("data".into())),
    ] {
        let read = volume(text);
        assert_eq!((read.source, read.target.as_str(), read.read_only), (source, "/work", false), "{text}");
    }
    assert!(volume("data:/work:ro").read_only);
    assert!(!volume("data:/work:rw").read_only);
}

#[test]
fn targets_are_cleaned() {
    for (text, target) in
        [("a:/x/", "/x"), ("a://x//y/./z", "/x/y/z"), ("a:/dev/shm", "/dev/shm"), ("a:/process", "/process")]
    {
        assert_eq!(volume(text).target, target);
    }
}

#[test]
fn mistakes_are_named() {
    for (text, words) in [
        ("", "does not say where"),
        ("./src", "does not say where"),
        ("./src:", "not an absolute path"),
        (":/work", "not the name of a volume"),
        ("./src:work", "not an absolute path"),
        ("src/app:/work", "write ./src/app"),
        ("a b:/work", "not the name of a volume"),
        ("./a:/b:/c", "`/c` in"),
        ("./a:/b:ro:x", "too many colons"),
        ("./a:/b:r", "there is ro and rw"),
        ("~joe/x:/work", "one's own home"),
        ("./a:/", "nothing can be mounted on"),
        ("./a:/../etc", "nothing can be mounted on"),
        ("./a:/proc/self", "nothing can be mounted on"),
        ("./a:/sys", "nothing can be mounted on"),
        ("./a:/dev", "nothing can be mounted on"),
        ("./a:/.msb/x", "nothing can be mounted on"),
        ("./a\0:/x", "cannot be a path"),
    ] {
        let error = text.parse::<Volume>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for (text, words) in [
        ("tmp", "not an absolute path"),
        ("/tmp:size=x", "`size=x` in"),
        ("/tmp:size=0", "nothing fits"),
        ("/tmp:mode=8", "octal"),
        ("/tmp:mode=4755", "octal"),
        ("/tmp:ro", "there is size and mode"),
        ("/tmp:a:b", "too many colons"),
    ] {
        let error = text.parse::<Tmpfs>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn tmpfs_has_size_and_mode() {
    let read: Tmpfs = "/run/x:size=64m,mode=700".parse().unwrap();
    assert_eq!((read.target.as_str(), read.size, read.mode), ("/run/x", Some(Size::from_mib(64)), 0o700));
    assert_eq!(read.to_string().parse::<Tmpfs>().unwrap(), read);
    assert_eq!("/tmp".parse::<Tmpfs>().unwrap().to_string(), "/tmp");
}

#[test]
fn paths_are_resolved_where_they_were_written() {
    let resolved = |text: &str| volume(text).resolved(Path::new("/p"), Some(Path::new("/h"))).unwrap().source;
    assert_eq!(resolved("./a:/x"), host("/p/./a"));
    assert_eq!(resolved("~/a:/x"), host("/h/a"));
    assert_eq!(resolved("/a:/x"), host("/a"));
    assert_eq!(resolved("name:/x"), VolumeSource::Named("name".into()));
    assert!(volume("~:/x").resolved(Path::new("/p"), None).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_answered_and_what_is_read_is_written_back(bytes in prop::collection::vec(prop_oneof![
        prop::sample::select(b"/.~:\\abro=,-_ \xff".to_vec()), any::<u8>(),
    ], 0..40)) {
        if let Ok(volume) = Volume::parse(OsStr::from_bytes(&bytes)) {
            prop_assert_eq!(&Volume::parse(&volume.to_os_string()).unwrap(), &volume);
            let json = serde_json::to_string(&volume).unwrap();
            prop_assert_eq!(serde_json::from_str::<Volume>(&json).unwrap(), volume);
        }
        if let Ok(tmpfs) = String::from_utf8_lossy(&bytes).parse::<Tmpfs>() {
            prop_assert_eq!(tmpfs.to_string().parse::<Tmpfs>().unwrap(), tmpfs);
        }
    }

    #[test]
    fn any_path_can_be_written(path in "[/.~][^\0]{0,30}", target in "/[a-z:\\\\]{1,10}") {
        prop_assume!(!path.starts_with('~') || path == "~" || path.starts_with("~/"));
        let volume = Volume { source: host(&path), target, read_only: true };
        let volume = Volume::parse(&volume.to_os_string()).unwrap();
        prop_assert_eq!(volume.source, host(&path));
    }
}
