#![allow(clippy::unwrap_used)]

mod cases;
mod reference;

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{MergeStats, merge};
use crate::image::erofs::Xattr;
use crate::image::erofs::snapshot::{Disk, Snapshot};
use crate::image::layer::archive::{Archive, Blobs, Spec};
use reference::Reference;

/// Layers on disk and the image made of them.
struct Image {
    blobs: Blobs,
    layers: Vec<PathBuf>,
}

impl Image {
    /// Ingests archives of these entries, the lowest layer first.
    fn of(layers: &[Vec<Spec>]) -> Result<Self, crate::image::layer::Error> {
        let blobs = Blobs::new();
        let ingest = |(number, specs): (usize, &Vec<Spec>)| {
            let tar = Archive::of(specs.iter().cloned()).ended();
            blobs.ingest(&format!("layer{number}"), &tar).map(|(path, _)| path)
        };
        let layers = layers.iter().enumerate().map(ingest).collect::<Result<_, _>>()?;
        Ok(Self { blobs, layers })
    }

    fn layers(&self) -> Vec<&Path> {
        self.layers.iter().map(PathBuf::as_path).collect()
    }

    fn merge(&self) -> Result<MergeStats, super::Error> {
        merge(&self.layers(), &mut self.blobs.create("meta"))
    }

    fn snapshot(&self) -> Snapshot {
        Disk::image(&self.blobs.path("meta"), &self.layers()).snapshot()
    }
}

/// Few names, so that entries meet each other.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec!["a", "b", "c", "-d", "!"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/").into_bytes())
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let name = prop::sample::select(vec![
        "user.a",
        "user.long.name",
        "security.capability",
        "trusted.t",
        "system.posix_acl_access",
    ]);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::btree_map(name, value, 0..3).prop_map(|xattrs| {
        xattrs.into_iter().map(|(name, value)| Xattr { name: name.as_bytes().to_vec(), value }).collect()
    })
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        (1_usize..200_000).prop_map(|length| vec![0; length]),
        (1_usize..10_000, 1_u8..).prop_map(|(length, byte)| vec![byte; length]),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop_oneof![
        6 => Just(b'5'),
        6 => Just(b'0'),
        2 => Just(b'1'),
        2 => Just(b'2'),
        1 => Just(b'3'),
        1 => Just(b'4'),
        1 => Just(b'6'),
        3 => Just(b'w'),
        2 => Just(b'o'),
    ];
    let owner = (0_u64..1 << 32, 0_u64..1 << 32);
    let mtime = (-1_000_000_000_000_i64..1_000_000_000_000, 0_u32..1_000_000_000);
    let device = (0_u32..1 << 12, 0_u32..1 << 20);
    (kind, path(), path(), 0_u32..0o10000, owner, mtime, device, xattrs(), content()).prop_map(
        |(flag, path, link, mode, owner, mtime, device, xattrs, content)| {
            let (flag, path) = match flag {
                b'w' => {
                    let at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
                    (b'0', [&path[..at], b".wh.", &path[at..]].concat())
                }
                b'o' => (b'0', [&path[..], b"/.wh..wh..opq"].concat()),
                other => (other, path),
            };
            let plain = flag == b'0' && !path.windows(4).any(|window| window == b".wh.");
            let link = if matches!(flag, b'1' | b'2') { link } else { Vec::new() };
            let content = if plain { content } else { Vec::new() };
            Spec { path, flag, link, mode, owner, mtime, device, xattrs, content }
        },
    )
}

fn layers() -> impl Strategy<Value = Vec<Vec<Spec>>> {
    prop::collection::vec(prop::collection::vec(spec(), 0..14), 0..5)
}

proptest! {
    #[test]
    fn merging_equals_applying_layer_by_layer(layers in layers()) {
        let mut expected = Reference::new();
        let refused = layers.iter().any(|layer| expected.apply(layer).is_err());
        let merged = Image::of(&layers).map_err(|_| ()).and_then(|image| image.merge().map(|_| image).map_err(|_| ()));
        match expected.snapshot() {
            Ok(expected) if !refused => prop_assert_eq!(merged.map(|image| image.snapshot()), Ok(expected)),
            _ => prop_assert!(merged.is_err()),
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn equal_layers_give_equal_bytes(layers in layers()) {
        let (Ok(one), Ok(two)) = (Image::of(&layers), Image::of(&layers)) else { return Ok(()) };
        for (a, b) in one.layers.iter().zip(&two.layers) {
            prop_assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
        }
        if one.merge().is_ok() {
            two.merge().unwrap();
            let read = |image: &Image| std::fs::read(image.blobs.path("meta")).unwrap();
            prop_assert_eq!(read(&one), read(&two));
        }
    }
}
