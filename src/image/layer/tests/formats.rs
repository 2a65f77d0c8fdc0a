//! Dialects of tar.

use super::*;
use crate::image::erofs::Xattr;

/// An archive with one file whose header was changed.
fn file_with(change: impl FnOnce(&mut tar::Header), content: &[u8]) -> Archive {
    let mut header = tar::Header::new_gnu();
    header.set_path("f").unwrap();
    header.set_mode(0o640);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    change(&mut header);
    let mut archive = Archive::default();
    archive.raw(header, content);
    archive
}

fn pax(records: &[(&str, &[u8])], change: impl FnOnce(&mut tar::Header), content: &[u8]) -> Vec<u8> {
    let records: Vec<_> =
        records.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec())).collect();
    let mut archive = Archive::default();
    archive.pax(&records);
    archive.bytes.extend_from_slice(&file_with(change, content).bytes);
    archive.ended()
}

#[test]
fn extended_headers_win_over_plain_ones() {
    let records: [(&str, &[u8]); 6] = [
        ("path", b"long/er"),
        ("uid", b"4294967295"),
        ("gid", b"100000"),
        ("mtime", b"-1.25"),
        ("comment", b"a\nb"),
        ("SCHILY.xattr.user.k", b"one\ntwo\0=three"),
    ];
    let (snapshot, _) = ingested(&pax(&records, |_| {}, b"x")).unwrap();
    let item = &snapshot[&b"long/er"[..]];
    assert_eq!((item.owner, item.mtime, item.mode), ((u32::MAX, 100_000), (-2, 750_000_000), 0o100_640));
    assert_eq!(item.xattrs, [Xattr { name: b"user.k".to_vec(), value: b"one\ntwo\0=three".to_vec() }]);
}

#[test]
fn the_size_of_an_extended_header_is_the_size() {
    let mut tar = pax(&[("size", b"3")], |_| {}, b"abc");
    // The plain header of a file of 8 GiB and more cannot say its size.
    let at = 1024 + 124;
    tar[at..at + 12].copy_from_slice(b"00000000000\0");
    let mut header = tar::Header::from_byte_slice(&tar[1024..1536]).clone();
    header.set_cksum();
    tar[1024..1536].copy_from_slice(header.as_bytes());
    assert_eq!(ingested(&tar).unwrap().0[&b"f"[..]].content, b"abc");
}

#[test]
fn gnu_long_names_and_numbers() {
    let (path, link) = ("p/".repeat(150) + "f", "l/".repeat(150));
    let mut archive = Archive::default();
    for (flag, text) in [(b'L', &path), (b'K', &link)] {
        let mut header = tar::Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_mode(0);
        header.as_old_mut().linkflag = [flag];
        archive.raw(header, &[text.as_bytes(), b"\0"].concat());
    }
    let change = |header: &mut tar::Header| {
        header.as_old_mut().linkflag = *b"2";
        header.set_uid(3_000_000_000);
        header.as_old_mut().mtime = [0xff; 12];
    };
    archive.bytes.extend_from_slice(&file_with(change, b"").bytes);
    let (snapshot, _) = ingested(&archive.ended()).unwrap();
    let item = &snapshot[path.as_bytes()];
    assert_eq!((&item.content[..], item.owner.0, item.mtime), (link.as_bytes(), 3_000_000_000, (-1, 0)));
}

#[test]
fn ustar_prefixes_and_blank_fields() {
    let mut header = tar::Header::new_ustar();
    let ustar = header.as_ustar_mut().unwrap();
    ustar.prefix[..3].copy_from_slice(b"a/b");
    ustar.name[0] = b'c';
    ustar.mode = *b"   755 \0";
    ustar.uid = [0; 8];
    ustar.gid = [b' '; 8];
    let mut archive = Archive::default();
    archive.raw(header, b"x");
    let (snapshot, _) = ingested(&archive.bytes).unwrap();
    assert_eq!((snapshot[&b"a/b/c"[..]].mode, snapshot[&b"a/b/c"[..]].owner), (0o100_755, (0, 0)));
}

#[test]
fn old_archives_name_directories_with_a_slash() {
    let change = |header: &mut tar::Header| {
        header.as_old_mut().name[..2].copy_from_slice(b"d/");
        header.as_old_mut().linkflag = [0];
    };
    assert_eq!(ingested(&file_with(change, b"").ended()).unwrap().0[&b"d"[..]].mode, 0o040_640);
}

