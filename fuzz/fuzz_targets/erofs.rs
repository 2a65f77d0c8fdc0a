//! The reader of our own blobs: they lie in a cache that may be damaged.
#![no_main]
#[path = "../mended/mod.rs"]
#[allow(dead_code, reason = "each target needs one")]
mod mended;

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use msb::image::erofs::Reader;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(&mended::erofs(bytes)).expect("written");
    let Ok(reader) = Reader::new(file) else { return };
    let Ok(root) = reader.inode(reader.root()) else { return };
    let _ = reader.xattrs(&root);
    let Ok(entries) = reader.read_dir(&root) else { return };
    for (_, nid) in entries.iter().take(64) {
        if let Ok(inode) = reader.inode(nid) {
            let _ = (reader.xattrs(&inode), reader.read_link(&inode), reader.read_dir(&inode));
            let _ = reader.read(&inode, 0, &mut [0; 512]);
        }
    }
});
