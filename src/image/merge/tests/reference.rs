//! OCI layers applied one by one to a tree of paths, as slowly and as plainly as the specification puts it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::image::erofs::snapshot::{Item, Snapshot};
use crate::image::erofs::{
    Marks, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, device_number,
};
use crate::image::layer::archive::Spec;

type Path = Vec<u8>;

/// A tree under construction: names and the files they stand for.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    names: BTreeMap<Path, usize>,
    files: Vec<Item>,
}

/// The archive is one that has to be refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// A hard link that leads to no file: an error, unless another entry or layer hides it.
const BROKEN: u16 = 0;

fn directory() -> Item {
    Item {
        mode: S_IFDIR | 0o755,
        owner: (0, 0),
        mtime: (0, 0),
        nlink: 0,
        device: None,
        xattrs: Vec::new(),
        content: Vec::new(),
        same_as: Vec::new(),
        marks: Marks::default(),
    }
}

fn parent(path: &[u8]) -> Path {
    path.iter().rposition(|&byte| byte == b'/').map_or(Vec::new(), |at| path[..at].to_vec())
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn below(path: &[u8], directory: &[u8]) -> bool {
    !path.is_empty()
        && (directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/")))
}

impl Reference {
    pub(super) fn new() -> Self {
        Self { names: BTreeMap::from([(Vec::new(), 0)]), files: vec![directory()] }
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        self.names.get(path).is_some_and(|&file| self.files[file].mode & S_IFMT == S_IFDIR)
    }

    fn remove_below(&mut self, path: &[u8]) {
        self.names.retain(|name, _| !below(name, path));
    }

    fn put(&mut self, path: &[u8], item: Item) {
        self.files.push(item);
        self.names.insert(path.to_vec(), self.files.len() - 1);
    }

    /// Applies a layer. `Err` if it or what it asks for is impossible.
    pub(super) fn apply(&mut self, layer: &[Spec]) -> Result<(), Refused> {
        let before = self.clone();
        for spec in layer {
            let directory = parent(&spec.path);
            if name(&spec.path) == b".wh..wh..opq" {
                if self.is_directory(&directory) {
                    self.remove_below(&directory);
                }
            } else if let Some(hidden) = name(&spec.path).strip_prefix(b".wh.") {
                let hidden = join(&directory, hidden);
                self.remove_below(&hidden);
                self.names.remove(&hidden);
            }
        }
        let mut own = HashSet::new();
        for spec in layer {
            let directory = parent(&spec.path);
            self.enter(&directory, &mut own);
            if !name(&spec.path).starts_with(b".wh.") {
                self.add(spec, &before, &mut own)?;
            }
        }
        Ok(())
    }

    /// Makes sure that all directories down to `path` are there.
    fn enter(&mut self, path: &[u8], own: &mut HashSet<Path>) {
        if !path.is_empty() {
            self.enter(&parent(path), own);
        }
        if !self.is_directory(path) {
            own.retain(|name| !below(name, path));
            self.put(path, directory());
        }
        own.insert(path.to_vec());
    }

    fn add(&mut self, spec: &Spec, before: &Self, own: &mut HashSet<Path>) -> Result<(), Refused> {
        if spec.flag == b'1' {
            return self.add_link(spec, before, own);
        }
        let path = &spec.path;
        let item = item(spec);
        if spec.flag == b'5' && self.is_directory(path) {
            let file = self.names[path];
            self.files[file] = item;
        } else {
            self.remove_below(path);
            own.retain(|name| !below(name, path));
            self.put(path, item);
        }
        own.insert(path.clone());
        Ok(())
    }

    fn add_link(&mut self, spec: &Spec, before: &Self, own: &mut HashSet<Path>) -> Result<(), Refused> {
        let tree = if own.contains(&spec.link) { &*self } else { before };
        let found = tree.names.get(&spec.link).copied();
        if tree.is_directory(&spec.link) && own.contains(&spec.link) {
            return Err(Refused);
        }
        let file = found.filter(|_| !tree.is_directory(&spec.link)).unwrap_or_else(|| {
            self.files.push(Item { mode: BROKEN, ..directory() });
            self.files.len() - 1
        });
        self.remove_below(&spec.path);
        own.retain(|name| !below(name, &spec.path));
        self.names.insert(spec.path.clone(), file);
        own.insert(spec.path.clone());
        Ok(())
    }

    /// The tree as an image shows it; refused if a hard link leads to no file.
    pub(super) fn snapshot(&self) -> Result<Snapshot, Refused> {
        if self.names.values().any(|&file| self.files[file].mode == BROKEN) {
            return Err(Refused);
        }
        let mut first_names: HashMap<usize, Path> = HashMap::new();
        let mut counts: HashMap<usize, u32> = HashMap::new();
        for (path, &file) in &self.names {
            first_names.entry(file).or_insert_with(|| path.clone());
            *counts.entry(file).or_default() += 1;
        }
        let snapshot = |(path, &file): (&Path, &usize)| {
            let mut item = self.files[file].clone();
            item.same_as = first_names[&file].clone();
            item.nlink = counts[&file];
            if item.mode & S_IFMT == S_IFDIR {
                let child =
                    |name: &&Path| !name.is_empty() && parent(name) == *path && self.is_directory(name);
                item.nlink = 2 + self.names.keys().filter(child).count() as u32;
            }
            (path.clone(), item)
        };
        Ok(self.names.iter().map(snapshot).collect())
    }
}

fn join(directory: &[u8], name: &[u8]) -> Path {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// The file an entry describes.
fn item(spec: &Spec) -> Item {
    let (kind, content) = match spec.flag {
        b'0' => (S_IFREG, spec.content.clone()),
        b'2' => (S_IFLNK, spec.link.clone()),
        b'3' => (S_IFCHR, Vec::new()),
        b'4' => (S_IFBLK, Vec::new()),
        b'6' => (S_IFIFO, Vec::new()),
        _ => (S_IFDIR, Vec::new()),
    };
    let mut xattrs = spec.xattrs.clone();
    xattrs.sort();
    Item {
        mode: kind | if spec.flag == b'2' { 0o777 } else { spec.mode as u16 },
        owner: (spec.owner.0 as u32, spec.owner.1 as u32),
        mtime: spec.mtime,
        device: matches!(spec.flag, b'3' | b'4')
            .then(|| device_number(spec.device.0, spec.device.1))
            .flatten(),
        xattrs,
        content,
        ..directory()
    }
}
