//! Archives made to do harm, and archives that broke on the way.

use proptest::prelude::*;

use super::*;

fn refused(specs: impl IntoIterator<Item = Spec>) -> String {
    tree(specs).unwrap_err().to_string()
}

#[test]
fn paths_that_lead_out_are_refused_by_name() {
    for path in ["../x", "a/../../x", "/..", "a/b/../../../etc/passwd"] {
        let error = refused([Spec::file(path, "")]);
        assert_eq!(error, format!("bad path of entry \"{path}\": it leads out of the image"));
    }
    let error = refused([Spec::hard_link("a", "../../etc/shadow")]);
    assert_eq!(error, "entry \"a\" is a hard link to \"../../etc/shadow\": it leads out of the image");
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let long = "x".repeat(256);
    let cases = [
        (Spec::file("", ""), "it is empty"),
        (Spec::file(&long, ""), "more than 255 bytes in a name"),
        (Spec::file("a/".repeat(2100), ""), "more than 4095 bytes in a path"),
        (Spec::directory("a/".repeat(600)), "more than 512 directories in a path"),
        (Spec::file(".wh.", ""), "it is a whiteout of nothing"),
        (Spec::file("a/.wh..", ""), "it is a whiteout of nothing"),
        (Spec::file("a/.wh...", ""), "it is a whiteout of nothing"),
        (Spec::file(".wh.a/b", ""), "it lies below a whiteout"),
        (Spec::symlink("a", ""), "it is a symlink to nothing"),
        (Spec::symlink("a", "x".repeat(4096)), "more than 4095 bytes in a symlink"),
        (Spec::hard_link("a", "/"), "that is the root directory"),
        (Spec::hard_link("a", ""), "it is empty"),
        (Spec::new(b'D', "dump"), "has the unknown type 'D'"),
    ];
    for (spec, expected) in cases {
        let entry = spec.path[..spec.path.len().min(50)].escape_ascii().to_string();
        let error = refused([spec]);
        assert!(error.contains(expected) && error.contains(&entry), "{error}");
    }
    assert!(refused([Spec::directory("d"), Spec::hard_link("l", "d")]).contains("that is a directory"));
    assert!(refused([Spec::symlink("/", "x")]).contains("it is the root"));
}

#[test]
fn extended_headers_with_nul_bytes_cannot_smuggle_names() {
    let long = [&b"x".repeat(120)[..], b"\0/../../etc"].concat();
    assert!(refused([Spec::file(&long, "")]).contains("NUL"));
    assert!(refused([Spec::symlink("a", &long)]).contains("NUL"));
}

#[test]
fn limits_are_kept() {
    let blobs = Blobs::new();
    let tar = Archive::of([Spec::file("a/b/c", [1; 5000]).xattr("user.k", [1; 500])]).ended();
    let limits = Limits::default();
    let error = |limits: Limits| blobs.ingest_within("layer", &tar, &limits).unwrap_err().to_string();
    let whole = "entry \"(the whole archive)\": more than 4000 bytes";
    assert_eq!(
        error(Limits { bytes: 4000, ..limits.clone() }),
        "entry \"a/b/c\": more than 4000 bytes of files"
    );
    assert_eq!(error(Limits { bytes: 5500, ..limits.clone() }), whole.replace("4000", "5500"));
    assert_eq!(error(Limits { entries: 2, ..limits.clone() }), "entry \"a/b/c\": more than 2 entries");
    let xattrs = "entry \"a/b/c\": more than 100 bytes of extended attributes";
    assert_eq!(error(Limits { xattrs: 100, ..limits.clone() }), xattrs);
    assert!(error(Limits { header: 100, ..limits }).contains("more than 100 bytes in an extended header"));
}

#[test]
fn a_bomb_of_extended_headers_is_refused_before_it_is_read() {
    let mut header = tar::Header::new_ustar();
    header.set_path("bomb").unwrap();
    header.set_mode(0);
    header.set_size(8 << 30);
    header.as_old_mut().linkflag = *b"x";
    header.set_cksum();
    let error = ingested(header.as_bytes()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Archive(tar_archive::Error::Limit { what: "bytes in an extended header", .. })
        ),
        "{error}"
    );
}

