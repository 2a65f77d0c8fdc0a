//! Hard links to files of lower layers.

use std::collections::HashMap;

use super::stack::{Found, Source};
use super::{Error, Merge};
use crate::image::erofs::{Inode, Marks};

impl Merge<'_> {
    /// Finds the file of every recorded link. The file is the same inode as under its own name, if that name is still
    /// part of the image.
    pub(super) fn resolve_lower_links(&mut self) -> Result<(), Error> {
        if self.lower_links.is_empty() {
            return Ok(());
        }
        let mut nodes: HashMap<Source, u32> =
            (0..).zip(&self.origins).skip(1).map(|(node, &origin)| (origin, node)).collect();
        for link in std::mem::take(&mut self.lower_links) {
            let (inode, target) = self.target(link.entry, link.link)?;
            let node = match nodes.get(&target) {
                Some(&node) => node,
                None => {
                    let node = self.file(&inode, target)?;
                    nodes.insert(target, node);
                    node
                }
            };
            self.tree.entries[link.entry as usize].node = node;
        }
        Ok(())
    }

    /// The file a link leads to, through links of lower layers if need be: each step goes to a lower layer.
    fn target(&self, entry: u32, first: Source) -> Result<(Inode, Source), Error> {
        let mut link = first;
        loop {
            let inode = self.stack.inode(link)?;
            let text =
                self.stack.reader(link).read_link(&inode).map_err(|error| self.stack.failed(link, error))?;
            let missing = || Error::HardLink {
                path: self.stack.path(first),
                entry: self.tree.name(&self.tree.entries[entry as usize]).escape_ascii().to_string(),
                target: text.escape_ascii().to_string(),
            };
            let found = self.find_below(link.layer, &text)?.ok_or_else(missing)?;
            if found.inode.is_directory() {
                return Err(missing());
            }
            let target = found.top();
            if !found.inode.marks().has(Marks::LOWER_LINK) {
                return Ok((found.inode, target));
            }
            link = target;
        }
    }

    /// What a path is in the layers below `below`.
    fn find_below(&self, below: u16, path: &[u8]) -> Result<Option<Found>, Error> {
        let mut found = self.stack.root_below(below)?;
        for name in path.split(|&byte| byte == b'/') {
            let Some(directory) = found.filter(|found| found.inode.is_directory()) else { return Ok(None) };
            found = self.stack.lookup(&directory.sources, name)?;
        }
        Ok(found)
    }
}
