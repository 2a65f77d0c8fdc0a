//! Extended headers: what POSIX's pax format and GNU's long names say about the next entry.

use super::sparse::PaxSparse;
use super::{Xattr, numbers};

/// What the extended headers before an entry said.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: PaxSparse,
    /// Names from GNU's own long name headers, which count less than the above.
    pub(super) gnu_path: Option<Vec<u8>>,
    pub(super) gnu_link: Option<Vec<u8>>,
}

impl Extensions {
    /// Takes the records of a pax header: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record and VALUE may hold
    /// any byte.
    pub(super) fn add_pax(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        while !records.is_empty() {
            let digits = records.iter().position(|&byte| byte == b' ').filter(|&at| at <= 10);
            let digits = digits.ok_or("a record without a length")?;
            let length = numbers::decimal(&records[..digits]).ok_or("a record without a length")?;
            let length = usize::try_from(length).map_err(|_| "a record that is too long")?;
            let record = records.get(digits + 1..length).ok_or("a record of the wrong length")?;
            let record = record.strip_suffix(b"\n").ok_or("a record of the wrong length")?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or("a record without a value")?;
            self.add_record(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn add_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // An empty value takes back what an earlier header said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let number = |problem| match value {
            [] => Ok(None),
            _ => numbers::decimal(value).map(Some).ok_or(problem),
        };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number("a size that is no number")?,
            b"uid" => self.uid = number("a uid that is no number")?,
            b"gid" => self.gid = number("a gid that is no number")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => {
                self.mtime = Some(numbers::time(value).ok_or("a modification time that is no number")?)
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.add_xattr(name, value);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.add(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// The last value of a name counts.
    fn add_xattr(&mut self, name: &[u8], value: &[u8]) {
        self.xattrs.retain(|xattr| xattr.name != name);
        self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
    }
}

/// A GNU long name: text, NUL-terminated.
pub(super) fn long_name(bytes: &[u8]) -> Vec<u8> {
    bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec()
}
