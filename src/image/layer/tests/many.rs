//! Archives that never end.

use std::io::Read;

use crate::image::layer::archive::Blobs;
use crate::image::layer::{Error, Limits, ingest_within};

/// Headers of empty files without end; `name` says what each is called.
struct Endless<F> {
    next: u64,
    left: Vec<u8>,
    name: F,
}

impl<F: Fn(u64) -> String> Read for Endless<F> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() {
            let mut header = tar::Header::new_ustar();
            header.set_path((self.name)(self.next)).unwrap();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            self.left = header.as_bytes().to_vec();
            self.next += 1;
        }
        let n = bytes.len().min(self.left.len());
        bytes[..n].copy_from_slice(&self.left[..n]);
        self.left.drain(..n);
        Ok(n)
    }
}

/// New names, the same name again and again, and whiteouts, which leave nothing behind: all take memory while they are read.
#[test]
fn archives_without_end_are_refused() {
    let blobs = Blobs::new();
    let names: [fn(u64) -> String; 3] =
        [|number| format!("d{}/{number}", number / 100), |_| "same".to_owned(), |_| "d/.wh.gone".to_owned()];
    for name in names {
        let limits = Limits { entries: 10_000, ..Limits::default() };
        let error =
            ingest_within(Endless { next: 0, left: Vec::new(), name }, &mut blobs.create("layer"), &limits);
        assert!(matches!(error, Err(Error::Limit { what: "entries", limit: 10_000, .. })), "{error:?}");
    }
}