#[test]
fn comments_for_the_whole_archive_are_no_entries() {
    let mut archive = file_with(|header| header.as_old_mut().linkflag = *b"g", b"20 comment=whatever\n");
    archive.add(&Spec::file("a", "x"));
    assert_eq!(paths(&ingested(&archive.ended()).unwrap().0), ["", "a"]);
}

#[test]
fn devices_keep_their_numbers() {
    let specs = [(b'3', "c", (1, 3)), (b'4', "b", (0xfff, 0xfffff))];
    let snapshot = tree(specs.map(|(flag, path, device)| Spec { device, ..Spec::new(flag, path) })).unwrap();
    assert_eq!(snapshot[&b"c"[..]].device, Some(0x103));
    assert_eq!(snapshot[&b"b"[..]].device, Some(0xffff_ffff));
    assert!(matches!(
        tree([Spec { device: (4096, 0), ..Spec::new(b'3', "c") }]),
        Err(Error::Archive(tar_archive::Error::Extension { problem: "a device out of range", .. }))
    ));
}

/// 100 bytes at 1000 and 50 at 200000 of 300000.
fn sparse_content() -> (Vec<u8>, Vec<u8>) {
    let stored: Vec<u8> = (0..150).map(|at| at + 1).collect();
    let mut content = vec![0; 300_000];
    content[1000..1100].copy_from_slice(&stored[..100]);
    content[200_000..200_050].copy_from_slice(&stored[100..]);
    (stored, content)
}

#[test]
fn sparse_files_of_gnu_tar() {
    let (stored, content) = sparse_content();
    let change = |header: &mut tar::Header| {
        header.as_old_mut().linkflag = *b"S";
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(1000);
        gnu.sparse[0].set_length(100);
        gnu.isextended = [1];
        gnu.set_real_size(300_000);
    };
    let file = file_with(change, &stored).bytes;
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(200_000);
    more.sparse_mut()[0].set_length(50);
    more.sparse_mut()[1].set_offset(300_000);
    more.sparse_mut()[1].set_length(0);
    let mut tar = [&file[..512], more.as_bytes(), &file[512..]].concat();
    tar.extend_from_slice(&Archive::of([Spec::file("next", "y")]).bytes);
    let (snapshot, _) = ingested(&tar).unwrap();
    assert!(snapshot[&b"f"[..]].content == content);
    assert_eq!(snapshot[&b"next"[..]].content, b"y");
}

#[test]
fn sparse_files_of_pax() {
    let (stored, content) = sparse_content();
    let size = ("GNU.sparse.size", &b"300000"[..]);
    let realsize = ("GNU.sparse.realsize", &b"300000"[..]);
    let name = ("GNU.sparse.name", &b"real"[..]);
    let zero: [(&str, &[u8]); 6] = [
        size,
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1000"),
        ("GNU.sparse.numbytes", b"100"),
        ("GNU.sparse.offset", b"200000"),
        ("GNU.sparse.numbytes", b"50"),
    ];
    let one: [(&str, &[u8]); 3] = [size, name, ("GNU.sparse.map", b"1000,100,200000,50")];
    let two: [(&str, &[u8]); 4] = [realsize, name, ("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")];
    let mut with_map = b"2\n1000\n100\n200000\n50\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend_from_slice(&stored);
    for (records, content_in_tar, path) in
        [(&zero[..], &stored, "f"), (&one[..], &stored, "real"), (&two[..], &with_map, "real")]
    {
        let (snapshot, _) = ingested(&pax(records, |_| {}, content_in_tar)).unwrap();
        assert!(snapshot[path.as_bytes()].content == content);
    }
}

#[test]
fn a_huge_hole_is_not_read_byte_by_byte() {
    let records: [(&str, &[u8]); 2] =
        [("GNU.sparse.size", b"1000000000000"), ("GNU.sparse.map", b"999999999999,1")];
    let blobs = Blobs::new();
    let (_, stats) = blobs.ingest("layer", &pax(&records, |_| {}, b"x")).unwrap();
    assert_eq!(stats.file_bytes, 1_000_000_000_000);
    assert!(stats.blob_bytes < 32 << 20, "{stats:?}");
}
