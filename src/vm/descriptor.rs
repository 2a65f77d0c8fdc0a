//! VMDK descriptors with flat extents: read on this side, written anew in the machine's process.
//!
//! The descriptor names files by path. The machine's process has no paths, only descriptors, so it gets the pieces and writes a
//! descriptor of its own over `/proc/self/fd`. Format: "Virtual Disk Format 5.0", VMware, section "The Descriptor File".

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A descriptor of 128 layers is some 20 KiB.
pub(super) const MAX_DESCRIPTOR: u64 = 1 << 20;
const MAX_EXTENTS: usize = 4096;

/// One extent line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// Length in sectors of 512 bytes.
    pub(super) sectors: u64,
    /// File and first sector in it; `None` for a run of zeroes.
    pub(super) data: Option<(PathBuf, u64)>,
}

/// Reads the extent lines of a descriptor. Relative names are relative to `folder`.
pub(super) fn parse(text: &str, folder: &Path) -> Result<Vec<Extent>, String> {
    let mut extents = Vec::new();
    let mut total = 0u64;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || is_assignment(line) {
            continue;
        }
        let extent = parse_extent(line, folder).map_err(|reason| format!("line {}: {reason}", number + 1))?;
        total = total
            .checked_add(extent.sectors)
            .filter(|sectors| *sectors <= i64::MAX as u64 / 512)
            .ok_or_else(|| format!("line {}: the disk is larger than a file can be", number + 1))?;
        if extents.len() == MAX_EXTENTS {
            return Err(format!("more than {MAX_EXTENTS} extents"));
        }
        extents.push(extent);
    }
    if extents.is_empty() { Err("it has no extents".into()) } else { Ok(extents) }
}

/// `key = value` and `key=value` lines say nothing about where the bytes are.
fn is_assignment(line: &str) -> bool {
    line.find('=').is_some_and(|at| !line[..at].contains('"'))
}

fn parse_extent(line: &str, folder: &Path) -> Result<Extent, String> {
    let (fields, rest) = match line.split_once('"') {
        Some((fields, rest)) => (fields, Some(rest)),
        None => (line, None),
    };
    let mut fields = fields.split_whitespace();
    match fields.next() {
        Some("RW" | "RDONLY") => {}
        other => return Err(format!("unknown access '{}'", other.unwrap_or_default())),
    }
    let sectors = fields.next().and_then(|field| field.parse().ok()).filter(|sectors| *sectors > 0);
    let sectors = sectors.ok_or("the number of sectors is missing")?;
    match (fields.next(), rest) {
        (Some("ZERO"), None) => Ok(Extent { sectors, data: None }),
        (Some("FLAT"), Some(rest)) => {
            let (name, offset) = rest.split_once('"').ok_or("the file name does not end")?;
            if name.is_empty() {
                return Err("the file name is empty".into());
            }
            let offset = match offset.trim() {
                "" => 0,
                digits => digits.parse().map_err(|_| "the offset is not a number".to_owned())?,
            };
            Ok(Extent { sectors, data: Some((folder.join(name), offset)) })
        }
        (kind, _) => Err(format!("unsupported extent type '{}'", kind.unwrap_or_default())),
    }
}

/// Writes a descriptor that libkrun and QEMU understand. There is no empty line before the extents: QEMU's parser skips it
/// together with its end and then counts the first extent twice. Each item is a length in sectors and a file name with the first sector
/// in it (`None`: zeroes); names must not contain quotes or line ends.
pub(super) fn format<'a>(extents: impl IntoIterator<Item = (u64, Option<(&'a str, u64)>)>) -> String {
    let mut text = String::from(concat!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n",
        "createType=\"twoGbMaxExtentFlat\"\n# Extent description\n"
    ));
    for (sectors, data) in extents {
        // Writing to a String cannot fail.
        let _ = match data {
            Some((name, offset)) => writeln!(text, "RW {sectors} FLAT \"{name}\" {offset}"),
            None => writeln!(text, "RW {sectors} ZERO"),
        };
    }
    text.push_str(concat!(
        "# Disk Data Base\nddb.adapterType = \"ide\"\nddb.geometry.cylinders = \"4\"\nddb.geometry.heads = \"16\"\n",
        "ddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"4\"\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn extent(sectors: u64, name: &str, offset: u64) -> Extent {
        Extent { sectors, data: Some((name.into(), offset)) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = format([(8, Some(("/layers/a b.erofs", 0))), (16, None), (24, Some(("/x=1", 4096)))]);
        let expected =
            [extent(8, "/layers/a b.erofs", 0), Extent { sectors: 16, data: None }, extent(24, "/x=1", 4096)];
        assert_eq!(parse(&text, Path::new("/")).unwrap(), expected);
    }

    #[test]
    fn no_line_is_empty() {
        assert!(format([(8, Some(("/a", 0))), (8, None)]).lines().all(|line| !line.is_empty()));
    }

    #[test]
    fn relative_names_are_relative_to_the_descriptor() {
        let extents = parse("RW 8 FLAT \"layer.erofs\"\n", Path::new("/cache/images")).unwrap();
        assert_eq!(extents, [extent(8, "/cache/images/layer.erofs", 0)]);
    }

    #[test]
    fn anything_but_flat_and_zero_extents_is_refused() {
        for (line, reason) in [
            ("RW 8 SPARSE \"a.vmdk\"", "line 1: unsupported extent type 'SPARSE'"),
            ("NOACCESS 8 FLAT \"a\" 0", "line 1: unknown access 'NOACCESS'"),
            ("RW 0 FLAT \"a\" 0", "line 1: the number of sectors is missing"),
            ("RW 8 FLAT \"a", "line 1: the file name does not end"),
            ("RW 8 FLAT \"\" 0", "line 1: the file name is empty"),
            ("RW 8 FLAT \"a\" x", "line 1: the offset is not a number"),
            ("# only a comment", "it has no extents"),
            ("RW 18446744073709551615 ZERO", "line 1: the disk is larger than a file can be"),
        ] {
            assert_eq!(parse(line, Path::new("/")).unwrap_err(), reason, "{line}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}", lines in proptest::collection::vec("(RW|RDONLY)? ?[0-9]{0,20} ?(FLAT|ZERO)? ?\"?[a-z=]{0,4}\"? ?[0-9]{0,21}", 0..8)) {
            let _ = parse(&text, Path::new("/"));
            let _ = parse(&lines.join("\n"), Path::new("/"));
        }
    }
}
