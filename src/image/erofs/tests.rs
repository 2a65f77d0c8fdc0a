#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::image::layer::archive::{Archive, Blobs, Spec};
use crate::image::merge::merge;

/// A layer with something of everything.
fn layer() -> Vec<u8> {
    let mut specs = vec![
        Spec::directory("d").xattr("user.k", "v").xattr("security.capability", [0, 10, 1]),
        Spec::file("d/file", [7; 10_000]),
        Spec::hard_link("d/link", "d/file"),
        Spec::hard_link("lower", "no/such/file"),
        Spec::symlink("s", "to/somewhere"),
        Spec::symlink("long", "x/".repeat(2000)),
        Spec { device: (8, 300), ..Spec::new(b'4', "dev") },
        Spec::new(b'6', "fifo"),
        Spec::file(".wh.gone", ""),
        Spec::file("d/.wh..wh..opq", ""),
        Spec::file("sparse", [&[0; 200_000][..], b"end"].concat()),
    ];
    specs
        .extend((0..700).map(|number| Spec::file(format!("many/{number}-{}", "n".repeat(number % 100)), "")));
    Archive::of(specs).ended()
}

fn walk(reader: &Reader) -> Result<u64, Error> {
    let mut pending = vec![reader.root()];
    let mut seen = 0;
    while let Some(nid) = pending.pop() {
        seen += 1;
        if seen > 20_000 {
            return Ok(seen);
        }
        let inode = reader.inode(nid)?;
        reader.xattrs(&inode)?;
        match inode.mode() & S_IFMT {
            S_IFDIR => {
                let entries = reader.read_dir(&inode)?;
                for (name, nid) in entries.iter() {
                    assert_eq!(entries.find(name), Some(nid));
                    pending.push(nid);
                }
            }
            S_IFLNK => drop(reader.read_link(&inode)?),
            S_IFREG => {
                reader.chunks(&inode)?;
                reader.read(&inode, 0, &mut [0; 5000])?;
                reader.read(&inode, inode.size() / 2, &mut [0; 5000])?;
            }
            _ => {}
        }
    }
    Ok(seen)
}

/// Puts the right checksum into a superblock.
fn repair(image: &mut [u8]) {
    image[1028..1032].fill(0);
    let sum = image[1024..1536].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    });
    image[1028..1032].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn a_whole_blob_is_read() {
    let blobs = Blobs::new();
    let (path, _) = blobs.ingest("layer", &layer()).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.is_layer());
    // One name more than inodes: the hard link.
    assert_eq!(walk(&reader).unwrap(), reader.inodes() + 1);
}

#[test]
fn a_blob_cut_short_is_refused() {
    let blobs = Blobs::new();
    let (path, _) = blobs.ingest("layer", &layer()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    for length in [0, 1, 4095, 4096, bytes.len() - 4096, bytes.len() - 1] {
        assert!(Reader::open(&blobs.write("cut", &bytes[..length])).is_err(), "{length}");
    }
}

/// Runs fsck.erofs, as `tests/fsck-erofs.sh` made it, on an image, with the devices it points to. It may be missing on a
/// developer's machine.
fn fsck(image: &Path, devices: &[&Path]) {
    let folder = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let cache = folder("MSB_TEST_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("msb-test")))
        .or_else(|| Some(folder("HOME")?.join(".cache/msb-test")));
    let mut command = Command::new(cache.unwrap_or_default().join("bin/fsck.erofs-1.8.6"));
    command.args(devices.iter().map(|device| format!("--device={}", device.display()))).arg(image);
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("<E>"), "{said}");
        }
        Err(error) => {
            writeln!(std::io::stderr(), "skipped: cannot run fsck.erofs (tests/fsck-erofs.sh): {error}")
                .unwrap()
        }
    }
}

#[test]
fn fsck_accepts_layers_and_images() {
    let blobs = Blobs::new();
    let lower = Archive::of([Spec::file("no/such/file", "now there is"), Spec::file("gone", "")]).ended();
    let (lower, _) = blobs.ingest("lower", &lower).unwrap();
    let (upper, _) = blobs.ingest("upper", &layer()).unwrap();
    let layers: [&Path; 2] = [&lower, &upper];
    merge(&layers, &mut blobs.create("meta")).unwrap();
    merge(&[], &mut blobs.create("empty")).unwrap();
    fsck(&lower, &[]);
    fsck(&upper, &[]);
    fsck(&blobs.path("meta"), &layers);
    fsck(&blobs.path("empty"), &[]);
}

/// Damages bytes of the metadata, which is the second half of this blob.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)
}

proptest! {
    #[test]
    fn damaged_blobs_never_panic(damage in damage(), in_superblock in any::<bool>()) {
        let blobs = Blobs::new();
        let (path, _) = blobs.ingest("layer", &layer()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let range = if in_superblock { 1024..1152 } else { 12_288 + 4096 + (64 << 10)..bytes.len() };
        for (index, byte) in damage {
            let at = range.start + index.index(range.len());
            bytes[at] = byte;
        }
        repair(&mut bytes);
        let damaged = blobs.write("damaged", &bytes);
        if let Ok(reader) = Reader::open(&damaged) {
            let _ = walk(&reader);
        }
        let (lower, _) = blobs.ingest("lower", &Archive::of([Spec::file("no/such/file", "")]).ended()).unwrap();
        let _ = merge(&[&lower, &damaged], &mut blobs.create("meta"));
    }

    #[test]
    fn attributes_come_back(pairs in prop::collection::vec(("[a-z.]{1,20}", prop::collection::vec(any::<u8>(), 0..70)), 0..6)) {
        let xattrs: Vec<Xattr> =
            pairs.into_iter().map(|(name, value)| Xattr { name: format!("user.{name}").into_bytes(), value }).collect();
        prop_assert_eq!(super::xattr::decode(&encode_xattrs(&xattrs).unwrap()).unwrap(), xattrs);
    }

    #[test]
    fn any_attribute_bytes_are_taken_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::xattr::decode(&body);
    }

    #[test]
    fn any_file_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 4096..9000)) {
        let blobs = Blobs::new();
        let path = blobs.write("image", &bytes);
        prop_assert!(Reader::new(File::open(path).unwrap()).is_err());
    }
}
