#![allow(clippy::unwrap_used)]

use super::*;
use crate::image::erofs::PAGE;

fn merged(layers: &[Vec<Spec>]) -> Snapshot {
    let image = Image::of(layers).unwrap();
    image.merge().unwrap();
    image.snapshot()
}

fn paths(snapshot: &Snapshot) -> Vec<String> {
    snapshot.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

#[test]
fn no_layers_give_an_empty_root() {
    let snapshot = merged(&[]);
    assert_eq!(paths(&snapshot), [""]);
    assert_eq!(snapshot[&b""[..]].mode, 0o040_755);
}

#[test]
fn layers_without_entries_give_an_empty_root() {
    assert_eq!(paths(&merged(&[vec![], vec![]])), [""]);
}

#[test]
fn a_whiteout_hides_lower_layers_only_wherever_it_stands_in_its_layer() {
    for reversed in [false, true] {
        let lower = vec![Spec::file("d/old", "old"), Spec::file("f", "old")];
        let mut upper = vec![
            Spec::file("d/new", "new"),
            Spec::file(".wh.d", ""),
            Spec::file(".wh.f", ""),
            Spec::file("f", "new"),
        ];
        if reversed {
            upper.reverse();
        }
        let snapshot = merged(&[lower, upper]);
        assert_eq!(paths(&snapshot), ["", "d", "d/new", "f"]);
        assert_eq!(snapshot[&b"f"[..]].content, b"new");
    }
}

#[test]
fn a_directory_that_is_only_passed_through_keeps_the_lower_layers_metadata() {
    let lower = vec![Spec { mode: 0o1700, owner: (7, 8), ..Spec::directory("d") }];
    let snapshot = merged(&[lower, vec![Spec::file("d/f", "")]]);
    assert_eq!(snapshot[&b"d"[..]].mode, 0o041_700);
    assert_eq!(snapshot[&b"d"[..]].owner, (7, 8));
}

#[test]
fn a_hard_link_across_layers_is_the_same_file() {
    let lower = vec![Spec { mode: 0o4755, ..Spec::file("bin/a", "x") }.xattr("user.k", "v")];
    let snapshot = merged(&[lower, vec![Spec::hard_link("b", "/bin/a")], vec![Spec::hard_link("c", "b")]]);
    for path in ["bin/a", "b", "c"] {
        let item = &snapshot[path.as_bytes()];
        assert_eq!(
            (item.nlink, &item.same_as[..], item.mode, &item.content[..]),
            (3, &b"b"[..], 0o104_755, &b"x"[..])
        );
    }
}

#[test]
fn a_hard_link_keeps_a_file_whose_name_is_gone() {
    let layers = [
        vec![Spec::file("a", "x")],
        vec![Spec::hard_link("b", "a"), Spec::file(".wh.a", "")],
        vec![Spec::hard_link("c", "b")],
    ];
    let snapshot = merged(&layers);
    assert_eq!(paths(&snapshot), ["", "b", "c"]);
    assert_eq!((snapshot[&b"b"[..]].nlink, &snapshot[&b"b"[..]].content[..]), (2, &b"x"[..]));
}

#[test]
fn a_hard_link_to_what_no_lower_layer_has_names_the_entry() {
    let image = Image::of(&[vec![Spec::file("a", "")], vec![Spec::hard_link("d/b", "nowhere/c")]]).unwrap();
    let error = image.merge().unwrap_err().to_string();
    assert!(error.contains("\"b\" to \"nowhere/c\""), "{error}");
}

#[test]
fn hard_links_in_circles_lead_to_no_file() {
    for circle in [
        vec![Spec::hard_link("a", "a")],
        vec![Spec::hard_link("a", "b"), Spec::hard_link("b", "a")],
        vec![Spec::symlink("d", "d"), Spec::hard_link("a", "d/b")],
    ] {
        let image = Image::of(&[vec![], circle]).unwrap();
        let error = image.merge().unwrap_err().to_string();
        assert!(error.contains("which is no file of the lower layers"), "{error}");
    }
}

#[test]
fn a_genuine_device_0_0_is_no_whiteout() {
    let snapshot = merged(&[vec![Spec::file("a", "")], vec![Spec::new(b'3', "a")]]);
    assert_eq!((snapshot[&b"a"[..]].mode, snapshot[&b"a"[..]].device), (0o020_644, Some(0)));
}

#[test]
fn attributes_meant_for_overlayfs_do_not_reach_the_image() {
    let spec = Spec::directory("d").xattr("trusted.overlay.opaque", "y").xattr("trusted.other", "z");
    let snapshot = merged(&[vec![Spec::file("d/f", "")], vec![spec]]);
    assert_eq!(paths(&snapshot), ["", "d", "d/f"]);
    assert_eq!(snapshot[&b"d"[..]].xattrs.len(), 1);
}

#[test]
fn two_hundred_thousand_names_in_two_layers() {
    let name = |number: u32| format!("d/{number:06}");
    let lower = (0..200_000).map(|number| Spec::file(name(number), "")).collect();
    let upper = (0..200_000).step_by(2).map(|number| Spec::file(format!("d/.wh.{number:06}"), "")).collect();
    let snapshot = merged(&[lower, upper]);
    let expected: Vec<String> =
        ["", "d"].map(String::from).into_iter().chain((1..200_000).step_by(2).map(name)).collect();
    assert_eq!(paths(&snapshot), expected);
}

#[test]
fn many_layers_need_a_device_table_of_more_than_a_block() {
    let layers: Vec<Vec<Spec>> =
        (0..60).map(|number| vec![Spec::file(format!("f{number}"), format!("content {number}"))]).collect();
    let image = Image::of(&layers).unwrap();
    let stats = image.merge().unwrap();
    let snapshot = image.snapshot();
    for number in 0..60 {
        assert_eq!(snapshot[format!("f{number}").as_bytes()].content, format!("content {number}").as_bytes());
    }
    let bytes = |path: &Path| std::fs::metadata(path).unwrap().len();
    let disk = bytes(&image.blobs.path("meta")) + image.layers().iter().map(|path| bytes(path)).sum::<u64>();
    assert_eq!((stats.disk_bytes, stats.disk_bytes % PAGE), (disk, 0));
}

/// Names stand behind the root's inode as long as they fit into its block.
#[test]
fn roots_of_every_size_are_found() {
    for names in 1..60 {
        let files = (0..names).map(|number| Spec::file(format!("{number:010}"), "")).collect();
        assert_eq!(merged(&[files]).len(), names + 1);
    }
}

#[test]
fn a_merged_image_is_no_layer() {
    let image = Image::of(&[vec![Spec::file("a", "")]]).unwrap();
    image.merge().unwrap();
    let meta = image.blobs.path("meta");
    assert!(merge(&[&meta], &mut image.blobs.create("again")).is_err());
}
