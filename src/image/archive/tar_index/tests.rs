#![allow(clippy::unwrap_used)]

use std::io::Write;

use proptest::prelude::*;

use super::*;

fn index(bytes: &[u8]) -> Result<TarIndex, ArchiveError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    TarIndex::read(&file)
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(EntryType::Regular, 5), "./manifest.json", &b"hello"[..]).unwrap();
    builder.append_link(&mut header(EntryType::Symlink, 0), "a/layer.tar", "../b/layer.tar").unwrap();
    builder.append_data(&mut header(EntryType::Regular, 3), "b/layer.tar", &b"abc"[..]).unwrap();
    builder.append_link(&mut header(EntryType::Link, 0), "hard", "b/layer.tar").unwrap();
    builder.append_link(&mut header(EntryType::Symlink, 0), "loop", "loop").unwrap();
    builder.append_link(&mut header(EntryType::Symlink, 0), "out", "/etc/passwd").unwrap();
    let long = format!("long/{}", "x".repeat(180));
    let mut gnu = Header::new_gnu();
    gnu.set_size(0);
    builder.append_data(&mut gnu, &long, &b""[..]).unwrap();
    builder.append_pax_extensions([("path", &b"renamed"[..]), ("size", b"4")]).unwrap();
    let mut lying = header(EntryType::Regular, 0);
    lying.set_path("short").unwrap();
    lying.set_cksum();
    builder.append(&lying, &b""[..]).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    // The builder believed the header; put in the four bytes PAX announces, before the end marker.
    let end = bytes.len() - 1024;
    bytes.splice(end..end, [b"data".to_vec(), vec![0; 508]].concat());
    bytes
}

#[test]
fn finds_files_and_follows_links() {
    let bytes = archive();
    let index = index(&bytes).unwrap();
    let read = |name: &str| {
        let extent = index.get(name)?;
        let start = usize::try_from(extent.offset).unwrap();
        Some(bytes[start..start + usize::try_from(extent.size).unwrap()].to_vec())
    };
    assert_eq!(read("manifest.json").unwrap(), b"hello");
    assert_eq!(read("./b/../b//layer.tar").unwrap(), b"abc");
    assert_eq!((read("a/layer.tar").unwrap(), read("hard").unwrap()), (b"abc".to_vec(), b"abc".to_vec()));
    assert_eq!(read("renamed").unwrap(), b"data");
    assert_eq!(read(&format!("long/{}", "x".repeat(180))).unwrap(), b"");
    assert_eq!((read("loop"), read("out"), read("none")), (None, None, None));
}

#[test]
fn refuses_damage() {
    let bytes = archive();
    assert!(index(&bytes[..bytes.len() / 2 + 100]).is_err());
    let mut broken = bytes.clone();
    broken[0] ^= 1;
    assert!(matches!(index(&broken), Err(ArchiveError::Tar(_))));
    assert!(index(b"").unwrap().get("x").is_none());
    let mut huge = header(EntryType::XHeader, u64::MAX >> 2);
    huge.set_path("x").unwrap();
    huge.set_cksum();
    assert!(index(huge.as_bytes()).is_err());
    let mut empty = header(EntryType::Regular, 0);
    empty.set_path("x").unwrap();
    empty.set_cksum();
    let many = empty.as_bytes().repeat(MAX_ENTRIES + 1);
    assert!(matches!(index(&many), Err(ArchiveError::TooManyEntries(_))));
}

proptest! {
    #[test]
    fn mutated_archives_never_panic(edits in proptest::collection::vec((0usize..4096, any::<u8>()), 1..20)) {
        let mut bytes = archive();
        for (at, value) in edits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(index) = index(&bytes) {
            let _ = index.get("a/layer.tar");
        }
    }
}
