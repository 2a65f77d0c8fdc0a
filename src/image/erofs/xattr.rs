//! Extended attributes: the bytes between an inode and what follows it.

use super::format::u32_at;

/// Bytes before the first attribute.
const HEADER: usize = 12;
/// The most bytes an inode's attributes can take: a 16-bit count of 4-byte units.
const MAX_BODY: usize = HEADER + 4 * (u16::MAX as usize - 1);

/// Names are stored as a number for the start and the rest as text. The two ACLs are whole names.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

pub use msb_guest::archive::Xattr;

/// The stored form of a name: number of the prefix and the rest; `None` for a name that Linux does not know on EROFS.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(index, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        let whole = !prefix.ends_with(b".");
        (rest.is_empty() == whole && rest.len() <= 255 && !rest.contains(&0)).then_some((index, rest))
    })
}

/// Whether EROFS can hold an attribute of this name.
pub(crate) fn storable(name: &[u8]) -> bool {
    split(name).is_some()
}

/// The stored form of a file's attributes, in the order given: empty for none, `None` when they are too large or a name
/// is not [`storable`].
pub(crate) fn encode(xattrs: &[Xattr]) -> Option<Vec<u8>> {
    if xattrs.is_empty() {
        return Some(Vec::new());
    }
    let mut body = vec![0; HEADER];
    for Xattr { name, value } in xattrs {
        let (index, rest) = split(name)?;
        body.push(rest.len() as u8);
        body.push(index);
        body.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
        body.extend_from_slice(rest);
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    (body.len() <= MAX_BODY).then_some(body)
}

/// The attributes in a stored form; `None` when it is damaged or uses shared attributes, which our images do not.
pub(super) fn decode(body: &[u8]) -> Option<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    if body.is_empty() {
        return Some(xattrs);
    }
    if body.len() < HEADER || body[4] != 0 {
        return None;
    }
    let mut rest = &body[HEADER..];
    while rest.len() >= 4 {
        let head = u32_at(rest, 0).to_le_bytes();
        let name_end = 4 + usize::from(head[0]);
        let end = name_end + usize::from(u16::from_le_bytes([head[2], head[3]]));
        let &(_, prefix) = PREFIXES.iter().find(|(index, _)| *index == head[1])?;
        let name = [prefix, rest.get(4..name_end)?].concat();
        split(&name)?;
        xattrs.push(Xattr { name, value: rest.get(name_end..end)?.to_vec() });
        rest = rest.get(end.next_multiple_of(4)..)?;
    }
    rest.is_empty().then_some(xattrs)
}
