//! Writing entries: ustar headers, with a pax header before each that says more than ustar can.

use std::io::{self, Write};

use super::header::{Entry, Kind};
use super::input::RECORD;

/// Bytes that a name or link target may have in a plain header.
const PLAIN_NAME: usize = 100;
/// Largest owner in the seven octal digits of a plain header.
const PLAIN_ID: u32 = 0o7_777_777;
/// Largest size in eleven octal digits, and latest time.
const PLAIN_SIZE: u64 = 0o77_777_777_777;

/// Appends the headers of `entry` to `out`, and the map of a sparse file, which comes before its content. The content
/// follows: [`Entry::stored`] bytes and [`padding`].
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let map = entry.sparse.as_ref().map(sparse_map);
    let size = entry.stored + map.as_ref().map_or(0, |map| map.len() as u64);
    let records = records(entry, size);
    if !records.is_empty() {
        let mut header = plain(b'x', b"PaxHeaders/entry", records.len() as u64);
        header.set_mode(0o644);
        put_header(out, header);
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(RECORD), 0);
    }
    let mut header = plain(flag(entry.kind), &entry.path, size);
    header.set_mode(entry.mode.into());
    header.set_uid(entry.uid.min(PLAIN_ID).into());
    header.set_gid(entry.gid.min(PLAIN_ID).into());
    header.set_mtime(u64::try_from(entry.mtime.0).unwrap_or(0).min(PLAIN_SIZE));
    let link = &entry.link[..entry.link.len().min(PLAIN_NAME)];
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    if let (Kind::CharDevice | Kind::BlockDevice, Some(ustar)) = (entry.kind, header.as_ustar_mut()) {
        ustar.set_device_major(major(entry.device));
        ustar.set_device_minor(minor(entry.device));
    }
    put_header(out, header);
    out.extend_from_slice(&map.unwrap_or_default());
}

/// Zeros between the end of a content of `size` bytes and the next record.
pub(super) fn padding(size: u64) -> usize {
    (size.next_multiple_of(RECORD as u64) - size) as usize
}

/// Writes the end of an archive.
pub(super) fn put_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * RECORD])
}

/// The major part of a [`device_number`](super::device_number).
pub(super) fn major(device: u32) -> u32 {
    (device >> 8) & 0xfff
}

/// The minor part of a [`device_number`](super::device_number).
pub(super) fn minor(device: u32) -> u32 {
    (device & 0xff) | (device >> 12 & !0xff)
}

fn plain(flag: u8, path: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let name = &path[..path.len().min(PLAIN_NAME)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [flag];
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // Larger ones stand in the pax header.
    header.set_size(size.min(PLAIN_SIZE));
    header
}

fn put_header(out: &mut Vec<u8>, mut header: tar::Header) {
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// What the plain header cannot say.
fn records(entry: &Entry, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(map) = &entry.sparse {
        put_record(&mut out, b"GNU.sparse.major", b"1");
        put_record(&mut out, b"GNU.sparse.minor", b"0");
        put_record(&mut out, b"GNU.sparse.name", &entry.path);
        put_record(&mut out, b"GNU.sparse.realsize", map.size.to_string().as_bytes());
    }
    if entry.path.len() > PLAIN_NAME {
        put_record(&mut out, b"path", &entry.path);
    }
    if entry.link.len() > PLAIN_NAME {
        put_record(&mut out, b"linkpath", &entry.link);
    }
    if size > PLAIN_SIZE {
        put_record(&mut out, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > PLAIN_ID {
            put_record(&mut out, key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.mtime;
    if nanoseconds != 0 || !(0..=PLAIN_SIZE.cast_signed()).contains(&seconds) {
        put_record(&mut out, b"mtime", decimal_time(entry.mtime).as_bytes());
    }
    for xattr in &entry.xattrs {
        put_record(&mut out, &[b"SCHILY.xattr.", &xattr.name[..]].concat(), &xattr.value);
    }
    out
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself too.
fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(&[b" ", key, b"=", value, b"\n"].concat());
}

fn decimal_time((seconds, nanoseconds): (i64, u32)) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", all.unsigned_abs() / 1_000_000_000, all.unsigned_abs() % 1_000_000_000)
}

/// The pieces, decimal, one number per line, in whole records. A hole at the end is marked by an empty piece behind it, which
/// is how GNU tar learns of it.
fn sparse_map(map: &super::Map) -> Vec<u8> {
    let end = map.pieces.last().map_or(0, |piece| piece.offset + piece.length);
    let hole = (end < map.size).then_some((map.size, 0));
    let pieces = map.pieces.iter().map(|piece| (piece.offset, piece.length)).chain(hole);
    let mut text = format!("{}\n", map.pieces.len() + usize::from(hole.is_some()));
    for (offset, length) in pieces {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
    bytes
}
