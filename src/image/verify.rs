//! Readers that check what passes through them.

use std::io::{self, BufRead, Read};

use super::digest::{Algorithm, Digest, Hasher};

/// Hashes and counts a stream, reports progress, and stops when told to.
pub(super) struct Checked<'a, R> {
    inner: R,
    hasher: Option<Hasher>,
    count: u64,
    limit: u64,
    over_limit: bool,
    failure: Option<io::Error>,
    watch: &'a dyn Fn(u64) -> bool,
}

impl<'a, R: Read> Checked<'a, R> {
    /// Reads `inner` up to `limit` bytes. `watch` gets the count after every read and stops the stream by
    /// returning `false`.
    pub(super) fn new(
        inner: R,
        algorithm: Option<Algorithm>,
        limit: u64,
        watch: &'a dyn Fn(u64) -> bool,
    ) -> Self {
        let hasher = algorithm.map(Hasher::new);
        Self { inner, hasher, count: 0, limit, over_limit: false, failure: None, watch }
    }

    /// Bytes seen.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the stream had more than `limit` bytes.
    pub(super) fn over_limit(&self) -> bool {
        self.over_limit
    }

    /// The first error of the inner reader, if it failed.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The digest of what was seen, if one was asked for.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.hasher.clone().map(Hasher::finish)
    }

    /// Reads to the end.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() || self.over_limit {
            return Err(io::Error::other("the stream ended with an error before"));
        }
        let read = loop {
            match self.inner.read(buffer) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let seen = io::Error::new(error.kind(), error.to_string());
                    self.failure = Some(error);
                    return Err(seen);
                }
            }
        };
        self.count += read as u64;
        if self.count > self.limit {
            self.over_limit = true;
            return Err(io::Error::other("the stream is longer than allowed"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        if read > 0 && !(self.watch)(self.count) {
            self.failure = Some(io::Error::other("stopped"));
            return Err(io::Error::other("stopped"));
        }
        Ok(read)
    }
}

/// Undoes the compression the first bytes announce: gzip, zstd, or none. Media types are not asked, because
/// images exist whose media type lies and every other tool looks at the bytes too.
pub(super) fn decompress<'a, R: BufRead + 'a>(mut input: R) -> io::Result<Box<dyn Read + 'a>> {
    // The first read may return less than the four bytes that decide.
    let mut start = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut start)?;
    let kind = start.clone();
    let whole = io::Cursor::new(start).chain(input);
    Ok(match kind[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufReader, Write};

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(BufReader::new(data))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn knows_every_compression() {
        assert_eq!(inflate(b"plain").unwrap(), b"plain");
        assert_eq!(inflate(b"").unwrap(), b"");
        assert_eq!(inflate(&[gzip(b"one"), gzip(b"two")].concat()).unwrap(), b"onetwo");
        let zstd = |data: &[u8]| zstd::stream::encode_all(data, 1).unwrap();
        assert_eq!(inflate(&[zstd(b"one"), zstd(b"two")].concat()).unwrap(), b"onetwo");
        let whole = gzip(&[7; 10_000]);
        assert!(inflate(&whole[..whole.len() - 9]).is_err(), "a cut stream is an error");
    }

    #[test]
    fn counts_hashes_and_stops() {
        let mut seen = Checked::new(&b"hello"[..], Some(Algorithm::Sha256), 5, &|_| true);
        seen.drain().unwrap();
        assert_eq!((seen.count(), seen.digest().unwrap()), (5, Digest::sha256(b"hello")));
        let mut long = Checked::new(&b"hello!"[..], None, 5, &|_| true);
        assert!(long.drain().is_err() && long.over_limit());
        let mut stopped = Checked::new(&b"hello"[..], None, 5, &|_| false);
        assert!(stopped.drain().is_err() && stopped.take_failure().is_some());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(data: Vec<u8>, magic in 0..3) {
            let start: &[u8] = [&b""[..], &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd]][magic as usize];
            let _ = inflate(&[start, &data].concat());
        }
    }
}
