//! For tests: tar archives, right and wrong ones, entry by entry.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Error, LayerStats, Limits, ingest_within};
use crate::image::erofs::Xattr;

/// An entry to be written.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) path: Vec<u8>,
    /// The type byte.
    pub(crate) flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) content: Vec<u8>,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, link) = (self.path.escape_ascii(), self.link.escape_ascii());
        write!(f, "{} {path}", char::from(self.flag))?;
        if !self.link.is_empty() {
            write!(f, " -> {link}")?;
        }
        write!(f, " {:o} {:?} {} bytes", self.mode, self.owner, self.content.len())
    }
}

impl Spec {
    pub(crate) fn new(flag: u8, path: impl AsRef<[u8]>) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            flag,
            link: Vec::new(),
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            owner: (0, 0),
            mtime: (1_700_000_000, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            content: Vec::new(),
        }
    }

    pub(crate) fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self { content: content.as_ref().to_vec(), ..Self::new(b'0', path) }
    }

    pub(crate) fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', path)
    }

    pub(crate) fn symlink(path: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Self {
        Self { link: link.as_ref().to_vec(), ..Self::new(b'2', path) }
    }

    pub(crate) fn hard_link(path: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Self {
        Self { link: link.as_ref().to_vec(), ..Self::new(b'1', path) }
    }

    pub(crate) fn xattr(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push(Xattr { name: name.as_bytes().to_vec(), value: value.as_ref().to_vec() });
        self
    }
}

/// A tar archive being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive {
    pub(crate) bytes: Vec<u8>,
}

impl Archive {
    /// An archive of these entries, not ended.
    pub(crate) fn of(specs: impl IntoIterator<Item = Spec>) -> Self {
        let mut archive = Self::default();
        for spec in specs {
            archive.add(&spec);
        }
        archive
    }

    /// Adds an entry with an extended header for whatever the plain one cannot say.
    pub(crate) fn add(&mut self, spec: &Spec) {
        let mut records = Vec::new();
        if spec.path.len() > 100 {
            records.push((b"path".to_vec(), spec.path.clone()));
        }
        if spec.link.len() > 100 {
            records.push((b"linkpath".to_vec(), spec.link.clone()));
        }
        if spec.mtime.1 != 0 || spec.mtime.0 < 0 {
            records.push((b"mtime".to_vec(), decimal_time(spec.mtime).into_bytes()));
        }
        for xattr in &spec.xattrs {
            records.push(([b"SCHILY.xattr.", &xattr.name[..]].concat(), xattr.value.clone()));
        }
        if !records.is_empty() {
            self.pax(&records);
        }
        let mut header = tar::Header::new_gnu();
        let n = spec.path.len().min(100);
        header.as_old_mut().name[..n].copy_from_slice(&spec.path[..n]);
        let n = spec.link.len().min(100);
        header.as_old_mut().linkname[..n].copy_from_slice(&spec.link[..n]);
        header.set_mode(spec.mode);
        header.set_uid(spec.owner.0);
        header.set_gid(spec.owner.1);
        header.set_mtime(spec.mtime.0.max(0) as u64);
        header.set_device_major(spec.device.0).unwrap();
        header.set_device_minor(spec.device.1).unwrap();
        header.as_old_mut().linkflag = [spec.flag];
        self.raw(header, &spec.content);
    }

    /// Adds an extended header.
    pub(crate) fn pax(&mut self, records: &[(Vec<u8>, Vec<u8>)]) {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
            bytes.extend_from_slice(length.unwrap().to_string().as_bytes());
            bytes.extend_from_slice(&[b" ", &key[..], b"=", &value[..], b"\n"].concat());
        }
        let mut header = tar::Header::new_ustar();
        header.set_path("PaxHeaders/x").unwrap();
        header.set_mode(0o644);
        header.as_old_mut().linkflag = *b"x";
        self.raw(header, &bytes);
    }

    /// Adds a header with the right size and checksum, and content.
    pub(crate) fn raw(&mut self, mut header: tar::Header, content: &[u8]) {
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// The bytes with the end of the archive.
    pub(crate) fn ended(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn decimal_time((seconds, nanoseconds): (i64, u32)) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", all.unsigned_abs() / 1_000_000_000, all.unsigned_abs() % 1_000_000_000)
}

/// A folder with the layer blobs of a test.
#[derive(Debug)]
pub(crate) struct Blobs {
    pub(crate) folder: TempDir,
}

impl Blobs {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new file in the folder.
    pub(crate) fn create(&self, name: &str) -> File {
        let options = File::options().read(true).write(true).create(true).truncate(true).clone();
        options.open(self.path(name)).unwrap()
    }

    /// Turns an archive into a blob.
    pub(crate) fn ingest(&self, name: &str, tar: &[u8]) -> Result<(PathBuf, LayerStats), Error> {
        self.ingest_within(name, tar, &Limits::default())
    }

    /// Turns an archive into a blob, within limits.
    pub(crate) fn ingest_within(
        &self,
        name: &str,
        tar: &[u8],
        limits: &Limits,
    ) -> Result<(PathBuf, LayerStats), Error> {
        let stats = ingest_within(tar, &mut self.create(name), limits)?;
        Ok((self.path(name), stats))
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        self.create(name).write_all(bytes).unwrap();
        self.path(name)
    }
}
