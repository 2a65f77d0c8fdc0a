//! Tar headers: from records of 512 bytes to entries. The layouts of the fields are the `tar` crate's; the reading is ours
//! because extended headers need limits, may hold any byte and describe sparse files.

use std::io::Read;

use super::input::{Input, RECORD};
use super::pax::{self, Extensions};
use super::sparse::{MAX_PIECES, Map, MapParser, Piece};
use super::{Error, Limits, Xattr, device_number, numbers, shown};

/// The most extended attributes of one entry; the bytes have their own limit.
const MAX_XATTRS: usize = 4096;

/// The types of entries that become files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry of the archive, its content still unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the archive has it: maybe absolute, maybe with `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Target of a symlink or hard link.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u16,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// Time of modification: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Device number in Linux's form.
    pub device: u32,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Bytes the archive holds of the content.
    pub stored: u64,
    /// Where they belong, in a sparse file.
    pub sparse: Option<Map>,
}

impl Entry {
    /// Bytes of the file's content.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.stored, |map| map.size)
    }
}

/// The entries of a tar stream.
#[derive(Debug)]
pub struct Headers<R> {
    pub(super) input: Input<R>,
    limits: Limits,
    /// Bytes of padding behind the content of the current entry.
    padding: u64,
}

impl<R: Read> Headers<R> {
    /// Reads `stream` within `limits`.
    pub fn new(stream: R, limits: Limits) -> Self {
        Self { input: Input::new(stream, limits.bytes), limits, padding: 0 }
    }

