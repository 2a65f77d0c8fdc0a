//! Image archives and layout folders as a set of named files.

mod tar_index;
mod writer;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::{ArchiveError, Error};
use super::verify::decompress;
pub(super) use writer::BundleWriter;
pub use writer::SaveTarget;

use tar_index::{TarIndex, normal};

/// Largest list (`manifest.json`, `index.json`, a manifest or configuration) read into memory.
pub(super) const MAX_LIST: u64 = 8 << 20;

/// An opened archive or layout folder.
pub(super) struct Bundle {
    /// How to call it in messages.
    name: String,
    files: Files,
}

enum Files {
    Folder(PathBuf),
    Tar(File, TarIndex),
}

/// A run of bytes of a file, read without moving the file's own position, so that layers can be read in parallel.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Bundle {
    /// Opens a folder, or an archive that may be compressed.
    pub(super) fn open(path: &Path, spool: &Spool<'_>) -> Result<Self, Error> {
        let name = path.display().to_string();
        if path.is_dir() {
            return Ok(Self { name, files: Files::Folder(path.to_path_buf()) });
        }
        let mut file = File::open(path).map_err(Error::at("open", path))?;
        let is_regular = file.metadata().map_err(Error::at("read", path))?.is_file();
        if is_regular && !is_compressed(&file) {
            return Self::from_file(name, file);
        }
        let file = spool.fill(&name, &mut file)?;
        Self::from_file(name, file)
    }

    /// Reads an archive that cannot be read twice.
    pub(super) fn from_stream(name: &str, stream: &mut dyn Read, spool: &Spool<'_>) -> Result<Self, Error> {
        Self::from_file(name.to_owned(), spool.fill(name, stream)?)
    }

    fn from_file(name: String, file: File) -> Result<Self, Error> {
        match TarIndex::read(&file) {
            Ok(index) => Ok(Self { name, files: Files::Tar(file, index) }),
            Err(source) => Err(Error::Archive { path: name, source }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a file called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.files {
            Files::Folder(folder) => folder.join(normal("", name)).is_file(),
            Files::Tar(_, index) => index.get(name).is_some(),
        }
    }

    /// The file `name` from its start, and its size.
    pub(super) fn stream(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64), Error> {
        match &self.files {
            Files::Folder(folder) => {
                // `normal` keeps a name from leaving the folder.
                let path = folder.join(normal("", name));
                // Opening a pipe or device would wait or worse.
                if !path.is_file() {
                    return Err(self.missing(name));
                }
                let file = File::open(&path).map_err(Error::at("open", &path))?;
                let size = file.metadata().map_err(Error::at("read", &path))?.len();
                Ok((Box::new(file), size))
            }
            Files::Tar(file, index) => {
                let extent = index.get(name).ok_or_else(|| self.missing(name))?;
                let end = extent.offset + extent.size;
                Ok((Box::new(Section { file, offset: extent.offset, end }), extent.size))
            }
        }
    }

    /// The whole of a small file.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (stream, _) = self.stream(name)?;
        let mut text = Vec::new();
        stream
            .take(MAX_LIST + 1)
            .read_to_end(&mut text)
            .map_err(|error| self.error(ArchiveError::Tar(error)))?;
        match text.len() as u64 > MAX_LIST {
            true => Err(self.error(ArchiveError::TooLarge(shown(name)))),
            false => Ok(text),
        }
    }

    /// A small JSON file.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let text = self.read(name)?;
        serde_json::from_slice(&text)
            .map_err(|source| self.error(ArchiveError::Json { name: shown(name), source }))
    }

    pub(super) fn error(&self, source: ArchiveError) -> Error {
        Error::Archive { path: self.name.clone(), source }
    }

    fn missing(&self, name: &str) -> Error {
        self.error(ArchiveError::Missing(shown(name)))
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..length], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Where archives go that cannot be read in place: an unnamed file in the store, gone with the process.
pub(super) struct Spool<'a> {
    /// The folder whose disk is used.
    pub(super) folder: &'a Path,
    /// Most bytes taken.
    pub(super) limit: u64,
}

impl Spool<'_> {
    fn fill(&self, name: &str, stream: &mut dyn Read) -> Result<File, Error> {
        let unreadable = |source| Error::Archive { path: name.to_owned(), source: ArchiveError::Tar(source) };
        let mut file = tempfile::tempfile_in(self.folder).map_err(Error::at("write", self.folder))?;
        let mut input = decompress(BufReader::with_capacity(256 << 10, stream)).map_err(unreadable)?;
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0;
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            total += read as u64;
            if total > self.limit {
                return Err(Error::TooLarge { what: name.to_owned(), limit: self.limit });
            }
            file.write_all(&buffer[..read]).map_err(Error::at("write", self.folder))?;
        }
        file.rewind().map_err(Error::at("read", self.folder))?;
        Ok(file)
    }
}

fn is_compressed(file: &File) -> bool {
    let mut start = [0; 4];
    let read = file.read_at(&mut start, 0).unwrap_or(0);
    matches!(start[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd])
}

/// A hostile file name fit for a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(200).collect()
}
