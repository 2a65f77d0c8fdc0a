//! The layers on top of each other, read side by side.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Error;
use crate::image::erofs::{self, DirEntries, Inode, Marks, Reader};

/// An inode of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    /// The layer, counted from the lowest.
    pub(super) layer: u16,
    /// The inode's number in its blob.
    pub(super) nid: u64,
}

impl Source {
    /// The source of what no layer has.
    pub(super) const NONE: Self = Self { layer: u16::MAX, nid: u64::MAX };

    /// The number of the layer in the image's device table, where the image itself is 0.
    pub(super) fn device(self) -> u16 {
        self.layer + 1
    }
}

/// What the layers' entries of one name come to.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The inode whose metadata count: of a file, or of the topmost directory that its layer describes.
    pub(super) inode: Inode,
    /// Where that inode is.
    pub(super) described: Source,
    /// The file, or the directories whose names are merged, the topmost first. Never empty.
    pub(super) sources: Vec<Source>,
}

impl Found {
    fn new(inode: Inode, source: Source) -> Self {
        Self { inode, described: source, sources: vec![source] }
    }

    /// Whether a layer has an entry for this, and not only for what is below it.
    fn is_described(&self) -> bool {
        !self.inode.marks().has(Marks::IMPLICIT)
    }

    /// The topmost source.
    pub(super) fn top(&self) -> Source {
        self.sources.first().copied().unwrap_or(Source::NONE)
    }
}

/// The open layer blobs.
#[derive(Debug)]
pub(super) struct Stack {
    layers: Vec<(PathBuf, Reader)>,
    /// Directories on the way to targets of hard links: many links lead into the same ones.
    looked_up: RefCell<HashMap<Source, Rc<DirEntries>>>,
}

impl Stack {
    /// Opens the blobs, the lowest first.
    pub(super) fn open(paths: &[&Path]) -> Result<Self, Error> {
        // Numbers of layers are 16-bit, and one is taken.
        if paths.len() >= usize::from(u16::MAX) {
            return Err(erofs::Error::TooLarge("more than 65534 layers").into());
        }
        let open = |path: &&Path| {
            let failed = |source| Error::Layer { path: path.to_path_buf(), source };
            let reader = Reader::open(path).map_err(failed)?;
            if !reader.is_layer() {
                return Err(failed(erofs::Error::Corrupt { what: "not a layer blob", place: 0 }));
            }
            Ok((path.to_path_buf(), reader))
        };
        Ok(Self { layers: paths.iter().map(open).collect::<Result<_, _>>()?, looked_up: RefCell::default() })
    }