    /// The next entry; the content of the one before was read. `None` at the end of the archive.
    ///
    /// # Errors
    /// [`Error`] when the archive is damaged or beyond the limits.
    #[allow(clippy::should_implement_trait, reason = "the content is read between two entries")]
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        let within = || String::from("the padding of a file");
        self.input.skip(std::mem::take(&mut self.padding), &within)?;
        loop {
            let offset = self.input.offset();
            let Some(record) = self.record()? else {
                let what = String::from("an entry, right behind its extended header");
                return if extended { Err(Error::Truncated { offset, what }) } else { Ok(None) };
            };
            let header = tar::Header::from_byte_slice(&record);
            let problem = |problem| Error::Header { offset, problem };
            verify_checksum(header).map_err(problem)?;
            let size = numbers::field(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| problem("a size that is no number"))?;
            let refuse = |problem| Error::Extension { entry: shown(&header.path_bytes()), problem };
            let flag = header.as_old().linkflag[0];
            extended |= matches!(flag, b'x' | b'X' | b'L' | b'K');
            match flag {
                b'x' | b'X' => {
                    let bytes = self.extension(size, header)?;
                    extensions.add_pax(&bytes).map_err(refuse)?;
                    if extensions.xattrs.len() > MAX_XATTRS {
                        return Err(self.limit(header, "extended attributes", MAX_XATTRS as u64));
                    }
                }
                b'L' => extensions.gnu_path = Some(pax::long_name(&self.extension(size, header)?)),
                b'K' => extensions.gnu_link = Some(pax::long_name(&self.extension(size, header)?)),
                // Comments for the whole archive and volume labels: as docker does, no entry and no default for any.
                b'g' | b'V' => self.skip_content(size, header)?,
                _ => return self.entry(header, size, extensions).map(Some),
            }
        }
    }

    /// Reads the stream to its end and says how long it was.
    ///
    /// # Errors
    /// [`Error`] when the stream fails or is too long.
    pub fn finish(&mut self) -> Result<u64, Error> {
        self.input.drain()
    }

    /// The next record that is not empty; `None` when the archive ends, by two empty ones or with the stream.
    fn record(&mut self) -> Result<Option<[u8; RECORD]>, Error> {
        let mut record = [0; RECORD];
        for empty_before in [false, true] {
            let offset = self.input.offset();
            let filled = self.input.fill(&mut record)?;
            if filled == 0 {
                return Ok(None);
            }
            if filled < RECORD {
                return Err(Error::Truncated {
                    offset: self.input.offset(),
                    what: String::from("a tar header"),
                });
            }
            if record.iter().any(|&byte| byte != 0) {
                let problem = "it follows an empty record";
                return if empty_before { Err(Error::Header { offset, problem }) } else { Ok(Some(record)) };
            }
        }
        Ok(None)
    }

    fn limit(&self, header: &tar::Header, what: &'static str, limit: u64) -> Error {
        Error::Limit { entry: shown(&header.path_bytes()), what, limit }
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64, header: &tar::Header) -> Result<Vec<u8>, Error> {
        if size > self.limits.header {
            return Err(self.limit(header, "bytes in an extended header", self.limits.header));
        }
        let mut bytes = vec![0; size as usize];
        let what = || format!("the extended header \"{}\"", shown(&header.path_bytes()));
        if self.input.fill(&mut bytes)? < bytes.len() {
            return Err(Error::Truncated { offset: self.input.offset(), what: what() });
        }
        self.input.skip(padding(size), &what)?;
        Ok(bytes)
    }

    fn skip_content(&mut self, size: u64, header: &tar::Header) -> Result<(), Error> {
        let what = || format!("the entry \"{}\"", shown(&header.path_bytes()));
        self.input.skip(size.saturating_add(padding(size)), &what)
    }

    /// Puts together what the header and the extended headers before it say.
    fn entry(&mut self, header: &tar::Header, size: u64, mut extensions: Extensions) -> Result<Entry, Error> {
        let old = header.as_old();
        let path = extensions.sparse.name.take().or(extensions.path.take()).or(extensions.gnu_path.take());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind(old.linkflag[0], &path)?;
        let link = extensions.link.take().or(extensions.gnu_link.take());
        let link =
            link.or_else(|| header.link_name_bytes().map(|link| link.into_owned())).unwrap_or_default();
        let refuse = |problem| Error::Extension { entry: shown(&path), problem };
        let field = |bytes: &[u8]| numbers::field(bytes).ok_or_else(|| refuse("a field that is no number"));
        let owner = |extended: Option<u64>, bytes: &[u8]| -> Result<u32, Error> {
            let id = extended.map_or_else(|| field(bytes).map(u64::try_from), |id| Ok(Ok(id)))?;
            id.ok()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| refuse("an owner that is no 32-bit number"))
        };
        let mtime = extensions.mtime.map_or_else(|| field(&old.mtime).map(|seconds| (seconds, 0)), Ok)?;
        let uid = owner(extensions.uid, &old.uid)?;
        let gid = owner(extensions.gid, &old.gid)?;
        let mode = (field(&old.mode)? & 0o7777) as u16;
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                device(header).ok_or_else(|| refuse("a device out of range"))?
            }
            _ => 0,
        };
        let stored = match kind {
            Kind::File => extensions.size.unwrap_or(size),
            _ => 0,
        };
        self.padding = padding(stored);
        let xattrs = std::mem::take(&mut extensions.xattrs);
        let mut entry =
            Entry { path, kind, link, mode, uid, gid, mtime, device, xattrs, stored, sparse: None };
        if kind == Kind::File {
            self.read_map(header, &extensions, &mut entry)?;
        }
        Ok(entry)
    }

    /// Finds out whether a file is sparse and where its pieces belong.
    fn read_map(
        &mut self,
        header: &tar::Header,
        extensions: &Extensions,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        let sparse = &extensions.sparse;
        let (size, pieces) = if header.as_old().linkflag[0] == b'S' {
            self.gnu_map(header, entry)?
        } else if let Some(size) = sparse.size {
            let pieces =
                if sparse.in_content { Some(self.map_in_content(entry)?) } else { sparse.pieces.clone() };
            let Some(pieces) = pieces else { return Ok(()) };
            (size, pieces)
        } else {
            return Ok(());
        };
        let refuse = |problem| Error::Extension { entry: shown(&entry.path), problem };
        entry.sparse = Some(Map::checked(size, pieces, entry.stored).map_err(refuse)?);
        Ok(())
    }

    /// The map of GNU's old format: four pieces in the header, more in records behind it.
    fn gnu_map(&mut self, header: &tar::Header, entry: &Entry) -> Result<(u64, Vec<Piece>), Error> {
        let refuse = |problem| Error::Extension { entry: shown(&entry.path), problem };
        let number = |bytes: &[u8]| {
            let number = numbers::field(bytes).and_then(|number| u64::try_from(number).ok());
            number.ok_or_else(|| refuse("a number of a sparse file that is none"))
        };
        let gnu = header.as_gnu().ok_or_else(|| refuse("a sparse file outside GNU's format"))?;
        let mut pieces = Vec::new();
        for piece in gnu.sparse.iter().take_while(|piece| piece.offset[0] != 0) {
            pieces.push(Piece { offset: number(&piece.offset)?, length: number(&piece.numbytes)? });
        }
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut record = [0; RECORD];
            if self.input.fill(&mut record)? < RECORD || pieces.len() > MAX_PIECES {
                return Err(refuse("a map of a sparse file without end"));
            }
            for piece in record[..504].chunks_exact(24).take_while(|piece| piece[0] != 0) {
                pieces.push(Piece { offset: number(&piece[..12])?, length: number(&piece[12..])? });
            }
            more = record[504] != 0;
        }
        Ok((number(&gnu.realsize)?, pieces))
    }

    /// The map of pax format 1.0, which takes whole records off the front of the content.
    fn map_in_content(&mut self, entry: &mut Entry) -> Result<Vec<Piece>, Error> {
        let refuse = |problem| Error::Extension { entry: shown(&entry.path), problem };
        let mut parser = MapParser::default();
        let mut left = entry.stored;
        loop {
            let mut record = [0; RECORD];
            left = left
                .checked_sub(RECORD as u64)
                .ok_or_else(|| refuse("a map of a sparse file without end"))?;
            if self.input.fill(&mut record)? < RECORD {
                return Err(refuse("a map of a sparse file without end"));
            }
            if let Some(pieces) = parser.add(&record).map_err(refuse)? {
                entry.stored = left;
                return Ok(pieces);
            }
        }
    }
}