#[test]
fn broken_sparse_maps_are_refused() {
    let maps =
        ["0,10", "10,5,0,5", "0,5,3,5", "99999,5,5,5", "0,18446744073709551615", "1", "a,b", "0,4,99990,20"];
    for map in maps {
        let mut archive = Archive::default();
        let records = [("GNU.sparse.size", "100000"), ("GNU.sparse.map", map)];
        archive.pax(&records.map(|(key, value)| (key.into(), value.into())));
        archive.add(&Spec::file("f", [1; 5]));
        let error = ingested(&archive.ended()).unwrap_err();
        assert!(matches!(error, Error::Archive(tar_archive::Error::Extension { .. })), "{map}: {error}");
    }
}

#[test]
fn a_stream_that_ends_early_is_told_from_a_whole_one() {
    let tar = Archive::of([Spec::file("a", [7; 2000]).xattr("user.k", "v"), Spec::file("b", "x")]).bytes;
    // Around the records, and somewhere within them.
    let ends = (512..=tar.len()).step_by(512).flat_map(|end| [end - 300, end - 1, end]);
    for end in ends.take_while(|&end| end < tar.len()) {
        // Between two entries nothing tells that more was to come.
        let between = end == 3584;
        let result = ingested(&tar[..end]);
        assert!(result.is_err() || between, "{end}: {result:?}");
    }
    let error = ingested(&tar[..2500]).unwrap_err().to_string();
    assert_eq!(error, "the archive ends at byte 2500, within the file \"a\"");
}

#[test]
fn garbage_behind_the_end_is_read_and_ignored() {
    let mut tar = Archive::of([Spec::file("a", "x")]).ended();
    tar.extend_from_slice(&[7; 100_000]);
    assert_eq!(ingested(&tar).unwrap().1.tar_bytes, tar.len() as u64);
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut tar = Archive::of([Spec::file("a", "x")]).ended();
    tar[0] = b'b';
    assert_eq!(ingested(&tar).unwrap_err().to_string(), "bad tar header at byte 0: its checksum is wrong");
}

#[test]
fn a_failing_stream_says_where() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("wire cut"))
        }
    }
    let blobs = Blobs::new();
    let error = super::super::ingest(Failing, &mut blobs.create("layer")).unwrap_err();
    assert!(
        matches!(&error, Error::Archive(tar_archive::Error::Read { offset: 0, source }) if source.to_string() == "wire cut")
    );
}

#[test]
fn symlinks_in_circles_lead_nowhere() {
    // Symlinks are never followed, so circles are as good as any.
    let circle = [Spec::symlink("a", "b"), Spec::symlink("b", "a"), Spec::symlink("c", "c")];
    assert_eq!(paths(&tree(circle).unwrap()).len(), 4);
}

#[test]
fn headers_in_front_of_headers_do_not_add_up() {
    let mut archive = Archive::default();
    for number in 0..5000 {
        archive.pax(&[(format!("SCHILY.xattr.user.{number}").into_bytes(), b"v".to_vec())]);
    }
    archive.add(&Spec::file("a", ""));
    let error = ingested(&archive.ended()).map(|(_, stats)| stats);
    assert!(
        matches!(error, Err(Error::Archive(tar_archive::Error::Limit { what: "extended attributes", .. }))),
        "{error:?}"
    );
}

/// Headers whose fields are wild, with right checksums, so that they are looked at.
fn wild_record() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..40)];
    let flag = prop::sample::select(b"0123456xgLKSV\0".to_vec());
    (flag, prop::collection::vec((0_usize..500, field), 0..4), 0_u64..3000, any::<bool>()).prop_map(
        |(flag, changes, size, pax)| {
            let mut header = tar::Header::new_gnu();
            header.set_path("a/b").unwrap();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(size);
            header.as_old_mut().linkflag = [flag];
            for (at, bytes) in changes {
                let end = (at + bytes.len()).min(512);
                header.as_mut_bytes()[at..end].copy_from_slice(&bytes[..end - at]);
            }
            header.set_cksum();
            let text = if pax { &b"30 GNU.sparse.map=0,10,20,3,1\n"[..] } else { b"11 path=a/\n" };
            let mut record = header.as_bytes().to_vec();
            record.extend(text.iter().cycle().take(size.next_multiple_of(512) as usize));
            record
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = ingested(&bytes);
    }

    #[test]
    fn any_headers_are_taken_or_refused(records in prop::collection::vec(wild_record(), 0..6)) {
        let blobs = Blobs::new();
        let limits = Limits { bytes: 1 << 24, ..Limits::default() };
        let _ = blobs.ingest_within("layer", &records.concat(), &limits);
    }
}