    pub(super) fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.layers.iter().map(|(_, reader)| reader)
    }

    pub(super) fn reader(&self, source: Source) -> &Reader {
        &self.layers[usize::from(source.layer)].1
    }

    /// The path of a source's blob.
    pub(super) fn path(&self, source: Source) -> PathBuf {
        self.layers[usize::from(source.layer)].0.clone()
    }

    /// The error for a blob that could not be read.
    pub(super) fn failed(&self, source: Source, error: erofs::Error) -> Error {
        Error::Layer { path: self.path(source), source: error }
    }

    pub(super) fn inode(&self, source: Source) -> Result<Inode, Error> {
        self.reader(source).inode(source.nid).map_err(|error| self.failed(source, error))
    }

    fn read_dir(&self, source: Source) -> Result<DirEntries, Error> {
        let inode = self.inode(source)?;
        self.reader(source).read_dir(&inode).map_err(|error| self.failed(source, error))
    }

    /// The root directory that the layers below `below` make.
    pub(super) fn root_below(&self, below: u16) -> Result<Option<Found>, Error> {
        let root = |layer: u16| Source { layer, nid: self.layers[usize::from(layer)].1.root() };
        self.decide((0..below).rev().map(root))
    }

    /// The root directory of the image; `None` if there are no layers.
    pub(super) fn root(&self) -> Result<Option<Found>, Error> {
        self.root_below(self.layers.len() as u16)
    }

    /// What the layers' entries of one name, the topmost first, come to.
    pub(super) fn decide(&self, candidates: impl Iterator<Item = Source>) -> Result<Option<Found>, Error> {
        let mut found: Option<Found> = None;
        let mut hidden = false;
        for source in candidates {
            let inode = self.inode(source)?;
            let (directory, marks) = (inode.is_directory(), inode.marks());
            if marks.has(Marks::WHITEOUT) {
                break;
            }
            match &mut found {
                None => found = Some(Found::new(inode, source)),
                Some(_) if !directory => break,
                Some(found) => {
                    if !hidden {
                        found.sources.push(source);
                    }
                    if !found.is_described() && !marks.has(Marks::IMPLICIT) {
                        (found.inode, found.described) = (inode, source);
                    }
                }
            }
            // An opaque directory hides the names in the lower ones, yet they may be what describes it.
            hidden |= marks.has(Marks::OPAQUE);
            if !directory || hidden && found.as_ref().is_some_and(Found::is_described) {
                break;
            }
        }
        Ok(found)
    }

    fn look_up_dir(&self, source: Source) -> Result<Rc<DirEntries>, Error> {
        if let Some(known) = self.looked_up.borrow().get(&source) {
            return Ok(Rc::clone(known));
        }
        let entries = Rc::new(self.read_dir(source)?);
        self.looked_up.borrow_mut().insert(source, Rc::clone(&entries));
        Ok(entries)
    }

    /// The names in some layers' directories, the topmost first, side by side.
    ///
    /// Each directory is read once. Directories of a damaged blob may still share their names; `room` is what is left of
    /// the names that every blob can hold.
    pub(super) fn names(&self, directories: &[Source], room: &mut [u64]) -> Result<Names, Error> {
        let mut read = |&source: &Source| {
            let entries = self.read_dir(source)?;
            let room = &mut room[usize::from(source.layer)];
            *room = room.checked_sub(entries.len() as u64).ok_or_else(|| {
                let what = "more names than there is room for";
                self.failed(source, erofs::Error::Corrupt { what, place: source.nid })
            })?;
            Ok(Cursor { layer: source.layer, entries, next: 0 })
        };
        Ok(Names {
            cursors: directories.iter().map(&mut read).collect::<Result<_, Error>>()?,
            found: Vec::new(),
        })
    }

    /// What `name` stands for in some layers' directories.
    pub(super) fn lookup(&self, directories: &[Source], name: &[u8]) -> Result<Option<Found>, Error> {
        let mut candidates = Vec::new();
        for &directory in directories {
            if let Some(nid) = self.look_up_dir(directory)?.find(name) {
                candidates.push(Source { layer: directory.layer, nid });
            }
        }
        self.decide(candidates.into_iter())
    }
}

struct Cursor {
    layer: u16,
    entries: DirEntries,
    next: usize,
}

/// Sorted directories being merged.
pub(super) struct Names {
    cursors: Vec<Cursor>,
    /// Of the current name: cursor and inode number.
    found: Vec<(usize, u64)>,
}

/// One name and the layers that have it.
pub(super) struct Candidates<'a> {
    names: &'a Names,
}

impl Candidates<'_> {
    pub(super) fn name(&self) -> &[u8] {
        let first = self.names.found.first().map(|&(cursor, _)| &self.names.cursors[cursor]);
        first.and_then(|cursor| cursor.entries.get(cursor.next - 1)).map_or(b"", |(name, _)| name)
    }

    /// The layers' inodes, the topmost first.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.names.found.iter().map(|&(cursor, nid)| Source { layer: self.names.cursors[cursor].layer, nid })
    }
}

impl Names {
    /// The next name in the order of bytes.
    pub(super) fn next(&mut self) -> Option<Candidates<'_>> {
        self.found.clear();
        let mut least: Option<&[u8]> = None;
        for (index, cursor) in self.cursors.iter().enumerate() {
            let Some((name, nid)) = cursor.entries.get(cursor.next) else { continue };
            if least.is_none_or(|least| name < least) {
                least = Some(name);
                self.found.clear();
            }
            if least == Some(name) {
                self.found.push((index, nid));
            }
        }
        least?;
        for &(index, _) in &self.found {
            self.cursors[index].next += 1;
        }
        Some(Candidates { names: self })
    }
}