/// Bytes from the end of a content to the next record.
fn padding(size: u64) -> u64 {
    (RECORD as u64 - size % RECORD as u64) % RECORD as u64
}

/// The sum of the header's bytes, its own field counted as blanks; very old archives summed signed bytes.
fn verify_checksum(header: &tar::Header) -> Result<(), &'static str> {
    let blank = 8 * i64::from(b' ');
    let field = &header.as_old().cksum;
    let sum = |signed: bool| {
        let value = |&byte: &u8| if signed { i64::from(byte as i8) } else { i64::from(byte) };
        header.as_bytes().iter().map(value).sum::<i64>() - field.iter().map(value).sum::<i64>() + blank
    };
    let expected = numbers::field(field).ok_or("its checksum is no number")?;
    if expected == sum(false) || expected == sum(true) { Ok(()) } else { Err("its checksum is wrong") }
}

fn kind(flag: u8, path: &[u8]) -> Result<Kind, Error> {
    Ok(match flag {
        // Before POSIX, a directory was a file with a slash at the end.
        b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err(Error::Type { entry: shown(path), kind: char::from(flag) }),
    })
}

fn device(header: &tar::Header) -> Option<u32> {
    // The fields are at the same place in both formats.
    let bytes = header.as_bytes();
    let number = |field: &[u8]| u32::try_from(numbers::field(field)?).ok();
    device_number(number(&bytes[329..337])?, number(&bytes[337..345])?)
}
