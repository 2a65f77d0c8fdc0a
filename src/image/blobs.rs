//! Blobs kept as they came, beside the layers made of them: with these an image is saved and pushed with the digests it
//! came with, also when nobody has it any more.
//!
//! A blob that came compressed lies at `blobs/<digest>`, one that came plain at `blobs/<digest>.zst`.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use serde::Deserialize;

use super::digest::Digest;
use super::error::Error;
use super::staging::{Claim, Waiting};
use super::store::Store;

/// Ending of a kept blob that is stored compressed.
pub(super) const SQUEEZED: &str = ".zst";

/// Compression of plain blobs: they are written once and hardly ever read.
const LEVEL: i32 = 3;

/// Which images keep their blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepBlobs {
    /// None; an image that did not come from a registry cannot be saved or pushed.
    Never,
    /// Those that were loaded; what was pulled can be fetched again.
    #[default]
    Loaded,
    /// All, at the price of the disk space.
    Always,
}

/// A blob on its way into the store.
pub(super) struct Keeping {
    claim: Claim,
    /// The first bytes, until there are enough to see whether it is compressed.
    start: Vec<u8>,
    out: Out,
}

enum Out {
    Undecided,
    Plain(File),
    Squeezed(zstd::stream::write::Encoder<'static, File>),
}

impl Keeping {
    /// `None` when the blob is kept already.
    pub(super) fn start(
        store: &Store,
        digest: &Digest,
        started: &dyn Fn(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, Error> {
        let waiting = Waiting { ready: &|| store.has_blob(digest), started, cancelled };
        let claim = store.staging.file(&format!("blob-{}", digest.hex()), &waiting)?;
        Ok(claim.map(|claim| Self { claim, start: Vec::new(), out: Out::Undecided }))
    }

    /// Forgets what came so far.
    pub(super) fn begin_again(&mut self) -> Result<(), Error> {
        self.start.clear();
        self.out = Out::Undecided;
        let path = self.claim.path().to_path_buf();
        let file = self.claim.file();
        file.set_len(0).and_then(|()| file.rewind()).map_err(Error::at("write", &path))
    }

    /// Makes it visible. Only for a blob whose digest is right.
    pub(super) fn publish(mut self, store: &Store, digest: &Digest) -> Result<(), Error> {
        let path = self.claim.path().to_path_buf();
        if matches!(self.out, Out::Undecided) {
            self.decide().map_err(Error::at("write", &path))?;
        }
        let [plain, squeezed] = store.blob_paths(digest);
        let target = match self.out {
            Out::Squeezed(encoder) => {
                encoder.finish().map_err(Error::at("write", &path))?;
                squeezed
            }
            Out::Plain(_) | Out::Undecided => plain,
        };
        self.claim.publish(&target)
    }

    fn decide(&mut self) -> io::Result<()> {
        let mut file = self.claim.file().try_clone()?;
        let start = std::mem::take(&mut self.start);
        let is_compressed = matches!(start[..], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
        self.out = if is_compressed {
            file.write_all(&start)?;
            Out::Plain(file)
        } else {
            let mut encoder = zstd::stream::write::Encoder::new(file, LEVEL)?;
            encoder.write_all(&start)?;
            Out::Squeezed(encoder)
        };
        Ok(())
    }
}

impl Write for Keeping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Plain(file) => file.write_all(bytes)?,
            Out::Squeezed(encoder) => encoder.write_all(bytes)?,
            Out::Undecided => {
                self.start.extend_from_slice(bytes);
                if self.start.len() >= 4 {
                    self.decide()?;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader whose bytes are kept as they pass, if there is something to keep them in.
pub(super) struct Tee<'a, R> {
    pub(super) inner: R,
    pub(super) copy: Option<&'a mut Keeping>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buffer[..read])?;
        }
        Ok(read)
    }
}

impl Store {
    /// Keeps a blob that is in memory and has this digest.
    pub(super) fn keep_blob(&self, digest: &Digest, contents: &[u8]) -> Result<(), Error> {
        let Some(mut keeping) = Keeping::start(self, digest, &|| {}, &|| false)? else { return Ok(()) };
        let path = keeping.claim.path().to_path_buf();
        keeping.write_all(contents).map_err(Error::at("write", &path))?;
        keeping.publish(self, digest)
    }

    /// Whether the blob is kept.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_paths(digest).iter().any(|path| path.is_file())
    }

    /// A kept blob from its first byte, as it came.
    pub(super) fn kept_blob(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let [plain, squeezed] = self.blob_paths(digest);
        for (path, is_squeezed) in [(plain, false), (squeezed, true)] {
            match File::open(&path) {
                Ok(file) if is_squeezed => {
                    let decoder = zstd::stream::read::Decoder::new(file).map_err(Error::at("read", &path))?;
                    return Ok(Some(Box::new(decoder)));
                }
                Ok(file) => return Ok(Some(Box::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path, error)),
            }
        }
        Ok(None)
    }
}
