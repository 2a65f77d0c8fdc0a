//! Reading a small file of an image on the host, such as its `/etc/passwd`.

use std::path::Path;

use super::Image;
use super::erofs::{BLOCK, Inode, Layout, NULL_BLOCK, Reader};

/// The largest file that is read: more than any list of users is long.
const LARGEST: u64 = 1 << 20;

impl Image {
    /// The contents of the regular file at the absolute path `path`, followed through no link; `None` where there is none, or
    /// where it is larger than 1 MiB or damaged.
    #[must_use]
    pub fn small_file(&self, path: &Path) -> Option<Vec<u8>> {
        let metadata = Reader::open(self.extents.first()?).ok()?;
        let mut inode = metadata.inode(metadata.root()).ok()?;
        for name in path.iter().skip(1) {
            let names = inode.is_directory().then(|| metadata.read_dir(&inode).ok()).flatten()?;
            inode = metadata.inode(names.find(name.as_encoded_bytes())?).ok()?;
        }
        let regular = u32::from(inode.mode()) & libc::S_IFMT == libc::S_IFREG;
        (regular && inode.size() <= LARGEST).then(|| self.contents(&metadata, &inode)).flatten()
    }

    /// The bytes of a file, which lie in the layers.
    fn contents(&self, metadata: &Reader, file: &Inode) -> Option<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let Layout::Chunked { bits, .. } = file.layout().ok()? else {
            let mut bytes = vec![0; usize::try_from(file.size()).ok()?];
            return (metadata.read(file, 0, &mut bytes).ok()? == bytes.len()).then_some(bytes);
        };
        let chunk = BLOCK << u32::from(bits);
        let mut bytes = Vec::new();
        for place in metadata.chunks(file).ok()? {
            let length = chunk.min(file.size() - bytes.len() as u64);
            let mut part = vec![0; usize::try_from(length).ok()?];
            if place.block != NULL_BLOCK {
                let layer = std::fs::File::open(self.extents.get(usize::from(place.device))?).ok()?;
                layer.read_exact_at(&mut part, u64::from(place.block).checked_mul(BLOCK)?).ok()?;
            }
            bytes.extend(part);
        }
        Some(bytes)
    }
}
