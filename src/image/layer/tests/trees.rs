//! What becomes of entries that meet each other.

use super::*;
use crate::image::erofs::{Marks, PAGE};

#[test]
fn an_empty_archive_is_an_empty_layer() {
    for tar in [&[][..], &[0; 512], &[0; 1024], &[0; 10240]] {
        let (snapshot, stats) = ingested(tar).unwrap();
        assert_eq!((paths(&snapshot), stats.entries), (vec![String::new()], 0));
        assert!(snapshot[&b""[..]].marks.has(Marks::IMPLICIT));
    }
}

#[test]
fn names_are_taken_from_the_root() {
    let snapshot =
        tree(["/a", "./b", "c//d/./e", "f/../g", "/../"].map(Spec::directory)[..4].to_vec()).unwrap();
    assert_eq!(paths(&snapshot), ["", "a", "b", "c", "c/d", "c/d/e", "g"]);
}

#[test]
fn the_entry_of_the_root_describes_it() {
    let snapshot = tree([Spec { mode: 0o1711, owner: (1, 2), ..Spec::directory("./") }]).unwrap();
    let root = &snapshot[&b""[..]];
    assert_eq!((root.mode, root.owner, root.marks.has(Marks::IMPLICIT)), (0o041_711, (1, 2), false));
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let specs = [Spec::file("a", "old"), Spec::hard_link("b", "a"), Spec::file("a", "new")];
    let snapshot = tree(specs).unwrap();
    assert_eq!((&snapshot[&b"a"[..]].content[..], snapshot[&b"a"[..]].nlink), (&b"new"[..], 1));
    assert_eq!((&snapshot[&b"b"[..]].content[..], snapshot[&b"b"[..]].nlink), (&b"old"[..], 1));
}

#[test]
fn a_file_takes_the_place_of_a_directory_and_back() {
    let specs = [Spec::file("d/f", "x"), Spec::file("d", "file")];
    assert_eq!(paths(&tree(specs.clone()).unwrap()), ["", "d"]);
    let again = specs.into_iter().chain([Spec::file("d/g", "y")]);
    let snapshot = tree(again).unwrap();
    assert_eq!(paths(&snapshot), ["", "d", "d/g"]);
    assert!(snapshot[&b"d"[..]].marks.has(Marks::OPAQUE));
}

#[test]
fn a_directory_that_comes_again_keeps_its_content() {
    let specs = [Spec::file("d/f", ""), Spec { mode: 0o700, ..Spec::directory("d") }];
    let snapshot = tree(specs).unwrap();
    assert_eq!(paths(&snapshot), ["", "d", "d/f"]);
    assert_eq!((snapshot[&b"d"[..]].mode, snapshot[&b"d"[..]].marks), (0o040_700, Marks::default()));
}

#[test]
fn a_symlink_is_not_followed() {
    let specs = [Spec::symlink("l", "/etc"), Spec::file("l/passwd", "x"), Spec::hard_link("h", "l/shadow")];
    let snapshot = tree(specs).unwrap();
    assert_eq!(paths(&snapshot), ["", "h", "l", "l/passwd"]);
    assert_eq!(snapshot[&b"l"[..]].mode & 0o170_000, 0o040_000);
    assert!(snapshot[&b"h"[..]].marks.has(Marks::LOWER_LINK));
}

#[test]
fn hard_links_share_a_file_whatever_its_type() {
    let specs = [
        Spec::symlink("s", "x"),
        Spec::hard_link("t", "s"),
        Spec::new(b'6', "p"),
        Spec::hard_link("q", "./p"),
    ];
    let snapshot = tree(specs).unwrap();
    for (path, first) in [("t", "s"), ("q", "p")] {
        assert_eq!(
            (snapshot[path.as_bytes()].nlink, &snapshot[path.as_bytes()].same_as[..]),
            (2, first.as_bytes())
        );
    }
    assert_eq!(tree([Spec::file("a", "x"), Spec::hard_link("a", "a")]).unwrap()[&b"a"[..]].nlink, 1);
}

#[test]
fn whiteouts_are_marked() {
    let names = ["d/.wh.gone", "e/.wh..wh..opq", ".wh..wh.plnk/1.2", "f/.wh..wh.aufs"];
    let snapshot = tree(names.map(|name| Spec::file(name, ""))).unwrap();
    assert_eq!(paths(&snapshot), ["", "d", "d/gone", "e"]);
    assert!(snapshot[&b"d/gone"[..]].marks.has(Marks::WHITEOUT));
    assert!(snapshot[&b"e"[..]].marks.has(Marks::OPAQUE) && snapshot[&b"e"[..]].marks.has(Marks::IMPLICIT));
}

#[test]
fn names_may_be_any_bytes_and_long() {
    let long = [b'x'; 255];
    let names = [&b"\xff\xfe"[..], b"new\nline", b"\"quotes\"", "ü".as_bytes(), &long];
    let snapshot = tree(names.map(|name| Spec::file(name, name))).unwrap();
    for name in names {
        assert_eq!(snapshot[name].content, name);
    }
    let deep = [&long[..]; 15].join(&b'/');
    assert_eq!(tree([Spec::file(&deep, "deep")]).unwrap()[&deep].content, b"deep");
}

#[test]
fn contents_of_all_sizes_around_blocks_and_buffers() {
    let sizes = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577, 3_000_000];
    let content = |size: usize| (0..size).map(|at| (at * 31 % 251) as u8 + 1).collect::<Vec<u8>>();
    let snapshot = tree(sizes.map(|size| Spec::file(size.to_string(), content(size)))).unwrap();
    for size in sizes {
        assert!(snapshot[size.to_string().as_bytes()].content == content(size), "{size}");
    }
}

#[test]
fn zeros_take_no_room() {
    let mut content = vec![0; 20 << 20];
    content[5_000_000] = 1;
    let last = content.len() - 1;
    content[last] = 2;
    let (snapshot, stats) = ingested(&Archive::of([Spec::file("f", &content)]).ended()).unwrap();
    assert!(snapshot[&b"f"[..]].content == content);
    assert!(stats.blob_bytes <= 2 * (64 << 10) + 2 * PAGE, "{stats:?}");
    let (_, stats) = ingested(&Archive::of([Spec::file("f", vec![0; 9 << 20])]).ended()).unwrap();
    assert_eq!(stats.blob_bytes, 2 * PAGE);
}

#[test]
fn a_directory_of_two_hundred_thousand_names() {
    let snapshot = tree((0..200_000).rev().map(|number| Spec::file(format!("d/{number}"), ""))).unwrap();
    assert_eq!(snapshot.len(), 200_002);
}
